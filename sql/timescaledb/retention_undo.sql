-- Undo retention.sql: everything is uncompressed again (which takes its room and time), and the refresh policies look 30
-- days back.
do $$
declare
    a record;
    c record;
begin
    update policy set keep = null;
    perform set_refresh_floor(30);
    perform set_width('1 day');
    for c in select chunk from policy cross join lateral chunks_of(policy.name) where is_compressed loop
        execute format('select %s.decompress_chunk($1)', extension_schema()) using c.chunk;
    end loop;
    for a in
        select format('%I.%I', view_schema, view_name) as aggregate from timescaledb_information.continuous_aggregates
        where view_schema = 'barwright' and compression_enabled
    loop
        execute format('alter materialized view %s set (timescaledb.enable_columnstore = false)', a.aggregate);
    end loop;
    alter table ticks set (timescaledb.enable_columnstore = false);
end
$$;
drop function storage, forget_purged, forget_bars, note_dropped, droppable_chunks, drop_bars, drop_ticks, compress_bars,
    compress_ticks, compressible, chunks_of, hypertable_of, aggregate_of, set_refresh_floor, set_width, fitting_width,
    extension_schema;
drop table purged;
