-- Engine postgres: for each level a table of closed bars (rollup_*), a view of the bars above its watermark, computed
-- from its source (live_*), and the public view that joins them (ohlcv_*). The join needs no condition on rollup_*: its
-- rows and the watermark move in one transaction. With one, the newest 3 of a year of minutes took 218 ms, not 0.1.

-- The SQL text that computes a level's bars from those rows of its source that meet a condition: the one definition,
-- used by the live views (source: the parent's ohlcv_*), the roll-up and the repair (its rollup_*; both stay below the
-- parent's watermark, and planning a view of views over 150 partitions costs 18 ms). 1m comes from ticks always.
-- 1m: an imported bar (seq -1) stands in for the trades of its minute; open and close are the first and last by seq.
-- Since revision 0008 what bars.sql says is in force.
create function select_bars(level_name text, source text, condition text) returns text
language sql stable set search_path = barwright, pg_temp
return (
    select case when parent is null then format($bars$
        select
            symbol,
            date_bin('1 minute', ts, '2000-01-03Z') as bucket,
            coalesce((array_agg(open) filter (where seq = -1))[1], (array_agg(price order by seq))[1]) as open,
            coalesce(max(high) filter (where seq = -1), max(price)) as high,
            coalesce(min(low) filter (where seq = -1), min(price)) as low,
            coalesce((array_agg(price) filter (where seq = -1))[1], (array_agg(price order by seq desc))[1]) as close,
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
            (array_agg(close order by source.bucket desc))[1] as close,
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

do $$
declare
    l level;
begin
    for l in select * from level order by ordinal loop
        execute format('
            create table rollup_%s (
                symbol text, bucket timestamptz, open numeric not null, high numeric not null, low numeric not null,
                close numeric not null, volume numeric not null, quote_volume numeric, trades bigint,
                buy_volume numeric, imported boolean not null, primary key (symbol, bucket)
            )', l.name);
        -- One moment of all symbols, as screeners ask for it.
        execute format('create index on rollup_%s (bucket)', l.name);
        execute format('create view live_%s as %s', l.name, select_bars(l.name, 'ohlcv',
            format('{time} >= (select watermark from level where name = %L)', l.name)));
        execute format('
            create view ohlcv_%1$s as
            select symbol, bucket, open, high, low, close, volume, quote_volume, vwap(quote_volume, volume) as vwap,
                   trades, buy_volume, imported
            from rollup_%1$s
            union all
            select symbol, bucket, open, high, low, close, volume, quote_volume, vwap(quote_volume, volume) as vwap,
                   trades, buy_volume, imported
            from live_%1$s', l.name);
    end loop;
end
$$;

-- Roll a level up from its watermark to its seal and its parent's watermark, at most 1,440 buckets at a time (a day of
-- 1m), so that no transaction is long after an outage. Rows and watermark move together: a kill leaves neither. True
-- while more is left.
create function advance(level_name text) returns boolean
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    l level;
    goal timestamptz;
    until timestamptz;
begin
    perform hold_maintenance();
    select * into l from level where name = level_name;
    select least(l.sealed, date_bin(l.width, min(p.watermark), '2000-01-03Z')) into goal
    from level as p where p.name = l.parent;
    until := least(goal, l.watermark + l.width * 1440);
    if until <= l.watermark then
        return false;
    end if;
    execute format('insert into rollup_%s %s', l.name, select_bars(l.name, 'rollup', '{time} >= $1 and {time} < $2'))
    using l.watermark, until;
    update level set watermark = until where name = l.name;
    return until < goal;
end
$$;

-- Compute again every closed bar that a late range touches, bottom up, in one transaction with the end of the ranges
-- and their revisions. Buckets above a level's watermark are live and need nothing. Returns the ranges repaired.
create function repair() returns bigint
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    ids bigint[];
    l level;
    -- The late ranges ($1) widened to whole buckets of a level ($2: width), clamped to its watermark ($3), merged.
    touched constant text := '
        with touched as (
            select symbol, unnest(range_agg(tstzrange(
                date_bin($2, lower(span), ''2000-01-03Z''),
                least($3, date_bin($2, upper(span) - interval ''1 microsecond'', ''2000-01-03Z'') + $2)
            ))) as span
            from late_range
            where id = any($1) and date_bin($2, lower(span), ''2000-01-03Z'') < $3
            group by symbol
        )';
begin
    perform hold_maintenance();
    select array_agg(id) into ids from late_range;
    if ids is null then
        return 0;
    end if;
    for l in select * from level order by ordinal loop
        execute format('%s
            delete from rollup_%s as r using touched as t
            where r.symbol = t.symbol and r.bucket >= lower(t.span) and r.bucket < upper(t.span)', touched, l.name)
        using ids, l.width, l.watermark;
        execute format('%s
            insert into rollup_%s select bar.* from touched as t cross join lateral (%s) as bar', touched, l.name,
            select_bars(l.name, 'rollup',
                'source.symbol = t.symbol and {time} >= lower(t.span) and {time} < upper(t.span)'))
        using ids, l.width, l.watermark;
    end loop;
    perform finish_repair(ids);
    return cardinality(ids);
end
$$;
