-- engine: which engine this database was built with
select engine from meta;

-- overview: figures about the whole database: each one's name, its labels' values, and its value
with clock as materialized (
    select clock_timestamp() as now
), hole as materialized (
    select symbol, span from gaps
), awaiting as (
    -- By a join: a look at all late ranges for each gap is the square of their number where every symbol has some.
    select hole.symbol, hole.span, range_agg(l.span) as spans, min(l.noted_at) as noted_at
    from hole join late_range as l on l.symbol = hole.symbol and l.span && hole.span
    group by hole.symbol, hole.span
), gap as materialized (
    -- A gap is as old as what made it: its first minute, the registration, the first task that asked for it, or, where
    -- all of it only awaits repair, the late ticks.
    select upper(g.span) - lower(g.span) as length, clock.now - greatest(
        lower(g.span), s.registered_at,
        (select min(filed_at) from backfill_task as t where t.symbol = g.symbol and t.span && g.span),
        case when late.spans @> g.span then late.noted_at end
    ) as age
    from clock, hole as g
    join symbols as s using (symbol)
    left join awaiting as late on late.symbol = g.symbol and late.span = g.span
), levels as materialized (
    select * from level order by ordinal
), open_task as materialized (
    select status, filed_at, error from backfill_task where status not in ('landed', 'cancelled')
), seconds (name, labels, span) as (
    -- With names in the select too: Citus takes those of a union from there.
    select 'watermark_lag_seconds' as name, array[name] as labels, now - watermark as span from clock, levels
    union all select 'seal_lag_seconds', array[name], now - sealed from clock, levels
    union all select 'watermark_overdue_seconds', array[name], greatest('0', now - watermark - width) from clock, levels
    union all select 'watermark_ahead_seconds', '{}',
        greatest(late_below(), (select max(watermark) from level)) - now from clock
    union all select 'gap_missing_seconds', '{}', sum(length) from gap
    union all select 'gap_oldest_age_seconds', '{}', max(age) from gap
    union all select 'late_range_oldest_age_seconds', '{}', max(now - noted_at) from clock, late_range
    union all select 'backfill_oldest_age_seconds', '{}', max(now - filed_at) from clock, open_task
    union all select 'audit_age_seconds', '{}', now - at from clock, audit where at is not null
), counts (name, labels, n) as (
    select 'gaps' as name, array[]::text[] as labels, count(*) as n from gap
    union all select 'late_ranges', '{}', count(*) from late_range
    union all select 'backfill_failing_tasks', '{}', count(*) from open_task where error is not null
    union all select 'backfill_tasks', array[status], count(open_task.status)
        from unnest('{queued,fetching,publishing,published,repairing}'::text[]) as status
        left join open_task using (status) group by status
    union all select 'symbols', array[state], count(s.state)
        from unnest('{live,registered,stopped,unregistered}'::text[]) as state
        left join (
            select case when stopped_at is not null then 'stopped' when source is null then 'unregistered'
                        when live then 'live' else 'registered' end as state
            from symbols
        ) as s using (state) group by state
    union all select 'revisions', '{}', rev from meta
    union all select 'audited_bars', '{}', buckets from audit
    union all select 'audit_findings', '{}', findings from audit
    union all select 'audit_findings_open', '{}', count(*) from audit_finding
        where repaired_at is null and "interval" <> 'seq'
    union all select 'actors', array[role, machine, state], count(*) from actor
        where at > now() - interval '1 minute' group by role, machine, state
)
select name, labels, coalesce(extract(epoch from span), 0)::float8 from seconds
union all
select name, labels, n::float8 from counts;

-- positions: by topic, where it stands, the rows that landed from it, the records that were lost to it, and the seconds
-- since it moved
select topic, sum(next_offset)::float8, sum(rows)::float8, sum(skipped)::float8,
       extract(epoch from clock_timestamp() - max(updated_at))::float8
from ingest_offset group by topic;
