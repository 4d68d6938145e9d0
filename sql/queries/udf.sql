-- directory: every symbol and where it is traded
select symbol, source, market, base, quote from symbols order by symbol collate "C";

-- newest_days: each of these symbols' newest day that has bars
select symbol, max(bucket) from ohlcv_1d where symbol = any(%(symbols)s) group by symbol;

-- digits: the decimals of one symbol's recent prices and volumes: of the days of a year, the hours of a week and the
-- minutes of its newest day, so that a tick size shows even where single prices end in zeros
select
    max(greatest(
        scale(trim_scale(open)), scale(trim_scale(high)), scale(trim_scale(low)), scale(trim_scale(close))
    )),
    max(scale(trim_scale(volume)))
from (
    select open, high, low, close, volume from ohlcv_1d
    where symbol = %(symbol)s and bucket >= %(day)s::timestamptz - interval '1 year' and bucket <= %(day)s
    union all
    select open, high, low, close, volume from ohlcv_1h
    where symbol = %(symbol)s and bucket >= %(day)s::timestamptz - interval '7 days'
    and bucket < %(day)s::timestamptz + interval '1 day'
    union all
    select open, high, low, close, volume from ohlcv_1m
    where symbol = %(symbol)s and bucket >= %(day)s and bucket < %(day)s::timestamptz + interval '1 day'
) as recent;
