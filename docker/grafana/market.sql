-- price: Close of the newest bar; the bar now open counts.
select close from ohlcv_1m
where symbol = ${symbol:sqlstring} and bucket >= now() - interval '1 day' order by bucket desc limit 1;

-- change: The newest close by the first open of the last 24 hours.
select (array_agg(close order by bucket desc))[1] / (array_agg(open order by bucket))[1] - 1 as change
from ohlcv_15m where symbol = ${symbol:sqlstring} and bucket >= now() - interval '24 hours';

-- volume: Base quantity.
select sum(volume) as volume from ohlcv_15m
where symbol = ${symbol:sqlstring} and bucket >= now() - interval '24 hours';

-- trades: Without those of vendors' bars that do not tell.
select sum(trades) as trades from ohlcv_1m
where symbol = ${symbol:sqlstring} and bucket >= now() - interval '24 hours';

-- missing: Length of all gaps of the symbol's history.
select coalesce(sum(extract(epoch from upper(span) - lower(span))), 0)::float8 as missing
from gaps where symbol = ${symbol:sqlstring};

-- behind: Since the newest minute with a trade began.
select extract(epoch from now() - max(bucket))::float8 as behind
from ohlcv_1m where symbol = ${symbol:sqlstring} and bucket >= now() - interval '1 day';

-- candles: Candles, volume, and the volume-weighted average price as a line.
select bucket as time, open, high, low, close, volume, vwap
from ohlcv_${interval:raw} where symbol = ${symbol:sqlstring} and $__timeFilter(bucket)
order by bucket;

-- sides: What takers bought and sold; bars that do not tell, such as imported ones, count as 0.
select bucket as time, coalesce(buy_volume, 0) as bought, coalesce(volume - buy_volume, 0) as sold
from ohlcv_${interval:raw} where symbol = ${symbol:sqlstring} and $__timeFilter(bucket)
order by bucket;

-- volumes: Base quantity, summed over what one pixel shows.
select $__timeGroupAlias(bucket, $__interval), sum(volume) as volume
from ohlcv_${interval:raw} where symbol = ${symbol:sqlstring} and $__timeFilter(bucket)
group by 1 order by 1;

-- distance: How far bars close from their volume-weighted average price.
select bucket as time, close / nullif(vwap, 0) - 1 as distance
from ohlcv_${interval:raw} where symbol = ${symbol:sqlstring} and $__timeFilter(bucket)
order by bucket;

-- newest: The newest minute of each symbol.
select s.symbol, bar.bucket as newest, bar.close, bar.volume, bar.trades
from symbols as s
cross join lateral (
    select * from ohlcv_1m as b
    where b.symbol = s.symbol and bucket >= now() - interval '1 day' order by bucket desc limit 1
) as bar
order by s.symbol limit 200;

-- complete: Missing: a gap lies there. Complete: covered, and closed. Unknown: nobody vouches for it, or it is not closed.
select t as time, case
    when exists (select from gaps where symbol = ${symbol:sqlstring} and span && tstzrange(t, t + step)) then 'missing'
    when t + step <= (select watermark from level where name = '1m') and exists (
        select from coverage where symbol = ${symbol:sqlstring} and span && tstzrange(t, t + step)
    ) then 'complete'
    else 'unknown'
end as state
from (
    select since, until, greatest(interval '1 minute', (until - since) / 120) as step
    from (values ($__timeFrom()::timestamptz, $__timeTo()::timestamptz)) as shown (since, until)
) as range
cross join lateral generate_series(since, until - step, step) as t
order by t;

-- sources: Who vouches for which time.
select source, kind, "interval", min(lower(span)) as since, max(upper(span)) as until,
       sum(extract(epoch from upper(span) - lower(span)))::float8 as seconds
from coverage where symbol = ${symbol:sqlstring} group by source, kind, "interval" order by since;
