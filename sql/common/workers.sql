-- How many workers of a Citus cluster hold our rows; null where the server is none.
create function workers() returns integer
language plpgsql stable set search_path = barwright, pg_temp
as $$
declare
    n integer;
begin
    if to_regclass('pg_dist_node') is not null then
        execute 'select count(*) from pg_dist_node where isactive and shouldhaveshards' into n;
    end if;
    return n;
end
$$;

-- The minute of a symbol's newest tick of the last eight days, of its newest bar of a day, and its newest minute's bar.
-- Functions, since on Citus a symbol's worker is asked by name: rows of the coordinator are not joined to it.
create function newest_tick(the_symbol text) returns timestamptz
language plpgsql stable set search_path = barwright, pg_temp set plan_cache_mode = force_custom_plan
as $$
begin
    return (
        select date_bin('1 minute', ts, '2000-01-03Z') from ticks
        where symbol = the_symbol and ts >= now() - interval '8 days' order by ts desc limit 1
    );
end
$$;

create function newest_minute(the_symbol text, day timestamptz) returns timestamptz
language plpgsql stable set search_path = barwright, pg_temp set plan_cache_mode = force_custom_plan
as $$
begin
    return (
        select max(bucket) from ohlcv_1m
        where symbol = the_symbol and bucket >= day and bucket < day + interval '1 day'
    );
end
$$;

create function newest_bar(the_symbol text)
returns table (bucket timestamptz, open numeric, high numeric, low numeric, close numeric, volume numeric, trades bigint)
language plpgsql stable set search_path = barwright, pg_temp set plan_cache_mode = force_custom_plan
as $$
begin
    return query
    select o.bucket, o.open, o.high, o.low, o.close, o.volume, o.trades
    from ohlcv_1m as o where o.symbol = the_symbol order by o.bucket desc limit 1;
end
$$;
