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
