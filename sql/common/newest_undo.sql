-- Undo newest.sql.
drop function newest_ticks, newest_minutes, newest_bars;
