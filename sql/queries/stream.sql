-- tails: the bars of some symbols from a time on, ascending: what is open, and what has just closed; {view} is the level's
select
    symbol,
    {columns}
from {view}
where symbol = any(%(symbols)s) and bucket >= %(lo)s
order by symbol, bucket;

-- changed: the revisions of a symbol after one, up to another, with their spans in seconds; null where some of the log
-- was swept (revisions have no holes)
select case when count(*) = %(upto)s - %(after)s then coalesce(
    jsonb_agg(jsonb_build_array(
        rev,
        floor(extract(epoch from greatest(lower(span), '0001-01-01Z')))::bigint,
        ceil(extract(epoch from least(upper(span), '9999-12-31Z')))::bigint
    )) filter (where symbol = %(symbol)s), '[]'
) end
from revision where rev > %(after)s and rev <= %(upto)s;

-- open: minutes of some symbols from a time on, added up from ticks as the view does, but of those ticks that had landed
-- before a `cursor` (a transaction's id) only their number is compared with what was told of them (the sums that
-- this query gave then). A tick is added up once so, wherever it lands: transactions below a snapshot's xmin are over,
-- whatever they wrote can only go; what is updated is a new row of a newer transaction; and ids mean nothing on another
-- server or after a crash (`run`). Of a symbol with no cursor all is added up. Nothing comes of one whose told ticks are
-- not all there, and of all where some of it may be rolled up already. Rows that `hold` are what to tell next time: the
-- sums of what is settled now. A scan that only compares xmin takes a fifth of one that adds up. The time is written into
-- the query once more ({since}): TimescaleDB refuses to plan xmin for chunks that are compressed, if it may come to those.
with moment as materialized (
    select
        age(pg_snapshot_xmin(pg_current_snapshot())::xid) as settled,
        {run} = %(run)s as same,
        late_below() <= %(lo)s as live
), told as materialized (
    select
        symbol,
        (part ->> 0)::timestamptz as bucket,
        (part ->> 1)::bigint as first,
        (part ->> 2)::numeric as open,
        (part ->> 3)::numeric as high,
        (part ->> 4)::numeric as low,
        (part ->> 5)::bigint as last,
        (part ->> 6)::numeric as close,
        (part ->> 7)::numeric as volume,
        (part ->> 8)::numeric as quote_volume,
        (part ->> 9)::bigint as trades,
        (part ->> 10)::bigint as sided,
        (part ->> 11)::numeric as buy_volume
    from jsonb_to_recordset(%(held)s::jsonb) as held (symbol text, parts jsonb)
    cross join lateral jsonb_array_elements(parts) as part
    where (select same from moment) and (part ->> 0)::timestamptz >= %(lo)s
), asked as materialized (
    select
        asked.symbol,
        coalesce(case when (select same from moment) then age("cursor"::xid) end, 2147483647) as known,
        coalesce(held.trades, 0) as trades
    from unnest(%(symbols)s::text[], %(cursors)s::text[]::xid8[]) as asked (symbol, "cursor")
    left join (select symbol, sum(trades) as trades from told group by symbol) as held using (symbol)
    where (select live from moment)
), seen as materialized (
    select symbol, fresh
    from asked
    cross join lateral (
        select
            count(*) as n,
            array_agg((age(xmin), ts, seq, price, size, side)) filter (where age(xmin) <= known) as fresh
        from ticks where ticks.symbol = asked.symbol and ts >= {since}
    ) as scan
    where n - coalesce(cardinality(fresh), 0) = trades
), part as materialized (
    select told.*, false as pending, false as imported from told join seen using (symbol)
    union all
    select
        seen.symbol,
        date_bin('1 minute', ts, '2000-01-03Z') as bucket,
        min(seq) as first,
        (array_agg(price order by seq))[1] as open,
        max(price) as high,
        min(price) as low,
        max(seq) as last,
        (array_agg(price order by seq desc))[1] as close,
        sum(size) as volume,
        sum(price * size) as quote_volume,
        count(*) as trades,
        count(side) as sided,
        coalesce(sum(size) filter (where side = 'b'), 0) as buy_volume,
        age <= (select settled from moment) as pending,
        bool_or(seq = -1) as imported
    from seen
    cross join unnest(fresh) as tick (
        age integer, ts timestamptz, seq bigint, price numeric, size numeric, side "char"
    )
    group by seen.symbol, 2, 14
), minute as (
    select
        symbol,
        bucket,
        hold,
        min(first) as first,
        (array_agg(open order by first))[1] as open,
        max(high) as high,
        min(low) as low,
        max(last) as last,
        (array_agg(close order by last desc))[1] as close,
        sum(volume) as volume,
        sum(quote_volume) as quote_volume,
        vwap(sum(quote_volume), sum(volume)) as vwap,
        sum(trades)::bigint as trades,
        sum(sided)::bigint as sided,
        case when hold or sum(sided) = sum(trades) then sum(buy_volume) end as buy_volume,
        bool_or(imported) as imported
    from part cross join (values (false), (true)) as kind (hold)
    where not (hold and pending)
    group by symbol, bucket, hold
)
select
    symbol,
    case when hold then jsonb_build_array(
        bucket, first, open, high, low, last, close, volume, quote_volume, trades, sided, buy_volume
    )::text end,
    {columns}
from minute
order by symbol, bucket;

-- moment: below which transaction's id all is settled in this snapshot; what tells this run of this server from any other
-- (a crash resets statistics, and can lose transactions and use their ids again); whether no minute from a time on may be
-- rolled up already
select pg_snapshot_xmin(pg_current_snapshot())::text, {run}, late_below() <= %(lo)s;

-- run: no query, but how a run of a server is told ({run})
    pg_postmaster_start_time()::text || ' ' || coalesce(pg_stat_get_bgwriter_stat_reset_time()::text, '')

-- carries: whether transactions' ids of ticks can be compared: on Citus each worker has its own, and roles of an older
-- schema may not read ticks
select to_regclass('pg_dist_node') is null and has_table_privilege('ticks', 'select');
