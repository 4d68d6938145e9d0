-- followed: the symbols that a feed of these sources (patterns of LIKE) follows live; registered_at tells a symbol from one purged and made again
select symbol, source, market, registered_at from symbols
where live and stopped_at is null and source like any(%(sources)s) order by symbol;

-- givers: the sources among these (patterns of LIKE) that symbols have their history from
select distinct history_source from symbols where history_source like any(%(sources)s) and stopped_at is null order by 1;

-- claim: take the most urgent task
select id, symbol, source, market, "interval", lower(span), upper(span), attempt from claim_task(%(sources)s, %(owner)s, %(lease)s);

-- renew: keep a claim
select renew_task(%(id)s, %(attempt)s, %(lease)s);

-- advance: a claimed task goes on
select advance_task(%(id)s, %(attempt)s, %(status)s, %(deadline)s);

-- fail: a claimed task failed and is queued again after a pause
select fail_task(%(id)s, %(attempt)s, %(error)s, %(pause)s);

-- coarsen: the source has nothing this fine before a time
select coarsen(%(id)s, %(attempt)s, %(reach)s);

-- quiet_topics: dynamic topics with a stored position whose symbol has no open task and that brought nothing for a while
select o.topic, o.topic_id, o.next_offset from ingest_offset as o
where o.topic = any(%(topics)s) and o.partition = 0 and o.updated_at < now() - %(quiet)s
and not exists (
    select from backfill_task as t join unnest(%(topics)s::text[], %(symbols)s::text[]) as named (topic, symbol)
    on named.symbol = t.symbol where named.topic = o.topic and t.status not in ('landed', 'cancelled')
);

-- tidy: whether this transaction may delete topics; another feed does where not
select pg_try_advisory_xact_lock(hashtextextended('barwright.topics', 0));

-- hold: until the end of the transaction nobody files a task for a symbol
select hold_symbol(%(symbol)s);

-- forget_topic: the position in a topic that is gone
delete from ingest_offset where topic = %(topic)s and topic_id = %(topic_id)s;
