-- The database roles, named after the setting barwright.role_prefix. They belong to the whole server, and what one of
-- them may do is in grants.sql. Idempotent: what is there is left as it is, so an administrator's changes stay.
--
-- A role of each process, and one for people and Grafana (read). The owner has no login: nobody works as the owner. Who
-- migrates needs no superuser: CREATEROLE will do (PostgreSQL 16 gives it ADMIN on the roles it makes, and with that it
-- makes itself a member of the two that own something). Who may not even that is told, and goes on without roles.
--
-- The timeouts are a seat belt, since whoever is logged in may set them back; the grants are the boundary.
do $$
declare
    prefix constant text := current_setting('barwright.role_prefix');
    kind text;
    settings text[];
    setting text;
    name text;
begin
    for kind, settings in values
        ('owner', '{}'::text[]),
        ('feed', array['statement_timeout = ''60s''', 'lock_timeout = ''30s''']),
        -- One batch is 10,000 rows; what waits longer for a lock waits for a dead process.
        ('ingest', array['statement_timeout = ''5min''', 'lock_timeout = ''60s''']),
        -- Refreshing what an import of years brought takes as long as it takes.
        ('maintain', array['lock_timeout = ''60s''']),
        -- The API sets shorter ones for what it reads (5 s); a purge takes longest.
        ('api', array['statement_timeout = ''60s''', 'lock_timeout = ''5s''']),
        ('read', array[
            'default_transaction_read_only = on', 'statement_timeout = ''30s''', 'lock_timeout = ''5s''',
            'idle_session_timeout = ''1h''', 'temp_file_limit = ''1GB'''
        ])
    loop
        name := prefix || '_' || kind;
        if kind <> 'owner' then
            settings := settings || array[
                'search_path = barwright, public', 'idle_in_transaction_session_timeout = ''60s'''
            ];
        end if;
        if to_regrole(quote_ident(name)) is null then
            begin
                execute format('create role %I %s', name, case kind
                    when 'owner' then 'nologin'
                    when 'read' then 'login connection limit 20'
                    else 'login'
                end);
                foreach setting in array settings loop
                    begin
                        execute format('alter role %I set %s', name, setting);
                    exception when insufficient_privilege then
                        raise notice '% is for superusers to set: role % goes without', setting, name;
                    end;
                end loop;
            exception
                when insufficient_privilege then
                    raise warning 'no database roles: % may not create roles', current_user
                    using errcode = 'BW000',
                        hint = 'Have an administrator make them, or give it CREATEROLE, and migrate again.';
                    return;
                when duplicate_object or unique_violation then
                    null;  -- another database's migration has just made it
            end;
        end if;
        -- Who migrates must own what it changes, and hand over what it makes.
        if kind in ('owner', 'maintain')
            and not (pg_has_role(current_user, name, 'usage') and pg_has_role(current_user, name, 'set'))
        then
            begin
                execute format('grant %I to %I with inherit true, set true', name, current_user);
            exception when insufficient_privilege then
                raise warning '% is no member of role %: what it makes stays its own', current_user, name
                using errcode = 'BW000', hint = format('grant %I to %I with inherit true, set true', name, current_user);
            end;
        end if;
    end loop;
end
$$;
