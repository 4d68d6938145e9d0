-- engine: which engine this database was built with, TimescaleDB's version where there is one, and whether it is Citus
select engine, (select extversion from pg_extension where extname = 'timescaledb'), to_regclass('pg_dist_node') is not null
from meta;

-- raise_decompression_limit: let this session change any number of compressed rows
select set_config(name, '0', false)
from pg_settings where name = 'timescaledb.max_tuples_decompressed_per_dml_transaction';

-- levels: every level with its width and parent, bottom up, and from where on it can be computed (null: all of it)
select name, width, parent, sealed, watermark, computable_from(name) from level order by ordinal;

-- lock_timeout: how long a seal may wait for open ingest transactions before it lets them pass and tries again
set local lock_timeout = '200ms';

-- move_seal: seal every level up to the database's clock less a lag
select move_seal(clock_timestamp() - %(lag)s);

-- advance: roll one level up by one step (engine postgres); true while more is left
select advance(%(level)s);

-- repair: compute every bar again that late ranges touch, coarse days too (engine postgres)
select repair_history();

-- settle: wait until what is decided is finished on every worker (Citus)
select settle();

-- begin_repair: change the bars that late ranges touch, and return these; finish_repaired ends them (Citus)
select begin_repair();

-- finish_repaired: delete these late ranges and write their revisions (Citus)
select finish_repair(%(ids)s);

-- lock_maintenance: hold the maintenance lock for this session (a TimescaleDB refresh runs outside transactions)
select pg_advisory_lock(hashtextextended('barwright.maintenance', 0));

-- unlock_maintenance: and let it go
select pg_advisory_unlock(hashtextextended('barwright.maintenance', 0));

-- goals: per level, its watermark and how far it can be refreshed: its seal and whole buckets of its parent's watermark
select l.name, l.width, greatest(l.watermark, computable_from(l.name)), least(l.sealed, date_bin(l.width, min(p.watermark), '2000-01-03Z')) as goal
from level as l left join level as p on p.name = l.parent
where l.name = %(level)s group by l.name;

-- refresh: materialise a level between two bucket starts (engine timescaledb, extension 2.28 or newer)
call refresh_continuous_aggregate(
    %(view)s, %(lo)s::timestamptz, %(hi)s::timestamptz, force => %(force)s, options => %(options)s
);

-- refresh_old: the same where a manual refresh takes no options and is one batch
call refresh_continuous_aggregate(%(view)s, %(lo)s::timestamptz, %(hi)s::timestamptz, force => %(force)s);

-- forget_purged: delete bars of purged symbols that no repair reaches (engine timescaledb)
select forget_purged();

-- move_watermark: a level is rolled up to here; never backwards
update level set watermark = greatest(watermark, %(watermark)s) where name = %(level)s;

-- overtaken: note that a policy refreshed past our seal while no maintain ran: what lies between is repaired and revised
insert into late_range (symbol, span)
select symbol, tstzrange((select sealed from level where name = '1m'), materialized_until('1m'))
from symbols
where materialized_until('1m') > (select sealed from level where name = '1m');

-- late_spans: some of what awaits repair, merged over symbols with holes below an hour closed, with the ranges it answers
-- for; forced ones by themselves: there the engine must not trust that nothing has changed. Late ticks go before imports
-- (a symbol's day costs all symbols' day to refresh: 10 us a bar), the newest day before older ones, one at a time.
with first as (
    select upper(span) - lower(span) > interval '1 hour' as long, day_floor(upper(span) - interval '1 microsecond') as day
    from late_range order by 1, 2 desc limit 1
), late as (
    select id, span, forced from late_range, first
    where (upper(span) - lower(span) > interval '1 hour') = long and upper(span) > day
    order by id
), merged as (
    select forced, unnest(range_agg(tstzrange(lower(span), upper(span) + interval '1 hour'))) as span from late group by forced
), spans as (
    select forced, array_agg(tstzrange(lower(span), upper(span) - interval '1 hour') order by span) as spans
    from merged group by forced
)
select (select array_agg(id) from late),
       (select spans from spans where not forced),
       (select spans from spans where forced);

-- finish_repair: delete these late ranges, write their revisions, let coarse bars make way for settled days
select finish_history(%(ids)s);

-- lead: become the one active maintain; held by the session, so a dead one frees it
select pg_try_advisory_lock(hashtextextended('barwright.leader', 0));

-- forget_revisions: drop revisions older than anything that may still be cached under them
delete from revision where at < now() - %(age)s;

-- wanted: symbols that miss something nobody was asked for yet, found at once (one by one, 10,000 took 5 s); file_tasks then
-- looks closely. Not those that have all the open tasks it lets a symbol have.
with asked as (
    select symbol, range_agg(span) as spans, count(*) as tasks
    from backfill_task where status not in ('landed', 'cancelled') group by symbol
)
select distinct symbol from gaps left join asked using (symbol)
where (spans @> span) is not true and coalesce(tasks < 64, true)
order by symbol;

-- file_tasks: ask for what is missing of these symbols
select coalesce(sum(file_tasks(symbol)), 0) from unnest(%(symbols)s::text[]) as symbol;

-- file_corrections: ask again for what a vendor may have corrected
select file_corrections(%(every)s);

-- finish_tasks: tasks whose bars are repaired have landed; findings whose bars are repaired are marked
select finish_tasks(), finish_findings();

-- forget_tasks: drop tasks that ended long ago, and states of processes that are gone
with old as (
    delete from backfill_task where status = 'landed' and landed_at < now() - %(age)s
    or status = 'cancelled' and filed_at < now() - %(age)s
)
delete from actor where at < now() - interval '1 minute';

-- fold_sessions: what connections that ended proved of the same symbols becomes one row; no mark fits its number
with groups as (
    select topic, partition, source, symbols from live_session
    where seen_at < now() - interval '1 hour' group by 1, 2, 3, 4 having count(*) > 1
), ended as (
    delete from live_session as s using groups as g
    where (s.topic, s.partition, s.source, s.symbols) = (g.topic, g.partition, g.source, g.symbols)
    and s.seen_at < now() - interval '1 hour'
    returning s.*
)
insert into live_session (session, topic, partition, topic_id, source, symbols, covered, until, n, seen_at)
select 'folded-' || gen_random_uuid(), topic, partition, (array_agg(topic_id))[1], source, symbols, range_agg(covered),
       max(until), -1, max(seen_at)
from ended group by topic, partition, source, symbols;

-- audit: look at one closed bucket chosen by chance; null where it could not be judged
select s.symbol, s."interval", s.bucket, audit_bucket(s.symbol, s."interval", s.bucket) from audit_sample(%(symbol)s) as s;
