-- Engine postgres: coarse bars are written into the rollups of 1h, 4h and 1d, in place of what the ticks of their days say.

-- Coarse bars of a span came or went: its rollups are made again, and revised, by the next repair.
create function coarse_changed(the_symbol text, within tstzrange) returns void
language sql set search_path = barwright, pg_temp
begin atomic
    insert into late_range (symbol, span) values (the_symbol, within);
end;

-- Write the coarse bars of these days into the rollups of a level: hours as they are, or summed up; days at 1d only.
create function lay_coarse(level_name text, symbols text[], days timestamptz[]) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    l level;
begin
    select * into l from level where name = level_name;
    execute format('
        delete from rollup_%s as r using unnest($1, $2) as d (symbol, day)
        where r.symbol = d.symbol and r.bucket >= d.day and r.bucket < d.day + interval ''1 day''', l.name)
    using symbols, days;
    execute format('
        insert into rollup_%s
        select c.symbol, date_bin($3, c.bucket, ''2000-01-03Z''), (array_agg(open order by c.bucket))[1], max(high),
               min(low), (array_agg(close order by c.bucket desc))[1], sum(volume),
               case when count(quote_volume) = count(*) then sum(quote_volume) end,
               case when count(trades) = count(*) then sum(trades)::bigint end, null, true
        from unnest($1, $2) as d (symbol, day)
        join coarse_bars as c on c.symbol = d.symbol and c.bucket >= d.day and c.bucket < d.day + interval ''1 day''
        where c."interval" = ''1h'' or $3 = interval ''1 day''
        group by 1, 2', l.name)
    using symbols, days, l.width;
end
$$;

-- A repair looks each touched bucket up. The planner takes a few thousand late ranges for few and joins them to the whole
-- rollup by symbol: 10,000 late ticks took 57 s, 2.8 s like this.
alter function repair() set enable_hashjoin = off set enable_mergejoin = off;

-- Repair, and let coarse bars of the days touched stand in for their ticks, or make way where the day is settled.
create function repair_history() returns bigint
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    before bigint;
    repaired bigint;
    symbols text[];
    days timestamptz[];
begin
    perform hold_maintenance();
    with settled as (
        delete from settled_day returning symbol, day
    ), gone as (
        delete from coarse_bars as c using settled as s
        where c.symbol = s.symbol and c.bucket >= s.day and c.bucket < s.day + interval '1 day'
    ), disproved as (
        select disprove_coarse(symbol, range_agg(tstzrange(day, day + interval '1 day')), array['1h', '1d'])
        from settled group by symbol
    )
    insert into late_range (symbol, span)
    select s.symbol, tstzrange(s.day, s.day + interval '1 day') from settled as s
    where (select count(*) from disproved) >= 0;
    select rev into before from meta;
    repaired := repair();
    -- What this transaction repaired, by its own revisions.
    select array_agg(symbol), array_agg(day) into symbols, days
    from (
        select distinct c.symbol, day_floor(c.bucket) as day
        from revision as r join coarse_bars as c
            on c.symbol = r.symbol and c.bucket >= day_floor(lower(r.span)) and c.bucket < day_ceil(upper(r.span))
        where r.rev > before
    ) as touched;
    if symbols is not null then
        perform lay_coarse(name, symbols, days) from unnest(array['1h', '4h', '1d']) as name;
    end if;
    return repaired;
end
$$;
