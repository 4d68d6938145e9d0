-- The roles go, unless another database of this server, or something of somebody's own, still needs them.
do $$
declare
    prefix constant text := current_setting('barwright.role_prefix');
    role text;
begin
    foreach role in array array['owner', 'feed', 'ingest', 'maintain', 'api', 'read'] loop
        role := prefix || '_' || role;
        continue when to_regrole(quote_ident(role)) is null;
        begin
            if to_regnamespace('barwright') is not null then
                execute format('revoke all on schema barwright from %I', role);
            end if;
            execute format('drop role %I', role);
        exception when dependent_objects_still_exist or insufficient_privilege then
            raise notice 'role % stays: %', role, sqlerrm;
        end;
    end loop;
end
$$;
