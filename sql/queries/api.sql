-- position: which server this is (its start), whether it is a standby, and up to where its log was written or replayed
-- after the snapshot was taken. The next byte to write lies behind a page's header (24 bytes, 40 where a segment begins),
-- to which nothing is replayed before something follows
select
    start,
    standby,
    position - case
        when standby then 0
        when position % 8192 = 24 then 24
        when position % pg_size_bytes(current_setting('wal_segment_size')) = 40 then 40
        else 0
    end as position
from (
    select
        extract(epoch from pg_postmaster_start_time())::float8 as start,
        pg_is_in_recovery() as standby,
        ((case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end)
            - '0/0'::pg_lsn)::bigint as position
) as server;

-- epoch: which Barwright's database this is; a standby shows the same, and another's does not
select epoch from barwright.meta;

-- look: what the caches must know: epoch, revision, the database's clock, watermarks, and revisions newer than one seen
select
    epoch,
    rev,
    extract(epoch from clock_timestamp())::float8,
    (select jsonb_object_agg(name, extract(epoch from watermark)::bigint) from level),
    case when rev > %(seen)s then (
        select jsonb_agg(jsonb_build_array(
            news.rev, symbol,
            floor(extract(epoch from greatest(lower(span), '0001-01-01Z')))::bigint,
            ceil(extract(epoch from least(upper(span), '9999-12-31Z')))::bigint
        ) order by news.rev)
        from (select * from revision where revision.rev > %(seen)s limit 10000) as news
    ) end
from meta;

-- plan_each: on Citus a plan depends on the symbol, which says what worker to ask; a no-op elsewhere
select set_config('plan_cache_mode', 'force_custom_plan', false) where to_regclass('pg_dist_node') is not null;

-- symbol_state: whether a symbol exists
select exists (select from symbols where symbol = %(symbol)s);

-- coverage: what is known of a symbol's coverage, in microseconds: since when and up to when history is wanted, the
-- grace, whether what is missing is a gap, whether it is registered; what minutes, hours and days prove, what awaits
-- repair, its open tasks, the most urgent 200, and below when bars of a level were dropped
with everything as (
    select '[0001-01-01Z,9999-12-31Z)'::tstzrange as span
), imported as (
    select
        coalesce(range_agg(span) filter (where "interval" = '1m'), '{}') as minutes,
        coalesce(range_agg(span) filter (where "interval" = '1h'), '{}') as hours,
        coalesce(range_agg(span) filter (where "interval" = '1d'), '{}') as days
    from imported_span where symbol = %(symbol)s
), proved as materialized (
    select covered_live(%(symbol)s, span) + minutes as minutes, hours, days from everything cross join imported
)
select
    (extract(epoch from history_start) * 1000000)::bigint,
    (extract(epoch from history_end) * 1000000)::bigint,
    (extract(epoch from grace) * 1000000)::bigint,
    history_source is not null and stopped_at is null,
    source is not null,
    (
        select jsonb_object_agg(name, (
            select jsonb_agg(jsonb_build_array(
                (extract(epoch from lower(span)) * 1000000)::bigint, (extract(epoch from upper(span)) * 1000000)::bigint
            ) order by span)
            from unnest(spans) as span
        ))
        from proved cross join lateral (
            values ('1m', minutes), ('1h', minutes + hours), ('1d', minutes + hours + days)
        ) as level (name, spans)
    ),
    (
        select jsonb_agg(jsonb_build_array(
            (extract(epoch from lower(late)) * 1000000)::bigint, (extract(epoch from upper(late)) * 1000000)::bigint
        ) order by late)
        from (
            select unnest(range_agg(late_range.span * everything.span)) as late
            from late_range cross join everything where symbol = %(symbol)s
        ) as awaiting
    ),
    (
        select jsonb_agg(jsonb_build_array(
            id, (extract(epoch from lower(span)) * 1000000)::bigint, (extract(epoch from upper(span)) * 1000000)::bigint,
            status, attempt, error
        ) order by priority desc, upper(span) desc, id)
        from (
            select * from backfill_task
            where symbol = %(symbol)s and status not in ('landed', 'cancelled')
            order by priority desc, upper(span) desc, id limit 200
        ) as task
    ),
    (select jsonb_object_agg(name, (extract(epoch from since) * 1000000)::bigint) from policy where since is not null)
from symbols where symbol = %(symbol)s;

-- page_state: whether a symbol exists, and for each of some spans its highest revision and whether late rows touch it
select
    exists (select from symbols where symbol = %(symbol)s),
    array_agg(coalesce(rev, 0) order by n),
    array_agg(exists (select from late_range where symbol = %(symbol)s and late_range.span && page.span) order by n)
from unnest(%(spans)s::tstzrange[]) with ordinality as page (span, n)
left join lateral (
    select max(rev) as rev from revision where symbol = %(symbol)s and revision.span && page.span
) as newest on true;

-- touched: whether the log holds every revision after one, and whether one of them touches a span of some symbols
select
    count(*) = (select rev from meta) - %(rev)s,
    coalesce(bool_or(symbol = any(%(symbols)s) and revision.span && %(span)s), false)
from revision where revision.rev > %(rev)s;

-- columns: no query, but what others select of a bar ({columns}): its bucket in seconds and as text, every number as text
    extract(epoch from bucket)::bigint,
    to_char(bucket, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    trim_scale(open)::text,
    trim_scale(high)::text,
    trim_scale(low)::text,
    trim_scale(close)::text,
    trim_scale(volume)::text,
    coalesce(trim_scale(quote_volume)::text, %(null)s),
    coalesce(trim_scale(vwap)::text, %(null)s),
    coalesce(trades::text, %(null)s),
    coalesce(trim_scale(buy_volume)::text, %(null)s),
    case when imported then 'true' else 'false' end

-- bars: a span of one symbol's bars, every digit as text, from one end ({order}); {view} is the level's
select {columns}
from {view}
where symbol = %(symbol)s and bucket >= %(lo)s and bucket < %(hi)s
order by bucket {order}
limit %(limit)s::bigint;

-- derived: bars of any calendar, from one end ({order}), as query `bars` gives them, of one symbol or of several
-- ({which}); there each begins with its symbol ({symbol}); {view} is the level's. Each of its bars belongs to the span
-- between two `edges` that holds its start, and so to that span's bucket in `labels`; '-infinity' is none (arrays with
-- nulls are read from their beginning each time). Sums that not every part tells are null.
with part as (
    select labels[width_bucket(bucket, edges)] as label, source.*
    from {view} as source, (select %(edges)s::timestamptz[] as edges, %(labels)s::timestamptz[] as labels) as calendar
    where {which} and bucket >= %(lo)s and bucket < %(hi)s
), bar as (
    select
        symbol,
        label as bucket,
        (array_agg(open order by bucket))[1] as open,
        max(high) as high,
        min(low) as low,
        (array_agg(close order by bucket desc))[1] as close,
        sum(volume) as volume,
        case when count(quote_volume) = count(*) then sum(quote_volume) end as quote_volume,
        case when count(trades) = count(*) then sum(trades)::bigint end as trades,
        case when count(buy_volume) = count(*) then sum(buy_volume) end as buy_volume,
        bool_or(imported) as imported
    from part
    where label > '-infinity'
    group by 1, 2
)
select
    {symbol}
    {columns}
from (select *, vwap(quote_volume, volume) as vwap from bar) as bar
order by {symbol} bucket {order}
limit %(limit)s::bigint;

-- plain: query `bars` with its numbers as they are stored, which a table of numbers needs no more of: a year of minutes
-- takes a third less
select
    extract(epoch from bucket)::bigint, null, open, high, low, close, volume, coalesce(quote_volume::text, ''),
    coalesce(vwap::text, ''), coalesce(trades::text, ''), coalesce(buy_volume::text, ''), imported
from {view}
where symbol = %(symbol)s and bucket >= %(lo)s and bucket < %(hi)s
order by bucket {order}
limit %(limit)s::bigint;

-- lines: the bars of another query in its order as lines of CSV, how many there are, their first and last bucket; what it
-- says of time is left out, and so not computed
select
    string_agg(concat_ws(',', start, open, high, low, close, volume, quote, vwap, trades, buy, imported), e'\n'),
    count(*), min(start), max(start)
from ({bars}) as bar (start, time, open, high, low, close, volume, quote, vwap, trades, buy, imported);

-- counted: only how many bars another query finds, and their first and last bucket
select null, count(*), min(start), max(start) from ({bars}) as bar (start);

-- days: the days of a span that have bars, from one end ({order}): where a sparse symbol's next bars are
select extract(epoch from bucket)::bigint from ohlcv_1d
where symbol = %(symbol)s and bucket >= %(lo)s and bucket < %(hi)s
order by bucket {order}
limit %(limit)s::bigint;

-- latest: the newest bar of each of several symbols since a time; {view} is the level's
select distinct on (symbol)
    symbol,
    {columns}
from {view}
where symbol = any(%(symbols)s) and bucket >= %(lo)s
order by symbol, bucket desc;

-- newest_days: each of these symbols' newest day that has bars, in seconds
select symbol, extract(epoch from max(bucket))::bigint from ohlcv_1d where symbol = any(%(symbols)s) group by symbol;

-- known: which of these symbols exist
select symbol from symbols where symbol = any(%(symbols)s);

-- symbols: every symbol, or one, with the minute of its newest tick of the last week
select
    symbol, source, market, base, quote, history_start, history_source, live, stopped_at is not null, registered_at,
    minutes_since, hours_since,
    newest
from symbols
left join newest_ticks(
    case when %(symbol)s::text is null then array(select symbol from symbols) else array[%(symbol)s] end
) as tick using (symbol)
where %(symbol)s::text is null or symbol = %(symbol)s
order by symbol collate "C";

-- quiet: the newest minute of symbols that had no tick lately, given each one's newest day
select symbol, bucket from newest_minutes(%(symbols)s::text[], %(days)s::timestamptz[]);

-- live: symbols that are followed now, the first registered first
select symbol from symbols where live and stopped_at is null order by registered_at, symbol limit %(limit)s::bigint;

-- status: the engine, the database's state and its versions
select engine, epoch, rev, clock_timestamp(), current_setting('server_version'),
       (select extversion from pg_extension where extname = 'timescaledb'),
       (select extversion from pg_extension where extname = 'citus')
from meta;

-- levels: how far each level is sealed and rolled up
select name, sealed, watermark from level order by ordinal;
