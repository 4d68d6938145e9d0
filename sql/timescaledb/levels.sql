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
