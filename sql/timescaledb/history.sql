-- Engine timescaledb: coarse bars stand beside the aggregates of 1h, 4h and 1d. Those get names of their own (cagg_*),
-- and the public views join both: while a day has coarse bars, the aggregate shows none of that day.
do $$
declare
    l level;
    hours text;
begin
    drop view ohlcv_1w, ohlcv_1mo;
    for l in select * from level where name in ('1h', '4h', '1d') order by ordinal loop
        execute format('alter materialized view ohlcv_%1$s rename to cagg_%1$s', l.name);
        hours := case when l.name = '1d' then 'true' else '"interval" = ''1h''' end;
        execute format($view$
            create view ohlcv_%1$s as
            select symbol, bucket, open, high, low, close, volume, quote_volume, vwap, trades, buy_volume, imported
            from cagg_%1$s as bar
            where not exists (
                select from coarse_bars as c
                where c.symbol = bar.symbol and c.bucket >= date_bin('1 day', bar.bucket, '2000-01-03Z')
                and c.bucket < date_bin('1 day', bar.bucket, '2000-01-03Z') + interval '1 day'
            )
            union all
            select
                symbol,
                date_bin(%2$L, coarse.bucket, '2000-01-03Z') as bucket,
                (array_agg(open order by coarse.bucket))[1] as open,
                max(high) as high,
                min(low) as low,
                (array_agg(close order by coarse.bucket desc))[1] as close,
                sum(volume) as volume,
                case when count(quote_volume) = count(*) then sum(quote_volume) end as quote_volume,
                vwap(case when count(quote_volume) = count(*) then sum(quote_volume) end, sum(volume)) as vwap,
                case when count(trades) = count(*) then sum(trades)::bigint end as trades,
                null::numeric as buy_volume,
                true as imported
            from coarse_bars as coarse
            where %3$s
            group by 1, 2
        $view$, l.name, l.width, hours);
    end loop;
end
$$;

-- Coarse bars of a span came or went: the views show it at once, so the revision is written at once.
create function coarse_changed(the_symbol text, within tstzrange) returns void
language sql set search_path = barwright, pg_temp
begin atomic
    select revise(array[the_symbol], array[within]);
end;

-- End a repair: late ranges and their revisions, and coarse bars of days whose minutes have come and are repaired.
create function finish_history(ids bigint[]) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    ignored bigint;
begin
    perform finish_repair(ids);
    with settled as (
        delete from settled_day as s
        where not exists (
            select from late_range as l where l.symbol = s.symbol and l.span && tstzrange(s.day, s.day + interval '1 day')
        )
        returning symbol, day
    ), gone as (
        delete from coarse_bars as c using settled as s
        where c.symbol = s.symbol and c.bucket >= s.day and c.bucket < s.day + interval '1 day'
    ), merged as (
        select symbol, range_agg(tstzrange(day, day + interval '1 day')) as spans from settled group by symbol
    ), disproved as (
        select disprove_coarse(symbol, spans, array['1h', '1d']) from merged
    )
    select revise(array_agg(m.symbol), array_agg(m.span)) into ignored
    from (select symbol, unnest(spans) as span from merged where (select count(*) from disproved) >= 0) as m
    having count(*) > 0;
end
$$;
