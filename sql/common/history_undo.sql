-- Undo 0002 of what both engines share. Hours and days without minutes are lost with it.
drop view gaps, coverage;
do $$
declare
    name text;
begin
    -- Functions this revision made; those of 0001 do not depend on them.
    foreach name in array array(
        select p.oid::regprocedure::text from pg_proc as p
        where p.pronamespace = 'barwright'::regnamespace and p.proname in (
            'whole_minutes', 'day_floor', 'day_ceil', 'covered_live', 'covered', 'missing', 'history_bound', 'hold_symbol',
            'register_symbol', 'stop_symbol', 'purge_symbol', 'renew_epoch', 'file_tasks', 'unfiled', 'pieces',
            'request_tasks', 'file_corrections', 'claim_task', 'renew_task', 'advance_task', 'fail_task', 'coarsen',
            'finish_tasks', 'land_session', 'cut', 'kept_live', 'has_bars', 'lock_tasks', 'land_import', 'prove', 'hold_coverage', 'disprove_coarse',
            'land_coarse', 'coarse_changed', 'lay_coarse', 'repair_history', 'finish_history', 'audit_bucket', 'audit_sample',
            'bar_of_ticks', 'finish_findings'
        )
    ) loop
        execute format('drop function if exists %s cascade', name);
    end loop;
end
$$;
alter table late_range drop column forced;
drop table live_session, imported_span, uncovered, backfill_task, coarse_bars, settled_day, audit_finding, audit, actor;
update symbols set seq_rule = 'seq' where seq_rule = 'time';
alter table symbols
    drop column history_source, drop column history_end, drop column grace, drop column stopped_at,
    drop column minutes_since, drop column hours_since,
    drop constraint symbols_seq_rule_check,
    add constraint symbols_seq_rule_check check (seq_rule in ('seq', 'id', 'offset'));
