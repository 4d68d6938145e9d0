-- What Citus needed beside distribution.sql.

-- Distribute what is not yet, where the server has Citus and workers. Rows are moved. Harmless where there is nothing to
-- do, so every migration ends with it; whoever adds the first workers later calls it. Returns whether we are distributed.
create or replace function distribute() returns boolean
language plpgsql set search_path = barwright, public, pg_temp
as $$
declare
    name text;
    owner constant text := current_setting('barwright.role_prefix', true) || '_owner';
begin
    if (select engine from meta) <> 'postgres' or to_regclass('pg_dist_node') is null then
        return false;
    end if;
    if not exists (select from pg_dist_node where isactive and shouldhaveshards) then
        return false;
    end if;
    -- The coordinator reaches the workers as whoever runs a statement, and most functions run as the owner.
    if exists (select from pg_roles where rolname = owner and not rolcanlogin and pg_has_role(oid, 'set')) then
        begin
            execute format('alter role %I login', owner);
        exception when insufficient_privilege then
            raise warning 'rows stay where they are: the coordinator reaches the workers as role %, which may not log in', owner
            using errcode = 'BW000', hint = format('Have an administrator run "alter role %I login", and migrate again.', owner);
            return false;
        end;
    end if;
    perform unparse_functions();
    -- One connection to each worker, so that what is rolled up and how far are one transaction there too: a reader would
    -- else see bars twice, or not at all, for a moment.
    for name in select p.oid::regprocedure from pg_proc as p where p.pronamespace = 'barwright'::regnamespace
        and p.proname in ('advance', 'repair', 'begin_repair', 'lay_coarse')
    loop
        execute format('alter function %s set citus.multi_shard_modify_mode = sequential', name);
    end loop;
    -- Planned for a symbol, so that one worker is asked.
    for name in select p.oid::regprocedure from pg_proc as p where p.pronamespace = 'barwright'::regnamespace
        and p.proname in ('kept_live', 'audit_sample')
    loop
        execute format('alter function %s set plan_cache_mode = force_custom_plan', name);
    end loop;
    if exists (select from pg_dist_partition where logicalrelid = 'ticks'::regclass) then
        return true;
    end if;
    -- Tables made in this transaction are on one connection of each node, and what is moved must be too.
    set local citus.multi_shard_modify_mode = sequential;
    set local client_min_messages = warning;
    perform create_reference_table('level');
    perform create_distributed_table('ticks', 'symbol');
    perform create_distributed_table('rollup_' || l.name, 'symbol', colocate_with => 'ticks') from level as l;
    perform create_distributed_function('vwap(numeric, numeric)');
    -- Rows that were moved still fill the coordinator's disk.
    perform truncate_local_data_after_distributing_table(relid)
    from (
        select relid from pg_partition_tree('ticks') where isleaf and relid <> 'ticks'::regclass
        union all
        select to_regclass('rollup_' || l.name) from level as l
    ) as moved;
    return true;
end
$$;

-- Without Citus planning each time doubles what they take; distribute() sets it where it is needed.
alter function kept_live reset plan_cache_mode;
alter function audit_sample reset plan_cache_mode;
