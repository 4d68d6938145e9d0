-- Undo retention.sql: what was dropped stays dropped, and nothing knows any more where that is.
drop function apply_policies, ticks_per_day, width_by_rate, minutes_from, droppable_until, computable_from;
drop table policy;
