-- Engine timescaledb: what compresses and refreshes finds our own aggregates by name. Others' were looked at too, and where
-- maintain may not use their schema, that ended every round of policies: nothing was compressed or dropped.

-- Compress a chunk of a level, or what came to it since, as whoever calls it: the aggregates are maintain's own (so the
-- search path is not that of functions that run as their owner).
create or replace function compress_bars(the_name text, the_chunk regclass) returns void
language plpgsql set search_path = pg_catalog, barwright, pg_temp set lock_timeout = '5s'
as $$
begin
    if not (
        select compression_enabled from timescaledb_information.continuous_aggregates
        where view_schema = 'barwright' and view_name in ('ohlcv_' || the_name, 'cagg_' || the_name)
    ) then
        execute format('alter materialized view %s set (timescaledb.enable_columnstore, '
                       'timescaledb.segmentby = ''symbol'', timescaledb.orderby = ''bucket'')',
                       (select aggregate from aggregate_of(the_name)));
    end if;
    execute format('select %s.compress_chunk($1)', extension_schema()) using the_chunk;
end
$$;

-- The extension's own refresh looks this far back, for the day maintain is dead; a level's never below a day above what is
-- dropped of what it is made of: it would delete the bars. As whoever calls it.
create or replace function set_refresh_floor(days double precision) returns void
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
            on j.proc_name = 'policy_refresh_continuous_aggregate' and exists (
                select from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
                where c.oid in (a.materialized, a.aggregate) and n.nspname = j.hypertable_schema
                and c.relname = j.hypertable_name
            )
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
