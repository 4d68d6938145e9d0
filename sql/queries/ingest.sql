-- raise_decompression_limit: let imports of a day into a compressed chunk pass (else 53400, for ever); a no-op elsewhere
select set_config(name, '0', false)
from pg_settings where name = 'timescaledb.max_tuples_decompressed_per_dml_transaction';

-- engine: which engine this database was built with, and its clock
select engine, extract(epoch from clock_timestamp())::float8 from meta;

-- clock: the database's time, which is "now" everywhere
select extract(epoch from clock_timestamp())::float8;

-- claim: take a partition over: fence off who had it, and say where to read on (0 where another topic bore the name)
insert into ingest_offset as held (topic, partition, topic_id, next_offset, generation)
values (%(topic)s, %(partition)s, %(topic_id)s, 0, 1)
on conflict (topic, partition) do update
set generation = held.generation + 1,
    topic_id = excluded.topic_id,
    next_offset = case when held.topic_id = excluded.topic_id then held.next_offset else 0 end,
    updated_at = now()
returning next_offset, generation;

-- claim_patience: how long a claim waits for who holds the partition; 10,000 trades are landed in 50 ms
set lock_timeout = '2s';

-- end_holders: end connections of other processes of ingest that hold these positions (xmax is who locked the row); seen
-- only where they are of the same database user. Those of this process (`own`) live, and are waited for. Returns the
-- process ids.
with holders as materialized (  -- a scan of all connections would else end each that it meets
    select distinct pid
    from ingest_offset as held
    join unnest(%(topics)s::text[], %(partitions)s::integer[]) as mine (topic, partition) using (topic, partition)
    join pg_stat_activity as holder on holder.backend_xid = held.xmax and holder.datname = current_database()
    where holder.application_name = current_setting('application_name') and pid <> all(%(own)s::integer[])
)
select pid from holders where pg_terminate_backend(pid);

-- move_position: set a claimed position that lies outside the log; what was never read is counted as skipped, and
-- ends what live sessions prove there until their next marks
with moved as (
    update ingest_offset
    set skipped = skipped + greatest(%(position)s - next_offset, 0) * %(counts)s::integer, next_offset = %(position)s,
        updated_at = now()
    where topic = %(topic)s and partition = %(partition)s and generation = %(generation)s
    returning topic, partition
)
update live_session as s set n = -1
from moved where s.topic = moved.topic and s.partition = moved.partition and %(counts)s = 1;

-- renew_epoch: an older state of the database has come back
select renew_epoch();

-- positions: where these partitions stand, in whose hands
select topic, partition, topic_id, generation, next_offset
from ingest_offset join unnest(%(topics)s::text[], %(partitions)s::integer[]) as mine (topic, partition)
using (topic, partition);

-- begin: every ingest transaction; REPEATABLE READ would see the seal from before the wait
begin isolation level read committed;

-- lock_positions: the same as positions, held until the transaction ends; always in this order
select topic, partition, topic_id, generation, next_offset
from ingest_offset
where (topic, partition) in (select * from unnest(%(topics)s::text[], %(partitions)s::integer[]))
order by topic, partition
for update;

-- lock_tasks: the backfill tasks a batch brings something for, held until the transaction ends; minutes counted from 1970,
-- and those that must be left alone, as text and as bounds
select id, symbol, "interval", (extract(epoch from lower(span)) / 60)::bigint, (extract(epoch from upper(span)) / 60)::bigint,
       attempt, kept::text,
       array(select (extract(epoch from lower(part)) / 60)::bigint from unnest(kept) as part),
       array(select (extract(epoch from upper(part)) / 60)::bigint from unnest(kept) as part)
from lock_tasks(%(ids)s::bigint[]);

-- kept_live: the same for imports that have no task, in their order
select null, symbol, "interval", lo, hi, 1, kept::text,
       array(select (extract(epoch from lower(part)) / 60)::bigint from unnest(kept) as part),
       array(select (extract(epoch from upper(part)) / 60)::bigint from unnest(kept) as part)
from unnest(%(symbols)s::text[], %(intervals)s::text[], %(los)s::bigint[], %(his)s::bigint[])
    with ordinality as asked (symbol, "interval", lo, hi, n)
cross join lateral (select
    case "interval" when '1m' then kept_live(symbol, tstzrange(to_timestamp(lo * 60), to_timestamp(hi * 60))) else '{}' end as kept
) as live
order by n;

-- has_bars: whether there are imported bars already, for each of these spans, minutes counted from 1970
select array(
    select has_bars(symbol, to_timestamp(lo * 60), to_timestamp(hi * 60))
    from unnest(%(symbols)s::text[], %(los)s::bigint[], %(his)s::bigint[]) with ordinality as asked (symbol, lo, hi, n)
    order by n
);

-- hold_seal: keep the seal where it is until the transaction ends; a statement of its own, before late_below
select hold_seal();

-- late_below: the minute, counted from 1970, below which rows are late
select (extract(epoch from late_below()) / 60)::bigint;

-- copy_trades: trades as COPY text
copy ticks (ts, symbol, seq, price, size, side) from stdin;

-- copy_bars: imported bars as COPY text
copy ticks (ts, symbol, seq, price, size, side, open, high, low, quote, trades) from stdin;

-- note_letters: keep what became no row
insert into dead_letter (topic_id, partition, "offset", item, topic, reason, raw)
select * from unnest(
    %(topic_ids)s::uuid[], %(partitions)s::integer[], %(offsets)s::bigint[], %(items)s::integer[], %(topics)s::text[],
    %(reasons)s::text[], %(raws)s::bytea[]
)
on conflict do nothing;

-- note_late: note spans of rows that landed below the seal
insert into late_range (symbol, span)
select symbol, tstzrange(lo, hi)
from unnest(%(symbols)s::text[], %(los)s::timestamptz[], %(his)s::timestamptz[]) as late (symbol, lo, hi);

-- cut: take minutes, counted from 1970, out of live coverage
select cut(
    %(symbols)s::text[], array(select to_timestamp(n * 60) from unnest(%(minutes)s::bigint[]) with ordinality as m (n, i) order by i)
);

-- land_session: what a live session sent, and its marks
select land_session(%(session)s, %(topic)s, %(partition)s, %(topic_id)s, %(marks)s::jsonb, %(rest)s);

-- land_import: what the bars of a record prove; bars and refused are minutes counted from 1970
select land_import(
    %(task)s, %(attempt)s, %(symbol)s, %(interval)s, %(source)s, tstzrange(%(lo)s, %(hi)s),
    array(select to_timestamp(n * 60) from unnest(%(bars)s::bigint[]) as n), %(kept)s::tstzmultirange,
    array(select to_timestamp(n * 60) from unnest(%(refused)s::bigint[]) as n), %(final)s, %(fresh)s
);

-- land_coarse: hours or days, in columns
select land_coarse(
    %(task)s, %(attempt)s, %(symbol)s, %(interval)s, %(source)s, tstzrange(%(lo)s, %(hi)s), %(buckets)s::timestamptz[],
    %(opens)s::text[]::numeric[], %(highs)s::text[]::numeric[], %(lows)s::text[]::numeric[], %(closes)s::text[]::numeric[],
    %(volumes)s::text[]::numeric[], %(quotes)s::text[]::numeric[], %(counts)s::bigint[], %(final)s
);

-- advance_positions: move positions on, each only from where this batch began
update ingest_offset as held
set next_offset = moved.next_offset, rows = held.rows + moved.rows, updated_at = now()
from unnest(
    %(topics)s::text[], %(partitions)s::integer[], %(generations)s::bigint[], %(begins)s::bigint[], %(ends)s::bigint[],
    %(rows)s::bigint[]
) as moved (topic, partition, generation, begin_offset, next_offset, rows)
where held.topic = moved.topic and held.partition = moved.partition
and held.generation = moved.generation and held.next_offset = moved.begin_offset;

-- commit: the end of every ingest transaction
commit;

-- incoming: where a batch with duplicates is laid out first; n is the order of arrival
create temporary table if not exists incoming (
    n bigint generated always as identity, ts timestamptz, symbol text, seq bigint, price numeric, size numeric,
    side "char", open numeric, high numeric, low numeric, quote numeric, trades integer
) on commit delete rows;

-- empty_incoming: before another part of the same transaction
delete from incoming;

-- copy_incoming_trades: as copy_trades
copy incoming (ts, symbol, seq, price, size, side) from stdin;

-- copy_incoming_bars: as copy_bars
copy incoming (ts, symbol, seq, price, size, side, open, high, low, quote, trades) from stdin;

-- merge_trades: insert the trades that are new, the last of equal keys; sorted, so that two writers cannot deadlock.
-- Returns how many and the minutes, counted from 1970, that they touch.
with landed as (
    insert into ticks (ts, symbol, seq, price, size, side)
    select distinct on (symbol, ts, seq) ts, symbol, seq, price, size, side
    from incoming where seq >= 0 order by symbol, ts, seq, n desc
    on conflict (symbol, ts, seq) do nothing
    returning symbol, ts
)
select symbol, floor(extract(epoch from ts) / 60)::bigint, count(*) from landed group by 1, 2;

-- merge_bars: insert imported bars and replace those that differ; else as merge_trades
with landed as (
    insert into ticks (ts, symbol, seq, price, size, side, open, high, low, quote, trades)
    select distinct on (symbol, ts) ts, symbol, seq, price, size, side, open, high, low, quote, trades
    from incoming where seq = -1 order by symbol, ts, n desc
    on conflict (symbol, ts, seq) do update
    set price = excluded.price, size = excluded.size, open = excluded.open, high = excluded.high, low = excluded.low,
        quote = excluded.quote, trades = excluded.trades
    where (ticks.price, ticks.size, ticks.open, ticks.high, ticks.low, ticks.quote, ticks.trades)
        is distinct from (excluded.price, excluded.size, excluded.open, excluded.high, excluded.low, excluded.quote,
                          excluded.trades)
    returning symbol, ts
)
select symbol, floor(extract(epoch from ts) / 60)::bigint, count(*) from landed group by 1, 2;

-- prepare_ticks: make room for ticks at these times, in a transaction of its own
select prepare_ticks(%(times)s::timestamptz[]);

-- known_symbols: every symbol with the rule that numbers its trades
select symbol, seq_rule from symbols;

-- register: add symbols that are new, or learn what numbers them; returns the rules that hold
insert into symbols (symbol, seq_rule)
select symbol, rule from unnest(%(symbols)s::text[], %(rules)s::text[]) as new (symbol, rule) order by symbol
on conflict (symbol) do update set seq_rule = coalesce(symbols.seq_rule, excluded.seq_rule)
returning symbol, seq_rule;

-- letters: dead letters whose reason contains a text, newest first
select topic_id, topic, partition, "offset", item, received_at, reason, raw, resent_at
from dead_letter
where strpos(lower(reason), lower(%(reason)s)) > 0 and topic = coalesce(%(topic)s, topic)
and (%(again)s or resent_at is null)
order by received_at desc, topic, partition, "offset" desc, item desc
limit %(limit)s;

-- resent: note that a dead letter was sent again
update dead_letter set resent_at = now()
where topic_id = %(topic_id)s and partition = %(partition)s and "offset" = %(offset)s and item = %(item)s;
