-- Who owns what, and which database role may do what: run after every upgrade, by the roles that are there (roles.sql).
-- Idempotent: only what differs is changed. Later revisions' objects fall under the rules without a word of theirs; what
-- they need beyond is a line in the lists below. Only what the roles of ours and PUBLIC have is touched.
--
-- Everything belongs to the owner, who has no login. Continuous aggregates belong to maintain: TimescaleDB lets only their
-- owner refresh them, in no function (a refresh is several transactions), and runs a policy's job as that owner, which
-- must have LOGIN. So maintain can spoil bars, which can be made again, and has no right to ticks or keys; but a view's
-- owner decides what reading it runs, also within functions of the owner: its password is worth the owner's.
--
-- Functions that pin their search path run as the owner (SECURITY DEFINER): a role changes by them what it may, in the way
-- it may, and has no right to the tables below.

-- Hand over.
do $$
declare
    prefix constant text := current_setting('barwright.role_prefix');
    owner constant text := prefix || '_owner';
    maintain constant text := prefix || '_maintain';
    aggregates oid[] := '{}';
    refused text[] := '{}';
    o record;
begin
    if to_regrole(quote_ident(owner)) is null or not pg_has_role(current_user, owner, 'set')
        or not pg_has_role(current_user, maintain, 'set')
    then
        return;
    end if;
    execute format('grant usage, create on schema barwright to %I', owner);
    -- Whose objects those become must be allowed to make some here; maintain only now.
    execute format('grant create on schema barwright to %I', maintain);
    if exists (select from pg_extension where extname = 'timescaledb') then
        select coalesce(array_agg(format('%I.%I', view_schema, view_name)::regclass::oid), '{}') into aggregates
        from timescaledb_information.continuous_aggregates where view_schema = 'barwright';
    end if;
    for o in
        select *, case when class = 'pg_class'::regclass and id = any(aggregates) then maintain else owner end as heir
        from (
            select 'pg_class'::regclass as class, oid as id, relowner as holder, oid::regclass::text as name, case
                when oid = any(aggregates) then 'materialized view'
                else (jsonb '{"r": "table", "p": "table", "f": "foreign table", "v": "view", "m": "materialized view",
                              "S": "sequence"}') ->> relkind::text
            end as kind
            from pg_class where relnamespace = 'barwright'::regnamespace
            union all
            select 'pg_proc'::regclass, oid, proowner, oid::regprocedure::text, 'routine'
            from pg_proc where pronamespace = 'barwright'::regnamespace
            union all
            select 'pg_type'::regclass, t.oid, typowner, t.oid::regtype::text, 'type'
            from pg_type as t left join pg_class as c on c.oid = t.typrelid
            where typnamespace = 'barwright'::regnamespace and (typtype in ('d', 'e', 'r') or c.relkind = 'c')
        ) as object
        where kind is not null
        -- What belongs to an extension is its own; a column's sequence goes with its table.
        and not exists (
            select from pg_depend where classid = class and objid = id and objsubid = 0 and deptype in ('e', 'a', 'i')
            and (deptype = 'e' or kind = 'sequence')
        )
        order by class, id
    loop
        continue when o.holder = to_regrole(quote_ident(o.heir)) or not pg_has_role(current_user, o.holder, 'usage');
        begin
            execute format('alter %s %s owner to %I', o.kind, o.name, o.heir);
        exception when insufficient_privilege then
            refused := refused || o.name;
        end;
    end loop;
    execute format('revoke create on schema barwright from %I', maintain);
    if refused <> '{}' then
        -- By who is no superuser, on a database that was filled before there were roles.
        raise warning 'these stay with %, and so maintain runs as %: %', current_user, current_user,
            array_to_string(refused, ', ')
        using errcode = 'BW000', hint = format(
            'A superuser can run "grant create on schema _timescaledb_internal to %I, %I"; then migrate again.',
            owner, maintain
        );
    end if;
end
$$;

-- Functions that pin their search path run as their owner. Procedures cannot: those that commit must not.
do $$
declare
    f regprocedure;
begin
    for f in
        select oid from pg_proc
        where pronamespace = 'barwright'::regnamespace and prokind = 'f' and not prosecdef
        and 'search_path=barwright, pg_temp' = any(proconfig) and pg_has_role(current_user, proowner, 'usage')
        -- Citus lets one transaction change a row's table as one user only, and ingest copies as itself.
        and not (to_regclass('pg_dist_node') is not null and proname = 'land_import')
    loop
        execute format('alter function %s security definer', f);
    end loop;
end
$$;

-- Grant and revoke what differs from these lists.
do $$
declare
    prefix constant text := current_setting('barwright.role_prefix');
    is_citus constant boolean := to_regclass('pg_dist_node') is not null;
    statement text;
begin
    for statement in
        with kinds (kind) as (
            values ('feed'), ('ingest'), ('maintain'), ('api'), ('read')
        ), roles as (
            select kind, to_regrole(quote_ident(prefix || '_' || kind))::oid as role from kinds
            where to_regrole(quote_ident(prefix || '_' || kind)) is not null
        ), owner as (
            select to_regrole(quote_ident(prefix || '_owner'))::oid as role
        ),
        -- Tables and views: who may do what, and in which columns only. For those that are not named: all may look.
        tables (name, kind, privileges, columns) as (
            values
            ('meta', 'feed,ingest,maintain,api', 'select', null),
            ('alembic_version', 'feed,ingest,maintain,api', 'select', null),
            ('level', 'feed,ingest,maintain,api,read', 'select', null),
            ('level', 'maintain', 'update', 'watermark'),
            ('symbols', 'feed,ingest,maintain,api,read', 'select', null),
            ('symbols', 'ingest', 'insert', 'symbol,seq_rule'),
            ('symbols', 'ingest', 'update', 'seq_rule'),
            -- Imported bars replace others; what is deleted is so by land_import and purge_symbol.
            ('ticks', 'ingest', 'select,insert,update', null),
            ('ticks', 'maintain', 'select', null),
            ('ticks', 'api', 'select', null),
            ('ingest_offset', 'feed,ingest,maintain,api', 'select', null),
            ('ingest_offset', 'ingest', 'insert,update', null),
            ('ingest_offset', 'feed', 'delete', null),
            ('dead_letter', 'ingest', 'select,insert', null),
            ('dead_letter', 'ingest', 'update', 'resent_at'),
            ('late_range', 'ingest,maintain,api', 'select', null),
            ('late_range', 'ingest,maintain', 'insert', null),
            ('revision', 'maintain,api', 'select', null),
            ('revision', 'maintain', 'delete', null),
            ('live_session', 'ingest,maintain,api', 'select', null),
            ('live_session', 'ingest', 'update', 'n'),
            ('live_session', 'maintain', 'insert,delete', null),
            ('imported_span', 'ingest,maintain,api', 'select', null),
            ('uncovered', 'ingest,maintain,api', 'select', null),
            ('backfill_task', 'feed,ingest,maintain,api', 'select', null),
            ('backfill_task', 'maintain', 'delete', null),
            ('coarse_bars', 'maintain', 'select', null),
            ('settled_day', 'maintain', 'select', null),
            ('purged', 'maintain', 'select,delete', null),
            ('audit', 'maintain,api', 'select', null),
            ('audit_finding', 'maintain,api', 'select', null),
            ('actor', 'feed,ingest,maintain,api', 'select,insert,update,delete', null),
            ('api_key', 'api', 'select', null),
            ('api_key', 'api', 'update', 'revoked_at'),
            ('coverage', 'feed,ingest,maintain,api,read', 'select', null),
            ('gaps', 'feed,ingest,maintain,api,read', 'select', null)
        ),
        -- Functions: who may call them. Without a name here they are called by other functions only; those that are in
        -- neither list are for all processes. What a view calls, its reader must be allowed to call.
        functions (names, kind) as (
            values
            ('vwap,watermark,missing,history_bound,whole_minutes', 'feed,ingest,maintain,api,read'),
            ('late_below', 'ingest,maintain,api'),
            ('hold_seal,prepare_ticks,renew_epoch,land_session,cut,kept_live,has_bars,lock_tasks,land_import,'
             'land_coarse', 'ingest'),
            ('move_seal,materialized_until,advance,repair_history,finish_history,file_tasks,file_corrections,'
             'begin_repair,finish_repair,settle,finish_tasks,finish_findings,audit_bucket,audit_sample,day_floor', 'maintain'),
            ('apply_policies,set_refresh_floor,compressible,compress_ticks,compress_bars,drop_ticks,drop_bars,droppable_chunks,'
             'droppable_until,note_dropped,forget_purged,aggregate_of,hypertable_of,chunks_of,extension_schema', 'maintain'),
            ('hold_symbol,claim_task,renew_task,advance_task,fail_task,coarsen', 'feed'),
            ('covered_live,hold_symbol,register_symbol,stop_symbol,purge_symbol,file_tasks,request_tasks,make_key,'
             'redeem_link', 'api'),
            ('hold_maintenance,revise,repair,select_bars,day_ceil,covered,unfiled,pieces,'
             'hold_coverage,prove,disprove_coarse,coarse_changed,lay_coarse,bar_of_ticks,forget_bars,minutes_from,'
             'ticks_per_day,width_by_rate,fitting_width,set_width,tick_partitions,distribute,unparse_functions,distributed_sizes,'
             'table_size', '')
        ),
        relations as (
            select c.oid, c.relname::text as name, c.relkind, c.relowner, c.relacl
            from pg_class as c
            where c.relnamespace = 'barwright'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
            and not c.relispartition and pg_has_role(current_user, c.relowner, 'usage')
            and not exists (select from pg_depend where classid = 'pg_class'::regclass and objid = c.oid and deptype = 'e')
        ), wanted as (
            select r.oid, roles.role, upper(privilege) as privilege, coalesce(c.name, '') as column
            from tables as t join relations as r on r.name = t.name
            cross join unnest(string_to_array(t.kind, ',')) as k (kind) join roles on roles.kind = k.kind
            cross join unnest(string_to_array(t.privileges, ',')) as privilege
            left join unnest(string_to_array(t.columns, ',')) as c (name) on true
            union
            select r.oid, roles.role, 'SELECT', ''
            from relations as r cross join roles
            where r.name ~ '^ohlcv_' and kind in ('maintain', 'api', 'read')
            or r.name !~ '^(ohlcv|live|rollup|cagg)_' and r.name not in (select name from tables) and kind <> 'read'
            union
            -- Citus' workers know no view: there its reader reads its tables.
            select r.oid, roles.role, 'SELECT', ''
            from relations as r cross join roles
            where is_citus and r.name ~ '^(ticks$|level$|rollup_)' and kind in ('maintain', 'api', 'read')
            union
            -- There land_import runs as ingest.
            select r.oid, roles.role, privilege, ''
            from (
                values ('ticks', 'DELETE'), ('coarse_bars', 'SELECT'), ('settled_day', 'SELECT'), ('settled_day', 'INSERT'),
                       ('backfill_task', 'UPDATE')
            ) as needed (name, privilege)
            join relations as r using (name) join roles on roles.kind = 'ingest'
            where is_citus
            union
            -- What could not be handed over, and what belongs to maintain.
            select r.oid, owner.role, privilege, ''
            from relations as r cross join owner
            cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as privilege
            where owner.role <> r.relowner and (privilege = 'SELECT' or r.relkind in ('r', 'p'))
        ), given as (
            select r.oid, a.grantee as role, a.privilege_type as privilege, '' as column
            from relations as r cross join aclexplode(r.relacl) as a where a.grantee <> r.relowner
            union
            select r.oid, a.grantee, a.privilege_type, attname::text
            from relations as r join pg_attribute on attrelid = r.oid cross join aclexplode(attacl) as a
            where attnum > 0 and not attisdropped
        ), routines as (
            select p.oid, p.proname::text as name, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)) as acl
            from pg_proc as p
            where p.pronamespace = 'barwright'::regnamespace and pg_has_role(current_user, p.proowner, 'usage')
            and not exists (select from pg_depend where classid = 'pg_proc'::regclass and objid = p.oid and deptype = 'e')
        ), callers as (
            select r.oid, roles.role from functions as f
            join routines as r on r.name = any(string_to_array(f.names, ','))
            cross join unnest(string_to_array(f.kind, ',')) as k (kind) join roles on roles.kind = k.kind
            union
            select r.oid, roles.role from routines as r join roles on roles.kind <> 'read'
            where r.name not in (select unnest(string_to_array(names, ',')) from functions)
            union
            select r.oid, roles.role from routines as r join roles on roles.kind = 'ingest'
            where is_citus and r.name in ('prove', 'covered', 'day_floor', 'day_ceil')
            union
            select r.oid, owner.role from routines as r cross join owner where owner.role <> r.proowner
        ), calls as (
            select r.oid, a.grantee as role from routines as r cross join aclexplode(r.acl) as a where a.grantee <> r.proowner
        ), ours as (
            select role from roles union all select role from owner union all select 0
        ), on_tables as (
            select 'grant' as verb, 'to' as word, missing.* from (select * from wanted except select * from given) as missing
            union all
            select 'revoke', 'from', surplus.* from (
                select given.* from given join ours using (role) except select * from wanted
            ) as surplus
        ), on_routines as (
            select 'grant' as verb, 'to' as word, missing.* from (select * from callers except select * from calls) as missing
            union all
            select 'revoke', 'from', surplus.* from (
                select calls.* from calls join ours using (role) except select * from callers
            ) as surplus
        )
        select format(
            '%s %s %s on barwright.%I %s %s', verb, privilege, case when t.column <> '' then format('(%I)', t.column) end,
            r.name, word, case when role = 0 then 'public' else role::regrole::text end
        ) from on_tables as t join relations as r using (oid)
        where role is not null
        union all
        select format(
            '%s execute on routine %s %s %s', verb, oid::regprocedure, word,
            case when role = 0 then 'public' else role::regrole::text end
        ) from on_routines where role is not null
        union all
        select format('grant usage on schema barwright to %s', role::regrole) from roles
        where not has_schema_privilege(role, 'barwright', 'usage')
    loop
        execute statement;
    end loop;
    revoke create on schema barwright from public;
end
$$;
