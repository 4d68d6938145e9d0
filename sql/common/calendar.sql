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
