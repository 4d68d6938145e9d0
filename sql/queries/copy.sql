-- snapshot: everything is read as of one moment
begin isolation level repeatable read read only;

-- no_hurry: a copy takes longer than a transaction of ours may stand idle
set idle_in_transaction_session_timeout = 0;

-- facts: the engine, the revision of the schema, how many late ranges await repair, the first and the last tick
select
    (select engine from meta),
    (select version_num from alembic_version),
    (select count(*) from late_range),
    (select min(first.ts) from symbols as s cross join lateral (
        select ts from ticks as t where t.symbol = s.symbol order by ts limit 1
    ) as first),
    (select max(last.ts) from symbols as s cross join lateral (
        select ts from ticks as t where t.symbol = s.symbol order by ts desc limit 1
    ) as last);

-- is_used: whether anything has landed here
select exists (select from ticks) or exists (select from symbols);

-- tables: every table that both engines have, with its columns and the one that numbers its rows; not what a database says
-- of itself alone (its revisions and their counter), nor what is made again from ticks
select c.relname, array_agg(a.attname::text order by a.attnum), min(a.attname::text) filter (where a.attidentity <> '')
from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'barwright'::regnamespace and c.relkind = 'r' and not c.relispartition
and c.relname not in ('alembic_version', 'meta', 'level', 'revision', 'actor', 'ticks') and c.relname !~ '^rollup_'
group by c.relname order by c.relname;

-- columns: the columns of ticks
select array_agg(attname::text order by attnum) from pg_attribute
where attrelid = 'ticks'::regclass and attnum > 0 and not attisdropped;

-- number_on: let a table number its rows on from the highest
select setval(pg_get_serial_sequence(%(table)s, %(column)s), %(highest)s);

-- prepare_ticks: make room for the ticks of a span
select prepare_ticks(array(select generate_series(%(lo)s::timestamptz, %(hi)s::timestamptz - interval '1 us', interval '1 day')));

-- levels: how far each level is sealed
select name, sealed from level;

-- begin_at: seal a level as far as it was, and roll it up from here
update level set sealed = %(sealed)s, watermark = date_bin(width, %(first)s, '2000-01-03Z') where name = %(name)s;

-- has_lines: whether it is known what retention has dropped (since revision 0005)
select to_regprocedure('barwright.computable_from(text)') is not null;

-- lines: from when on each level can be made; null: nothing was dropped
select name, computable_from(name) from level;

-- no_lines: the same where nobody drops
select name, null::timestamptz from level;

-- coarse_days: days that have hours or days of their own, to be laid into the bars
select coarse_changed(symbol, day) from (
    select symbol, unnest(range_agg(tstzrange(day_floor(bucket), day_floor(bucket) + interval '1 day'))) as day
    from coarse_bars group by symbol
) as days;

-- homes: where each level keeps the bars that it has rolled up (engine timescaledb: the aggregate's own table)
select l.name, coalesce(
    (
        select format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
        from timescaledb_information.continuous_aggregates
        where view_schema = 'barwright' and view_name in ('ohlcv_' || l.name, 'cagg_' || l.name)
    ), 'rollup_' || l.name
)
from level as l order by ordinal;

-- homes_plain: the same where there is no TimescaleDB
select name, 'rollup_' || name from level order by ordinal;

-- engine: the engine of a database
select engine from meta;

-- pause_jobs: keep TimescaleDB's policies (its own jobs have numbers below 1000) from refreshing under our hands
select array_agg(j.job_id)
from timescaledb_information.jobs as j cross join lateral alter_job(j.job_id, scheduled => false) as paused
where j.job_id >= 1000 and j.scheduled;

-- running_jobs: those that had begun
select count(*) from timescaledb_information.job_stats where job_id >= 1000 and job_status = 'Running';

-- resume_jobs: let them go on
select alter_job(job_id, scheduled => true) from unnest(%(jobs)s::integer[]) as job_id;

-- oldest: the month of the oldest bar
select min(bucket) from ohlcv_1mo;

-- sums: per symbol, how many bars a level ({view}) has, and a sum over all of them and every digit, whatever their order
select symbol, count(*), sum(hashtextextended(concat_ws('|',
    extract(epoch from bucket), trim_scale(open), trim_scale(high), trim_scale(low), trim_scale(close), trim_scale(volume),
    coalesce(trim_scale(quote_volume)::text, '-'), coalesce(trim_scale(vwap)::text, '-'), coalesce(trades::text, '-'),
    coalesce(trim_scale(buy_volume)::text, '-'), imported
), 0)::numeric)
from {view} group by symbol order by symbol;
