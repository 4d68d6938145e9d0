create table alembic_version (version_num varchar(32) not null constraint alembic_version_pkc primary key);

-- common/tables.sql
-- The tables both engines share. Everything lives in schema barwright; times are UTC, numbers are exact decimals.

-- The database's own facts, one row: the engine it was built with, a random epoch that changes when an older state
-- comes back (restore, purge), and the counter that numbers revisions in commit order.
create table meta (
    one boolean primary key default true check (one),
    engine text not null check (engine in ('timescaledb', 'postgres')),
    epoch text not null default replace(gen_random_uuid()::text, '-', ''),
    rev bigint not null default 0
);

-- The symbols we hold or want. A well-formed symbol that arrives on a topic registers itself, with no source.
-- seq_rule is what numbers its trades (explicit seq, numeric id, Kafka offset): mixed rules would sort wrongly.
create table symbols (
    symbol text primary key check (symbol ~ '^[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,63}$'),
    source text,
    market text,
    base text,
    quote text,
    history_start timestamptz,
    live boolean not null default false,
    seq_rule text check (seq_rule in ('seq', 'id', 'offset')),
    registered_at timestamptz not null default now()
);

-- How far each level is rolled up. A tick below `sealed` of 1m is late and must be noted; a bucket below `watermark`
-- is closed: rolled up, unchanging but for repairs, and so the only kind that may be cached or called complete.
create table level (
    name text primary key,
    ordinal integer not null unique,
    width interval not null,
    parent text references level (name),
    sealed timestamptz not null,
    watermark timestamptz not null
);

-- The hierarchy: a level is built from its parent, whole buckets only. An empty database is sealed up to now.
insert into level (name, ordinal, width, parent, sealed, watermark)
select name, ordinal, width, parent, date_bin(width, now(), '2000-01-03Z'), date_bin(width, now(), '2000-01-03Z')
from (
    values
    ('1m', 1, interval '1 minute', null),
    ('5m', 2, interval '5 minutes', '1m'),
    ('15m', 3, interval '15 minutes', '5m'),
    ('30m', 4, interval '30 minutes', '15m'),
    ('1h', 5, interval '1 hour', '15m'),
    ('4h', 6, interval '4 hours', '1h'),
    ('1d', 7, interval '1 day', '1h')
) as hierarchy (name, ordinal, width, parent);

-- Kafka positions, written in the transaction that writes the rows: the heart of exactly-once. `generation` fences
-- off a consumer that lost the partition without knowing; `topic_id` tells a topic from its namesake made later.
create table ingest_offset (
    topic text not null,
    partition integer not null,
    topic_id uuid not null,
    next_offset bigint not null,
    generation bigint not null default 0,
    rows bigint not null default 0,
    skipped bigint not null default 0,
    updated_at timestamptz not null default now(),
    primary key (topic, partition)
);

-- Every message, or item of an array, that could not become a row, with its reason and its bytes.
create table dead_letter (
    topic_id uuid not null,
    partition integer not null,
    "offset" bigint not null,
    item integer not null,
    topic text not null,
    received_at timestamptz not null default now(),
    reason text not null,
    raw bytea not null,
    resent_at timestamptz,
    primary key (topic_id, partition, "offset", item)
);
create index on dead_letter (received_at);  -- newest first is how people read them

-- Spans of rows that landed below the seal and are not yet repaired into the bars.
create table late_range (
    id bigint generated always as identity primary key,
    symbol text not null,
    span tstzrange not null,
    noted_at timestamptz not null default now()
);

-- One row for each change of closed bars: the version of cached pages and the log that streams follow.
create table revision (
    rev bigint primary key,
    symbol text not null,
    span tstzrange not null,
    at timestamptz not null default now()
);
create index on revision (symbol, rev);  -- a page asks for the highest revision over its span
create index on revision using gist (span);  -- … also where the symbol has had many
create index on revision (at);  -- the sweep of old ones

-- The one place prices enter: a row is one trade, or one imported 1-minute bar (seq -1; its close and volume stand in
-- price and size). `ticks` is made from this shape by each engine. NaN sorts above every number, so the upper bounds
-- (18 digits before the point) refuse it and Infinity.
create table tick_shape (
    ts timestamptz not null,
    symbol text not null,
    seq bigint not null constraint seq_in_range check (seq >= -1),
    price numeric not null constraint price_in_range check (price > 0 and price < 1e18 and scale(price) <= 18),
    size numeric not null constraint size_in_range check (size >= 0 and size < 1e18 and scale(size) <= 18),
    side "char" constraint side_is_known check (side in ('b', 's')),
    open numeric constraint open_in_range check (open > 0 and open < 1e18 and scale(open) <= 18),
    high numeric constraint high_in_range check (high > 0 and high < 1e18 and scale(high) <= 18),
    low numeric constraint low_in_range check (low > 0 and low < 1e18 and scale(low) <= 18),
    quote numeric constraint quote_in_range check (quote >= 0 and quote < 1e18 and scale(quote) <= 18),
    trades integer constraint trades_in_range check (trades >= 0),
    constraint bar_is_whole check (
        case when seq = -1
        then num_nulls(open, high, low) = 0 and high >= greatest(open, price) and low <= least(open, price)
             and side is null and ts = date_bin('1 minute', ts, '2000-01-03Z')
        else num_nonnulls(open, high, low, quote, trades) = 0 end
    )
);

-- common/functions.sql
-- What both engines do the same way. Functions that take locks or write pin their search path.

-- Volume-weighted average price: quote / base volume, rounded half up to 12 places, null at volume 0. div() is exact,
-- so nothing is rounded twice. (No pinned search path: the planner must be able to inline it.)
create function vwap(quote_volume numeric, volume numeric) returns numeric
language sql immutable parallel safe
return div(quote_volume * 2000000000000 + volume, nullif(volume, 0) * 2) * 0.000000000001;

-- Taken in a statement of its own, before the seal is read, by every transaction that inserts ticks: the seal cannot
-- move while it is open. Read in the same statement, the seal would be the one from before the wait.
create function hold_seal() returns void
language sql set search_path = barwright, pg_temp
begin atomic
    select pg_advisory_xact_lock_shared(hashtextextended('barwright.seal', 0));
end;

-- Seal every level up to `until`, whole buckets only, never backwards. Waits for open ingest transactions, so the
-- caller sets lock_timeout: a waiting seal stops all ingest behind it.
create function move_seal(until timestamptz) returns timestamptz
language plpgsql set search_path = barwright, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('barwright.seal', 0));
    update level set sealed = greatest(sealed, date_bin(width, until, '2000-01-03Z'));
    return (select sealed from level where name = '1m');
end
$$;

-- Held by whoever rolls up, repairs or audits, on the connection that writes: a second one with an older snapshot
-- would overwrite a repair for good.
create function hold_maintenance() returns void
language sql set search_path = barwright, pg_temp
begin atomic
    select pg_advisory_xact_lock(hashtextextended('barwright.maintenance', 0));
end;

-- Record that closed bars of these symbols changed in these spans (arrays of one length). One counter row, updated in
-- the same transaction, makes commit order the order of revisions. Returns the last one.
create function revise(symbols text[], spans tstzrange[]) returns bigint
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    last bigint;
begin
    update meta set rev = rev + cardinality(symbols) returning rev into last;
    insert into revision (rev, symbol, span)
    select last - cardinality(symbols) + n, symbol, span
    from unnest(symbols, spans) with ordinality as change (symbol, span, n);
    return last;
end
$$;

-- Delete the late ranges that have been repaired into the bars and write their revisions, merged by symbol.
create function finish_repair(ids bigint[]) returns bigint
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    last bigint;
begin
    with done as (
        delete from late_range where id = any(ids) returning symbol, span
    ), merged as (
        select symbol, unnest(range_agg(span)) as span from done group by symbol
    )
    select revise(array_agg(symbol order by symbol, span), array_agg(span order by symbol, span)) into last
    from merged having count(*) > 0;
    return last;
end
$$;

-- How far a level is rolled up; a week or a month is closed by the day.
create function watermark(level_name text) returns timestamptz
language sql stable set search_path = barwright, pg_temp
begin atomic
    select level.watermark from level where name = case when level_name in ('1w', '1mo') then '1d' else level_name end;
end;

-- timescaledb/ticks.sql
-- Engine timescaledb: ticks in a hypertable, one chunk a day.
create table ticks (like tick_shape including all);
select create_hypertable('ticks', by_range('ts', interval '1 day'), create_default_indexes => false);
create unique index ticks_key on ticks (symbol, ts, seq);
drop table tick_shape;

-- Nothing to prepare: the hypertable makes its chunks itself.
create function prepare_ticks(times timestamptz[]) returns void
language sql set search_path = barwright, pg_temp
begin atomic
end;

-- The extension's own watermark of a level, where its materialised part ends and the live part begins. It stops at the
-- last bucket with data, and a policy can move it without our knowledge.
create function materialized_until(level_name text) returns timestamptz
language sql stable set search_path = barwright, pg_temp
return (
    select _timescaledb_functions.to_timestamp(w.watermark)
    from _timescaledb_catalog.continuous_agg as c
    join _timescaledb_catalog.continuous_aggs_watermark as w using (mat_hypertable_id)
    where c.user_view_schema = 'barwright' and c.user_view_name = 'ohlcv_' || level_name
);

-- Ticks below this time are late: the aggregates may already have passed them, by our refresh or by a policy's.
create function late_below() returns timestamptz
language sql stable set search_path = barwright, pg_temp
return greatest((select sealed from level where name = '1m'), materialized_until('1m'));

-- timescaledb/levels.sql
-- Engine timescaledb: each level is a continuous aggregate on the one below it, with real-time aggregation stated (it
-- is off by default since 2.13). `with no data`: a refresh may not run in a migration's transaction, and an open-ended
-- one would push the extension's watermark past the open bucket and hide the live tail.

-- An imported bar (seq -1) stands in for the trades of its minute; open and close are the first and last by seq.
create materialized view ohlcv_1m with (timescaledb.continuous, timescaledb.materialized_only = false) as
select
    symbol,
    time_bucket('1 minute', ts) as bucket,
    coalesce(first(open, seq) filter (where seq = -1), first(price, seq)) as open,
    coalesce(max(high) filter (where seq = -1), max(price)) as high,
    coalesce(min(low) filter (where seq = -1), min(price)) as low,
    coalesce(last(price, seq) filter (where seq = -1), last(price, seq)) as close,
    coalesce(sum(size) filter (where seq = -1), sum(size)) as volume,
    case when bool_or(seq = -1) then sum(quote) filter (where seq = -1) else sum(price * size) end as quote_volume,
    vwap(case when bool_or(seq = -1) then sum(quote) filter (where seq = -1) else sum(price * size) end,
         coalesce(sum(size) filter (where seq = -1), sum(size))) as vwap,
    case when bool_or(seq = -1) then (sum(trades) filter (where seq = -1))::bigint else count(*) end as trades,
    case when not bool_or(seq = -1) and count(side) = count(*)
         then coalesce(sum(size) filter (where side = 'b'), 0) end as buy_volume,
    bool_or(seq = -1) as imported
from ticks
group by 1, 2
with no data;

-- Each higher level from its parent. Sums that not every part tells are null: a partial sum would lie.
do $$
declare
    l level;
begin
    for l in select * from level where parent is not null order by ordinal loop
        execute format($level$
            create materialized view ohlcv_%s with (timescaledb.continuous, timescaledb.materialized_only = false) as
            select
                symbol,
                time_bucket(%L::interval, bucket) as bucket,
                first(open, bucket) as open,
                max(high) as high,
                min(low) as low,
                last(close, bucket) as close,
                sum(volume) as volume,
                case when count(quote_volume) = count(*) then sum(quote_volume) end as quote_volume,
                vwap(case when count(quote_volume) = count(*) then sum(quote_volume) end, sum(volume)) as vwap,
                case when count(trades) = count(*) then sum(trades)::bigint end as trades,
                case when count(buy_volume) = count(*) then sum(buy_volume) end as buy_volume,
                bool_or(imported) as imported
            from ohlcv_%s
            group by 1, 2
            with no data
        $level$, l.name, l.width, l.parent);
    end loop;
end
$$;

-- common/calendar.sql
-- Weeks (from Monday) and months as plain views over the days, the open one included: a month is 31 rows, so it never
-- has to be refreshed. Sums that not every day tells are null.
do $$
declare
    name text;
    bucket text;
begin
    for name, bucket in
        values ('1w', 'date_bin(''7 days'', day.bucket, ''2000-01-03Z'')'), ('1mo', 'date_trunc(''month'', day.bucket, ''UTC'')')
    loop
        execute format($view$
            create view ohlcv_%s as
            select
                symbol,
                %s as bucket,
                (array_agg(open order by day.bucket))[1] as open,
                max(high) as high,
                min(low) as low,
                (array_agg(close order by day.bucket desc))[1] as close,
                sum(volume) as volume,
                case when count(quote_volume) = count(*) then sum(quote_volume) end as quote_volume,
                vwap(case when count(quote_volume) = count(*) then sum(quote_volume) end, sum(volume)) as vwap,
                case when count(trades) = count(*) then sum(trades)::bigint end as trades,
                case when count(buy_volume) = count(*) then sum(buy_volume) end as buy_volume,
                bool_or(imported) as imported
            from ohlcv_1d as day
            group by 1, 2
        $view$, name, bucket);
    end loop;
end
$$;

-- common/comments.sql
-- What \d+ and \dv+ in psql, and database browsers, show of the objects that people meet.
do $$
declare
    name text;
begin
    for name in select l.name from level as l union all values ('1w'), ('1mo') loop
        execute format('comment on view ohlcv_%s is %L', name, format(
            'Bars of %s: start of the bucket in UTC, exact decimals, the open bar included, no row where there was no '
            'trade. Ask by symbol and a range of bucket.', name));
    end loop;
end
$$;

comment on table ticks is 'Trades, and imported 1-minute bars (seq -1): the one place prices enter.';
comment on table symbols is 'The symbols we hold or want; one that arrives on a topic registers itself.';
comment on table level is 'How far each level is sealed and rolled up: buckets below watermark are closed.';
comment on table ingest_offset is 'Kafka positions, written in the transaction that writes the rows.';
comment on table dead_letter is 'Messages that could not become rows, with reason and bytes.';
comment on table late_range is 'Spans of rows that landed below the seal and await repair.';
comment on table revision is 'Changes of closed bars, in commit order.';
comment on table meta is 'Engine, epoch and the revision counter: one row.';

-- timescaledb/policies.sql
-- A floor for the day maintain is dead: every hour refresh what is older than an hour. While maintain lives these find
-- nothing to do. Oldest first and in large batches: the default (newest first, 10 buckets) hides visible bars meanwhile.
do $$
declare
    l level;
begin
    for l in select * from level order by ordinal loop
        perform add_continuous_aggregate_policy(
            ('barwright.ohlcv_' || l.name)::regclass, start_offset => interval '30 days', end_offset => interval '1 hour',
            schedule_interval => interval '1 hour', buckets_per_batch => 240, refresh_newest_first => false
        );
    end loop;
end
$$;
