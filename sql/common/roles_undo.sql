-- Undo 0004: everything belongs to who migrates and PUBLIC may call the functions, as before there were roles.
do $$
declare
    prefix constant text := current_setting('barwright.role_prefix');
    roles constant oid[] := array(
        select oid from pg_roles
        where rolname in (
            prefix || '_owner', prefix || '_feed', prefix || '_ingest', prefix || '_maintain', prefix || '_api', prefix || '_read'
        )
    );
    statement text;
begin
    for statement in
        select format('alter function %s security invoker', oid::regprocedure) from pg_proc
        where pronamespace = 'barwright'::regnamespace and prokind = 'f' and prosecdef
        and 'search_path=barwright, pg_temp' = any(proconfig) and pg_has_role(current_user, proowner, 'usage')
        union all
        select format('grant execute on routine %s to public', oid::regprocedure) from pg_proc
        where pronamespace = 'barwright'::regnamespace and pg_has_role(current_user, proowner, 'usage')
        and not exists (select from pg_depend where classid = 'pg_proc'::regclass and objid = oid and deptype = 'e')
        union all
        select format('revoke all on barwright.%I from %s', relname, role::regrole)
        from pg_class cross join unnest(roles) as role
        where relnamespace = 'barwright'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') and role <> relowner
        and exists (
            select from aclexplode(relacl) where grantee = role
            union all
            select from pg_attribute cross join aclexplode(attacl) where attrelid = pg_class.oid and grantee = role
        )
        union all
        select format('revoke execute on routine %s from %s', oid::regprocedure, role::regrole)
        from pg_proc cross join unnest(roles) as role
        where pronamespace = 'barwright'::regnamespace and role <> proowner
        and exists (select from aclexplode(proacl) where grantee = role)
    loop
        execute statement;
    end loop;
end
$$;

-- Back to who migrates.
do $$
declare
    prefix constant text := current_setting('barwright.role_prefix');
    aggregates oid[] := '{}';
    statement text;
begin
    if exists (select from pg_extension where extname = 'timescaledb') then
        select coalesce(array_agg(format('%I.%I', view_schema, view_name)::regclass::oid), '{}') into aggregates
        from timescaledb_information.continuous_aggregates where view_schema = 'barwright';
    end if;
    for statement in
        select format('alter %s %s owner to current_user', kind, name) from (
            select relowner as holder, oid::regclass::text as name, case
                when oid = any(aggregates) then 'materialized view'
                when relkind in ('r', 'p') then 'table'
                when relkind = 'v' then 'view'
            end as kind
            from pg_class where relnamespace = 'barwright'::regnamespace
            union all
            select proowner, oid::regprocedure::text, 'routine' from pg_proc where pronamespace = 'barwright'::regnamespace
        ) as object
        where kind is not null and holder::regrole::text in (quote_ident(prefix || '_owner'), quote_ident(prefix || '_maintain'))
    loop
        begin
            execute statement;
        exception when insufficient_privilege then
            raise notice 'not done: %', statement;  -- chunks of TimescaleDB, by who is no superuser
        end;
    end loop;
end
$$;
