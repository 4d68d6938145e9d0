-- `select * from ohlcv_1m` works in psql without a schema name. The owner of the database may set it; who may not is told.
do $$
begin
    execute format('alter database %I set search_path = "$user", public, barwright', current_database());
exception when insufficient_privilege then
    raise notice 'not the owner of %: use "set search_path = public, barwright" to find ohlcv_1m', current_database();
end
$$;
