-- Engine timescaledb: ticks in a hypertable, one chunk a day.
create table ticks (like tick_shape including all);
select create_hypertable('ticks', by_range('ts', interval '1 day'), create_default_indexes => false);
create unique index ticks_key on ticks (symbol, ts, seq);
drop table tick_shape;

-- Nothing to prepare: the hypertable makes its chunks itself.
create function prepare_ticks(times timestamptz[]) returns void
language sql set search_path = barwright, pg_temp
begin atomic
end;

-- The extension's own watermark of a level, where its materialised part ends and the live part begins. It stops at the
-- last bucket with data, and a policy can move it without our knowledge.
create function materialized_until(level_name text) returns timestamptz
language sql stable set search_path = barwright, pg_temp
return (
    select _timescaledb_functions.to_timestamp(w.watermark)
    from _timescaledb_catalog.continuous_agg as c
    join _timescaledb_catalog.continuous_aggs_watermark as w using (mat_hypertable_id)
    where c.user_view_schema = 'barwright' and c.user_view_name = 'ohlcv_' || level_name
);

-- Ticks below this time are late: the aggregates may already have passed them, by our refresh or by a policy's.
create function late_below() returns timestamptz
language sql stable set search_path = barwright, pg_temp
return greatest((select sealed from level where name = '1m'), materialized_until('1m'));
