-- no_hurry: a dump takes longer than a transaction of ours may stand idle
set idle_in_transaction_session_timeout = 0;

-- begin: one snapshot, for the dump and for what is told of it
begin isolation level repeatable read read only;

-- snapshot: its name, under which the dump reads the same
select pg_export_snapshot();

-- facts: what is backed up
select
    clock_timestamp() as made_at,
    (select version_num from barwright.alembic_version) as revision,
    engine,
    epoch,
    rev,
    current_setting('server_version_num')::integer / 10000 as postgres,
    e.extversion as timescaledb,
    e.extnamespace::regnamespace::text as timescaledb_schema,
    (select watermark from level where name = '1m') as closed_until
from meta left join pg_extension as e on e.extname = 'timescaledb' and engine = 'timescaledb';

-- positions: where ingest reads on
select topic, partition, topic_id::text, next_offset from ingest_offset order by topic, partition;

-- owners: the database roles that TimescaleDB's jobs belong to (those below 1000 are its own)
select distinct owner::text from timescaledb_information.jobs where job_id >= 1000 order by 1;

-- role_prefix: how the database roles that common/roles.sql makes are named
select set_config('barwright.role_prefix', %(prefix)s, false);

-- absent: which of these roles the server has not
select name from unnest(%(names)s::text[]) as name where to_regrole(quote_ident(name)) is null;

-- target: what a backup is to be restored into: the server's major version, its TimescaleDB, the versions it could install,
-- whether Barwright's schema or a hypertable is there, and who of ours is connected
select
    current_setting('server_version_num')::integer / 10000,
    (select extversion from pg_extension where extname = 'timescaledb'),
    array(select version from pg_available_extension_versions where name = 'timescaledb'),
    exists (
        select from pg_class as c where c.relnamespace = to_regnamespace('barwright')
        and not exists (select from pg_depend as d where d.objid = c.oid and d.deptype = 'e')
    ),
    array(
        select distinct application_name from pg_stat_activity
        where datname = current_database() and application_name like 'barwright %' and pid <> pg_backend_pid() order by 1
    );

-- hypertables: how many there are (only where the extension is)
select count(*) from _timescaledb_catalog.hypertable;

-- schemas: those that are there
select nspname from pg_namespace;

-- pre_restore: stop TimescaleDB's workers and keep it from minding what is restored
select timescaledb_pre_restore();

-- post_restore: and let it go on
select timescaledb_post_restore();

-- renew_epoch: an older state has come back: nothing that is cached or streamed of its lost future may come alive
update meta set epoch = replace(gen_random_uuid()::text, '-', '') returning epoch;

-- analyze: the planner's statistics are not part of a dump
analyze;
