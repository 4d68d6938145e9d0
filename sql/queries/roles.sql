-- roles: the database roles there are: login, connections now and at most (-1: any number), whether it may be worked with
-- here, and their own settings
select rolname, rolcanlogin,
       (select count(*) from pg_stat_activity where usesysid = r.oid)::integer, rolconnlimit,
       coalesce(has_schema_privilege(r.oid, to_regnamespace('barwright')::oid, 'usage'), false),
       (select setconfig from pg_db_role_setting where setrole = r.oid and setdatabase = 0)
from pg_roles as r where rolname = any(%(names)s) order by array_position(%(names)s, rolname::text);

-- sees_passwords: whether who asks may know which roles have a password
select has_table_privilege('pg_authid', 'select');

-- passwords: which of these roles have one
select rolname from pg_authid where rolname = any(%(names)s) and rolpassword is not null;

-- may_refresh: whether who asks may roll bars up: TimescaleDB lets only an aggregate's owner refresh it
select engine <> 'timescaledb' or pg_has_role(relowner, 'usage') from meta cross join pg_class
where oid = 'barwright.ohlcv_1m'::regclass;
