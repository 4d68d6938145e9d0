-- Engine timescaledb: columnstore for sealed chunks, chunks dropped by age, and the refresh policies as a floor that
-- stays above what was dropped.

-- Where the extension was installed. What runs with its owner's rights calls it by its full name: no namesake is found.
create function extension_schema() returns text
language sql stable set search_path = barwright, pg_temp
return (select quote_ident(nspname) from pg_extension join pg_namespace as n on n.oid = extnamespace where extname = 'timescaledb');

-- Bodies that name what is the extension's are text, not `begin atomic`: a dependency on one of its views would forbid
-- `alter extension timescaledb update`, which makes them anew.
create or replace function materialized_until(level_name text) returns timestamptz
language sql stable set search_path = barwright, pg_temp
as $$
    select _timescaledb_functions.to_timestamp(w.watermark)
    from _timescaledb_catalog.continuous_agg as c
    join _timescaledb_catalog.continuous_aggs_watermark as w using (mat_hypertable_id)
    where c.user_view_schema = 'barwright' and c.user_view_name = 'ohlcv_' || level_name
$$;

-- The continuous aggregate of a level, and the hypertable that holds its bars.
create function aggregate_of(level_name text) returns table (aggregate regclass, materialized regclass)
language sql stable set search_path = barwright, pg_temp
as $$
    select format('%I.%I', view_schema, view_name)::regclass,
           format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass
    from timescaledb_information.continuous_aggregates
    where view_schema = 'barwright' and view_name in ('ohlcv_' || level_name, 'cagg_' || level_name);
$$;

-- The hypertable of the ticks or of a level.
create function hypertable_of(the_name text) returns regclass
language sql stable set search_path = barwright, pg_temp
return case when the_name = 'ticks' then 'barwright.ticks'::regclass
            else (select materialized from aggregate_of(the_name)) end;

-- The chunks of the ticks or of a level, oldest first. `loose`: rows came after it was compressed.
create function chunks_of(the_name text)
returns table (chunk regclass, range_start timestamptz, range_end timestamptz, is_compressed boolean, loose boolean)
language sql stable set search_path = barwright, pg_temp
as $$
    with own as materialized (
        select n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
        where c.oid = hypertable_of(the_name)
    )
    select relation.chunk, c.range_start, c.range_end, c.is_compressed,
           c.is_compressed and _timescaledb_functions.chunk_status(relation.chunk) & 10 > 0
    from own join timescaledb_information.chunks as c on (c.hypertable_schema, c.hypertable_name) = (own.nspname, own.relname)
    cross join lateral (select format('%I.%I', c.chunk_schema, c.chunk_name)::regclass as chunk) as relation
    order by c.range_start
$$;

-- Chunks that may be compressed now: older than the settings say, wholly below the watermark, and not soon dropped.
create function compressible() returns table (name text, chunk regclass, range_end timestamptz)
language sql stable set search_path = barwright, pg_temp
begin atomic
    select p.name, c.chunk, c.range_end
    from policy as p
    join level as l on l.name = case p.name when 'ticks' then '1m' else p.name end
    cross join lateral chunks_of(p.name) as c
    where p.compress_after is not null
    and c.range_end <= least(now() - p.compress_after, l.watermark)
    and (p.keep is null or c.range_end > now() - p.keep)
    and (not c.is_compressed or c.loose)
    order by c.range_end, p.name;
end;

-- Compress a chunk of the ticks, or what came to it since: by symbol, in the order of a symbol's ticks. While it works,
-- writes to the chunk wait. Not done by a policy of the extension: it would not wait for our watermark. (The columnstore is
-- turned on with the first chunk: 2.23 takes no grant of single columns from then on.)
create function compress_ticks(the_chunk regclass) returns void
language plpgsql set search_path = barwright, pg_temp set lock_timeout = '5s'
as $$
begin
    if not (
        select compression_enabled from timescaledb_information.hypertables
        where hypertable_schema = 'barwright' and hypertable_name = 'ticks'
    ) then
        alter table barwright.ticks set (
            timescaledb.enable_columnstore, timescaledb.segmentby = 'symbol', timescaledb.orderby = 'ts, seq'
        );
    end if;
    if exists (select from chunks_of('ticks') as c where c.chunk = the_chunk) then
        execute format('select %s.compress_chunk($1)', extension_schema()) using the_chunk;
    end if;
end
$$;

-- The same of a level, as whoever calls it: the aggregates are maintain's own (so the search path is not that of functions
-- that run as their owner).
create function compress_bars(the_name text, the_chunk regclass) returns void
language plpgsql set search_path = pg_catalog, barwright, pg_temp set lock_timeout = '5s'
as $$
declare
    bars constant regclass := (select aggregate from aggregate_of(the_name));
begin
    if not (
        select compression_enabled from timescaledb_information.continuous_aggregates
        where format('%I.%I', view_schema, view_name)::regclass = bars
    ) then
        execute format('alter materialized view %s set (timescaledb.enable_columnstore, '
                       'timescaledb.segmentby = ''symbol'', timescaledb.orderby = ''bucket'')', bars);
    end if;
    execute format('select %s.compress_chunk($1)', extension_schema()) using the_chunk;
end
$$;

-- The chunks that may be dropped now: where they begin and end, and how many. Nothing is computed until the transaction ends.
create function droppable_chunks(the_name text) returns table (first timestamptz, last timestamptz, count bigint)
language plpgsql set search_path = barwright, pg_temp
as $$
begin
    perform hold_maintenance();
    return query select min(c.range_start), max(c.range_end), count(*)
    from chunks_of(the_name) as c where c.range_end <= droppable_until(the_name);
end
$$;

-- Note that chunks were dropped: pages that showed their bars are revised.
create function note_dropped(the_name text, first timestamptz, edge timestamptz) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
begin
    update policy set since = greatest(since, edge) where name = the_name;
    if the_name <> 'ticks' then
        perform revise(array_agg(symbol order by symbol), array_agg(tstzrange(first, edge))) from symbols having count(*) > 0;
    end if;
end
$$;

-- Drop the chunks of the ticks that are older than they are kept; bars made of them stay. Returns how many.
create function drop_ticks() returns bigint
language plpgsql set search_path = barwright, pg_temp set lock_timeout = '200ms'
as $$
declare
    old record;
begin
    select * into old from droppable_chunks('ticks');
    if old.count > 0 then
        execute format('select count(*) from %s.drop_chunks(''barwright.ticks'', older_than => $1)', extension_schema())
        using old.last;
        perform note_dropped('ticks', old.first, old.last);
    end if;
    return old.count;
end
$$;

-- The same of a level, as whoever calls it.
create function drop_bars(the_name text) returns bigint
language plpgsql set search_path = pg_catalog, barwright, pg_temp set lock_timeout = '200ms'
as $$
declare
    old record;
begin
    select * into old from droppable_chunks(the_name);
    if old.count > 0 then
        execute format('select count(*) from %s.drop_chunks($1, older_than => $2)', extension_schema())
        using (select aggregate from aggregate_of(the_name)), old.last;
        perform note_dropped(the_name, old.first, old.last);
    end if;
    return old.count;
end
$$;

-- Symbols that were purged after some of their ticks were dropped: their oldest bars wait for forget_purged.
create table purged (symbol text primary key);
comment on table purged is 'Purged symbols some of whose bars no repair reaches; maintain deletes them within seconds.';

create function forget_bars(the_symbol text) returns void
language sql set search_path = barwright, pg_temp
begin atomic
    insert into purged (symbol) select the_symbol where exists (select from policy where since is not null) on conflict do nothing;
end;

-- Delete what is left of purged symbols, as whoever calls it; from the hypertables, whose changes the extension follows.
create function forget_purged() returns void
language plpgsql set search_path = pg_catalog, barwright, pg_temp
as $$
declare
    symbols text[] := array(select symbol from purged);
    l record;
begin
    if symbols = '{}' then
        return;
    end if;
    for l in select name, computable_from(name) as line from level where computable_from(name) is not null order by ordinal loop
        execute format('delete from %s where symbol = any($1) and bucket < $2', hypertable_of(l.name)) using symbols, l.line;
    end loop;
    delete from purged where symbol = any(symbols);
end
$$;

-- How wide chunks should be: by the data rate, a day at most, since whole chunks are compressed and dropped.
create function fitting_width() returns interval
language sql stable set search_path = barwright, pg_temp
return width_by_rate(array['1 hour', '2 hours', '4 hours', '6 hours', '12 hours', '1 day']::interval[]);

-- Chunks made from now on are this wide; those there are stay, and the extension cuts a new one where it would overlap.
create function set_width(the_width interval) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
begin
    if the_width is distinct from (
        select time_interval from timescaledb_information.dimensions
        where hypertable_schema = 'barwright' and hypertable_name = 'ticks' and column_name = 'ts'
    ) then
        execute format('select %s.set_chunk_time_interval(''barwright.ticks'', $1)', extension_schema()) using the_width;
    end if;
    update policy set width = the_width where name = 'ticks';
end
$$;

-- The extension's own refresh looks this far back, for the day maintain is dead; a level's never below a day above what is
-- dropped of what it is made of: it would delete the bars. As whoever calls it.
create function set_refresh_floor(days double precision) returns void
language plpgsql set search_path = pg_catalog, barwright, pg_temp
as $$
declare
    floor record;
    schema constant text := extension_schema();
begin
    for floor in
        select a.aggregate, least(make_interval(secs => 86400 * days), source.keep - interval '1 day') as back,
               j.config ->> 'start_offset' as now
        from level as l
        join policy as source on source.name = coalesce(l.parent, 'ticks')
        cross join lateral aggregate_of(l.name) as a
        left join timescaledb_information.jobs as j
            on format('%I.%I', j.hypertable_schema, j.hypertable_name)::regclass in (a.materialized, a.aggregate)
            and j.proc_name = 'policy_refresh_continuous_aggregate'
        order by l.ordinal
    loop
        continue when floor.back = floor.now::interval;
        execute format('select %s.remove_continuous_aggregate_policy($1, if_exists => true)', schema) using floor.aggregate;
        execute format('
            select %s.add_continuous_aggregate_policy(
                $1, start_offset => $2, end_offset => interval ''1 hour'', schedule_interval => interval ''1 hour'',
                initial_start => now() + interval ''1 hour'', buckets_per_batch => 240, refresh_newest_first => false
            )', schema) using floor.aggregate, floor.back;
    end loop;
end
$$;

-- What the ticks and each level take: estimated rows and bytes, in all and of what is compressed (`plain_bytes`: what that
-- took before), chunks, the times they reach over, and the ends of the oldest chunk and of the oldest that is not compressed.
create function storage() returns table (
    name text, rows bigint, bytes bigint, index_bytes bigint, chunks bigint, compressed_chunks bigint, compressed_rows bigint,
    compressed_bytes bigint, plain_bytes bigint, oldest timestamptz, newest timestamptz, first_until timestamptz,
    loose_until timestamptz
)
language plpgsql stable set search_path = barwright, pg_temp
as $$
declare
    -- The catalog's name of a chunk, which has changed.
    relation constant text := case when exists (
        select from pg_attribute where attrelid = '_timescaledb_catalog.chunk'::regclass and attname = 'relid'
    ) then 'k.relid' else 'format(''%I.%I'', k.schema_name, k.table_name)::regclass' end;
begin
    return query execute format('
        with packed_rows as (
            select %2$s as chunk, z.numrows_pre_compression as rows
            from _timescaledb_catalog.compression_chunk_size as z join _timescaledb_catalog.chunk as k on k.id = z.chunk_id
        ), chunk as (
            select p.name, c.*, coalesce(packed_rows.rows, greatest(0, relation.reltuples)) as rows,
                   size.total_bytes as bytes, size.index_bytes, packed.before_compression_total_bytes as plain
            from policy as p
            cross join lateral chunks_of(p.name) as c
            join pg_class as relation on relation.oid = c.chunk
            left join packed_rows on packed_rows.chunk = c.chunk
            join lateral (
                select format(''%%I.%%I'', d.chunk_schema, d.chunk_name)::regclass as chunk, d.total_bytes, d.index_bytes
                from %1$s.chunks_detailed_size(hypertable_of(p.name)) as d
            ) as size on size.chunk = c.chunk
            left join lateral (
                select format(''%%I.%%I'', s.chunk_schema, s.chunk_name)::regclass as chunk, s.before_compression_total_bytes
                from %1$s.chunk_compression_stats(hypertable_of(p.name)) as s
            ) as packed on packed.chunk = c.chunk
        )
        select name, sum(rows)::bigint, sum(bytes)::bigint, sum(index_bytes)::bigint, count(*),
               count(*) filter (where is_compressed), coalesce(sum(rows) filter (where is_compressed), 0)::bigint,
               coalesce(sum(bytes) filter (where is_compressed), 0)::bigint,
               coalesce(sum(plain) filter (where is_compressed), 0)::bigint, min(range_start), max(range_end),
               min(range_end), min(range_end) filter (where not is_compressed)
        from chunk group by name',
        extension_schema(), relation);
end
$$;
