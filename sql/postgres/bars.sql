-- The SQL text that computes a level's bars from those rows of its source that meet a condition: the one definition,
-- used by the live views (source: the parent's ohlcv_*), the roll-up and the repair (its rollup_*; both stay below the
-- parent's watermark, and planning a view of views over 150 partitions costs 18 ms). 1m comes from ticks always.
-- 1m: an imported bar (seq -1) stands in for the trades of its minute; open and close are the first and last by seq, of
-- one array in that order: sorted the other way for close, each tick took 1.6 us to roll up, not 1.26.
create or replace function select_bars(level_name text, source text, condition text) returns text
language sql stable set search_path = barwright, pg_temp
return (
    select case when parent is null then format($bars$
        select
            symbol,
            date_bin('1 minute', ts, '2000-01-03Z') as bucket,
            coalesce((array_agg(open) filter (where seq = -1))[1], (array_agg(price order by seq))[1]) as open,
            coalesce(max(high) filter (where seq = -1), max(price)) as high,
            coalesce(min(low) filter (where seq = -1), min(price)) as low,
            coalesce((array_agg(price) filter (where seq = -1))[1], (array_agg(price order by seq))[count(*)]) as close,
            coalesce(sum(size) filter (where seq = -1), sum(size)) as volume,
            case when bool_or(seq = -1) then sum(quote) filter (where seq = -1) else sum(price * size) end
                as quote_volume,
            case when bool_or(seq = -1) then sum(trades) filter (where seq = -1) else count(*) end as trades,
            case when not bool_or(seq = -1) and count(side) = count(*)
                 then coalesce(sum(size) filter (where side = 'b'), 0) end as buy_volume,
            bool_or(seq = -1) as imported
        from ticks as source
        where %s
        group by 1, 2
    $bars$, replace(condition, '{time}', 'ts')) else format($bars$
        select
            symbol,
            date_bin(%L, source.bucket, '2000-01-03Z') as bucket,
            (array_agg(open order by source.bucket))[1] as open,
            max(high) as high,
            min(low) as low,
            (array_agg(close order by source.bucket))[count(*)] as close,
            sum(volume) as volume,
            case when count(quote_volume) = count(*) then sum(quote_volume) end as quote_volume,
            case when count(trades) = count(*) then sum(trades)::bigint end as trades,
            case when count(buy_volume) = count(*) then sum(buy_volume) end as buy_volume,
            bool_or(imported) as imported
        from %s_%s as source
        where %s
        group by 1, 2
    $bars$, width, source, parent, replace(condition, '{time}', 'source.bucket')) end
    from level where name = level_name
);
