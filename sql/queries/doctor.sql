-- server: what the database is: engine, PostgreSQL's number and name, TimescaleDB's version and edition, schema's revision,
-- clock, whether it is a standby, who asks, connections open and allowed; by what text is sorted (PostgreSQL 16 calls the
-- column otherwise), and whether the operating system has come to sort otherwise since
select
    (select engine from meta),
    current_setting('server_version_num')::int,
    split_part(current_setting('server_version'), ' ', 1),
    (select extversion from pg_extension where extname = 'timescaledb'),
    current_setting('timescaledb.license', true),
    (select version_num from alembic_version),
    extract(epoch from clock_timestamp())::float8,
    pg_is_in_recovery(),
    current_user::text,
    (select count(*) from pg_stat_activity where backend_type = 'client backend'),
    current_setting('max_connections')::int,
    coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datcollate),
    coalesce(d.datcollversion <> pg_database_collation_actual_version(d.oid), false)
from pg_database d where d.datname = current_database();

-- clock: the database's clock, in seconds
select extract(epoch from clock_timestamp())::float8;

-- identity: the cluster that a standby shares with its primary, whose database this is, the schema's revision
select (select system_identifier from pg_control_system()), epoch, (select version_num from alembic_version) from meta;

-- standby: what speaks for and against reading from here: seconds since the newest commit that was replayed, whether replay
-- is paused, whether the log comes in, milliseconds that replay waits for a read (-1: for ever), whether the primary is told
-- of reads, who asks, whether that is a superuser, what of the API's it may not read
select
    extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8,
    pg_is_wal_replay_paused(),
    exists (select from pg_stat_wal_receiver),
    (select setting::int from pg_settings where name = 'max_standby_streaming_delay'),
    current_setting('hot_standby_feedback')::bool,
    current_user::text,
    (select rolsuper from pg_roles where rolname = current_user),
    (
        select array_agg(name order by name)
        from unnest('{ohlcv_1m,ohlcv_1d,level,revision,symbols,coverage,gaps,backfill_task}'::text[]) as name
        where has_table_privilege(to_regclass('barwright.' || name), 'select') is not true
    );

-- processes: which of our programs are connected, as whom, by how many connections, and whether that is a superuser
select
    regexp_replace(substr(application_name, 11), '-states$', '') as program, usename::text, count(*), bool_or(rolsuper)
from pg_stat_activity join pg_roles on rolname = usename
where datname = current_database() and application_name like 'barwright %%'
group by 1, 2;

-- states: what the processes told of their machines within the last minute: how many are in each state, the last error
select role, instance, machine, state, count(*), max(error) from actor where at > now() - interval '1 minute'
group by role, instance, machine, state order by role, instance, machine, state;

-- letters: dead letters that nobody has sent again: all, those of the last hour, and the newest one's reason
select count(*), count(*) filter (where received_at > now() - interval '1 hour'), (
    select reason from dead_letter where resent_at is null order by received_at desc limit 1
)
from dead_letter where resent_at is null;

-- failing: the error of an open backfill task that failed
select symbol, error from backfill_task where status not in ('landed', 'cancelled') and error is not null
order by priority desc, id limit 1;

-- aggregates: continuous aggregates of ours that do not show the live bar
select view_name::text from timescaledb_information.continuous_aggregates
where view_schema = 'barwright' and materialized_only order by 1;

-- jobs: TimescaleDB's background jobs on what is ours: what, on what, last status, failures of all runs, next start
select j.proc_name::text, coalesce(c.view_name, j.hypertable_name)::text, s.last_run_status, s.total_failures, j.next_start
from timescaledb_information.jobs as j
left join timescaledb_information.job_stats as s using (job_id)
left join timescaledb_information.continuous_aggregates as c
on c.materialization_hypertable_name = j.hypertable_name or c.view_name = j.hypertable_name
where j.hypertable_schema in ('barwright', '_timescaledb_internal') and j.proc_schema like '\_timescaledb%%' order by 1, 2;

-- privileges: what a role of the database lacks of the least it needs, or has although it must not: role, object, privilege,
-- whether it is too much
with needs (kind, object, privileges) as (
    values
    ('feed', 'symbols', 'select'), ('feed', 'backfill_task', 'select'), ('feed', 'actor', 'insert'),
    ('feed', 'claim_task', 'execute'), ('feed', 'advance_task', 'execute'),
    ('ingest', 'ticks', 'select,insert,update'), ('ingest', 'ingest_offset', 'select,insert,update'),
    ('ingest', 'dead_letter', 'insert'), ('ingest', 'late_range', 'insert'), ('ingest', 'actor', 'insert'),
    ('ingest', 'prepare_ticks', 'execute'), ('ingest', 'hold_seal', 'execute'), ('ingest', 'land_import', 'execute'),
    ('maintain', 'level', 'select'), ('maintain', 'late_range', 'select'), ('maintain', 'actor', 'insert'),
    ('maintain', 'move_seal', 'execute'), ('maintain', 'file_tasks', 'execute'), ('maintain', 'audit_bucket', 'execute'),
    ('api', 'revision', 'select'), ('api', 'level', 'select'), ('api', 'api_key', 'select'), ('api', 'ohlcv_1m', 'select'),
    ('api', 'ohlcv_1d', 'select'), ('api', 'register_symbol', 'execute'), ('api', 'file_tasks', 'execute'),
    ('read', 'ohlcv_1m', 'select'), ('read', 'ohlcv_1h', 'select'), ('read', 'ohlcv_1d', 'select'),
    ('read', 'ohlcv_1mo', 'select'), ('read', 'coverage', 'select'), ('read', 'gaps', 'select')
), must_not (kind, object, privileges) as (
    values
    ('feed', 'ticks', 'insert,update,delete'), ('maintain', 'ticks', 'insert,update,delete'),
    ('api', 'ticks', 'insert,update,delete'), ('read', 'ticks', 'insert,update,delete'),
    ('read', 'api_key', 'select'), ('read', 'dead_letter', 'select')
    -- Citus' workers know no views, so there a reader of bars reads what they are made of.
    union all select 'read', 'ticks', 'select' where to_regclass('pg_dist_node') is null
), rules as (
    select *, false as is_surplus from needs union all select *, true from must_not
), objects as (
    select relname::text as object, oid, 'table' as what from pg_class where relnamespace = 'barwright'::regnamespace
    union all
    select proname, oid, 'function' from pg_proc where pronamespace = 'barwright'::regnamespace
)
select rolname::text, object, privilege, is_surplus
from rules join objects using (object)
join pg_roles on rolname = %(prefix)s || '_' || kind
cross join unnest(string_to_array(privileges, ',')) as privilege
where is_surplus = case what
    when 'table' then has_table_privilege(pg_roles.oid, objects.oid, privilege)
    else has_function_privilege(pg_roles.oid, objects.oid, privilege)
end
order by 1, 2, 3;

-- roles: which of the database's roles are there
select rolname::text from pg_roles where rolname = any(%(names)s) order by 1;
