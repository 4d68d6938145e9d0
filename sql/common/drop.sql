-- Undo 0001: the schema's contents go with the schema (env.py drops it once no revision is left).
do $$
begin
    execute format('alter database %I reset search_path', current_database());
exception when insufficient_privilege then
    null;
end
$$;
