-- Engine postgres: ticks are dropped by the partition, bars deleted by their age. There is no compression on this engine.

-- The partitions of the ticks and their bounds, oldest first.
create function tick_partitions() returns table (partition regclass, lower timestamptz, upper timestamptz)
language sql stable set search_path = barwright, pg_temp
begin atomic
    select c.oid::regclass, bound[1]::timestamptz, bound[2]::timestamptz
    from pg_inherits as i
    join pg_class as c on c.oid = i.inhrelid
    cross join lateral (
        select regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*)''\) TO \(''(.*)''\)')
    ) as parsed (bound)
    where i.inhparent = 'ticks'::regclass
    order by 2;
end;

-- Make room for ticks at these times, a week at a time, in a transaction of its own before the batch: partitions of the
-- width that holds now, beside those that are there. A plain table is made and then attached: `create table … partition
-- of` would block inserts behind any reader, and two at once deadlock.
create or replace function prepare_ticks(times timestamptz[]) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    the_width interval := (select coalesce(width, interval '7 days') from policy where name = 'ticks');
    week timestamptz;
    piece tstzrange;
    partition text;
begin
    perform pg_advisory_xact_lock(hashtextextended('barwright.partition', 0));
    for week in select distinct date_bin('7 days', t, '2000-01-03Z') from unnest(times) as t order by 1 loop
        for piece in
            select unnest(tstzmultirange(tstzrange(slot, least(slot + the_width, week + interval '7 days'))) - coalesce((
                select range_agg(tstzrange(p.lower, p.upper)) from tick_partitions() as p
            ), '{}'))
            from generate_series(week, week + interval '7 days' - interval '1 microsecond', the_width) as slot
        loop
            partition := 'ticks_' || to_char(lower(piece) at time zone 'UTC',
                case when lower(piece) = day_floor(lower(piece)) then 'YYYYMMDD' else 'YYYYMMDD"_"HH24MI' end);
            execute format('create table %I (like ticks including all, check (ts >= %L and ts < %L))',
                           partition, lower(piece), upper(piece));
            execute format('alter table ticks attach partition %I for values from (%L) to (%L)',
                           partition, lower(piece), upper(piece));
        end loop;
    end loop;
end
$$;

-- There is nothing to compress on this engine.
create function compressible() returns table (name text, chunk regclass, range_end timestamptz)
language sql stable set search_path = barwright, pg_temp
begin atomic
    select null::text, null::regclass, null::timestamptz where false;
end;

-- Drop the partitions of the ticks that are older than they are kept; bars made of them stay. Returns how many.
create function drop_ticks() returns bigint
language plpgsql set search_path = barwright, pg_temp set lock_timeout = '200ms'
as $$
declare
    until timestamptz;
    old record;
    dropped bigint := 0;
begin
    perform hold_maintenance();
    until := droppable_until('ticks');
    for old in select * from tick_partitions() where upper <= until loop
        execute format('alter table ticks detach partition %s', old.partition);
        execute format('drop table %s', old.partition);
        update policy set since = greatest(since, old.upper) where name = 'ticks';
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;

-- Delete the bars of a level that are older than they are kept, the oldest 60 buckets at a time. Returns how many bars (0:
-- all are gone). Pages that showed them are revised.
create function drop_bars(the_name text) returns bigint
language plpgsql set search_path = barwright, pg_temp set lock_timeout = '200ms'
as $$
declare
    until timestamptz;
    l level;
    first timestamptz;
    edge timestamptz;
    dropped bigint;
    symbols text[];
begin
    perform hold_maintenance();
    select * into strict l from level where name = the_name;
    update policy set since = greatest(since, day_floor(droppable_until(name))) where name = l.name returning since into until;
    execute format('select min(bucket) from rollup_%s where bucket < $1', l.name) into first using until;
    if first is null then
        return 0;
    end if;
    edge := least(first + l.width * 60, until);
    execute format('
        with gone as (
            delete from rollup_%s where bucket < $1 returning symbol
        )
        select count(*), array_agg(distinct symbol) from gone', l.name) into dropped, symbols using edge;
    perform revise(symbols, array_fill(tstzrange(first, edge), array[cardinality(symbols)]));
    return dropped;
end
$$;

-- A purged symbol's bars: those that no repair reaches, and with them the rest.
create function forget_bars(the_symbol text) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    l level;
begin
    for l in select * from level loop
        execute format('delete from rollup_%s where symbol = $1', l.name) using the_symbol;
    end loop;
end
$$;

-- How wide partitions should be: a week (few, since planning takes time with each), a day where ticks are kept for
-- four weeks or less or a week's are too many for the memory.
create function fitting_width() returns interval
language sql stable set search_path = barwright, pg_temp
begin atomic
    select least(
        case when (select keep from policy where name = 'ticks') <= interval '28 days' then interval '1 day' end,
        width_by_rate(array['1 day', '7 days']::interval[])
    );
end;

-- Partitions made from now on are this wide, a week at most; those there are stay.
create function set_width(the_width interval) returns void
language sql set search_path = barwright, pg_temp
begin atomic
    update policy set width = least(the_width, interval '7 days') where name = 'ticks';
end;

-- This engine refreshes nothing by itself.
create function set_refresh_floor(days double precision) returns void
language sql set search_path = barwright, pg_temp
begin atomic
end;

-- Compute again every closed bar that a late range touches, bottom up, in one transaction with the end of the ranges
-- and their revisions. Buckets above a level's watermark are live and need nothing; those whose source was dropped stay.
-- Returns the ranges repaired.
create or replace function repair() returns bigint
language plpgsql set search_path = barwright, pg_temp set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    ids bigint[];
    l level;
    -- The late ranges ($1) widened to whole buckets of a level ($2: width), clamped to its watermark ($3) and to what can
    -- be computed ($4), merged.
    touched constant text := '
        with touched as (
            select symbol, unnest(range_agg(tstzrange(greatest(lo, $4), least(hi, $3)))) as span
            from late_range cross join lateral (select
                date_bin($2, lower(span), ''2000-01-03Z'') as lo,
                date_bin($2, upper(span) - interval ''1 microsecond'', ''2000-01-03Z'') + $2 as hi
            ) as bucket
            where id = any($1) and lo < $3 and ($4 is null or hi > $4)
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
        using ids, l.width, l.watermark, computable_from(l.name);
        execute format('%s
            insert into rollup_%s select bar.* from touched as t cross join lateral (%s) as bar', touched, l.name,
            select_bars(l.name, 'rollup',
                'source.symbol = t.symbol and {time} >= lower(t.span) and {time} < upper(t.span)'))
        using ids, l.width, l.watermark, computable_from(l.name);
    end loop;
    perform finish_repair(ids);
    return cardinality(ids);
end
$$;

-- What the ticks and each level take: estimated rows and bytes, partitions, the times they reach over, and the
-- end of the oldest one.
create function storage() returns table (
    name text, rows bigint, bytes bigint, index_bytes bigint, chunks bigint, compressed_chunks bigint, compressed_rows bigint,
    compressed_bytes bigint, plain_bytes bigint, oldest timestamptz, newest timestamptz, first_until timestamptz,
    loose_until timestamptz
)
language plpgsql stable set search_path = barwright, pg_temp
as $$
declare
    l level;
begin
    return query
    select 'ticks', sum(greatest(c.reltuples, 0))::bigint, sum(pg_total_relation_size(c.oid))::bigint,
           sum(pg_indexes_size(c.oid))::bigint, count(*), 0::bigint, 0::bigint, 0::bigint, 0::bigint, min(p.lower), max(p.upper),
           min(p.upper), null::timestamptz
    from tick_partitions() as p join pg_class as c on c.oid = p.partition having count(*) > 0;
    for l in select * from level order by ordinal loop
        return query execute format('
            select %1$L, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid), pg_indexes_size(c.oid), 1::bigint,
                   0::bigint, 0::bigint, 0::bigint, 0::bigint, (select min(bucket) from %2$s), (select max(bucket) + %3$L from %2$s),
                   (select min(bucket) + %3$L from %2$s), null::timestamptz
            from pg_class as c where c.oid = ''%2$s''::regclass', l.name, 'rollup_' || l.name, l.width);
    end loop;
end
$$;
