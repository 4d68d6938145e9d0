-- Engine postgres: ticks in weekly partitions, made when the first tick of a week arrives.
create table ticks (like tick_shape including all) partition by range (ts);
create unique index ticks_key on ticks (symbol, ts, seq);
drop table tick_shape;

-- Make room for ticks at these times, in a transaction of its own before the batch. A plain table is made and then
-- attached: `create table … partition of` would block inserts behind any reader, and two at once deadlock.
create function prepare_ticks(times timestamptz[]) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    week timestamptz;
    partition text;
begin
    perform pg_advisory_xact_lock(hashtextextended('barwright.partition', 0));
    for week in select distinct date_bin('7 days', t, '2000-01-03Z') from unnest(times) as t order by 1 loop
        partition := 'ticks_' || to_char(week at time zone 'UTC', 'YYYYMMDD');
        continue when to_regclass(partition) is not null;
        execute format('create table %I (like ticks including all, check (ts >= %L and ts < %L))',
                       partition, week, week + interval '7 days');
        execute format('alter table ticks attach partition %I for values from (%L) to (%L)',
                       partition, week, week + interval '7 days');
    end loop;
end
$$;

-- Ticks below this time are late: the rollups may already have passed them.
create function late_below() returns timestamptz
language sql stable set search_path = barwright, pg_temp
begin atomic
    select sealed from level where name = '1m';
end;
