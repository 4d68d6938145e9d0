-- Undo retention.sql; partitions stay as wide as they are.
alter function repair() set enable_hashjoin = off set enable_mergejoin = off;
drop function storage, forget_bars, drop_bars, drop_ticks, compressible, set_refresh_floor, set_width, fitting_width,
    tick_partitions;
