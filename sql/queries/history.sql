-- register: register a symbol, or again
select (s.r).symbol, (s.r).source, (s.r).market, (s.r).base, (s.r).quote, (s.r).history_start, (s.r).history_source, (s.r).live
from (select register_symbol(
    %(symbol)s, %(source)s, %(market)s, %(base)s, %(quote)s, %(start)s, %(history_source)s, %(grace)s, %(live)s
) as r) as s;

-- hold: keep everybody else from deciding about a symbol until this transaction ends
select hold_symbol(%(symbol)s);

-- exists: whether a symbol is there
select exists (select from symbols where symbol = %(symbol)s);

-- now: the database's clock, in seconds
select extract(epoch from clock_timestamp())::float8;

-- stop: follow a symbol no more, keep its data
select stop_symbol(%(symbol)s);

-- purge: remove a symbol and its data
select purge_symbol(%(symbol)s);

-- ask: file tasks for what is missing of a symbol in a span, before all others
select file_tasks(%(symbol)s, %(span)s, 1);

-- ask_again: file tasks for a span though it is covered
select request_tasks(%(symbol)s, %(span)s);

-- gaps: what is missing or awaits repair, of one symbol or all, newest first. Two parts, so that one symbol's plan looks for
-- that one only, also when it is kept for both.
select symbol, lower(span), upper(span)
from (
    select symbol, span from gaps where symbol = %(symbol)s
    union all
    select symbol, span from gaps where %(symbol)s::text is null
) as asked
order by symbol, span desc limit %(limit)s;

-- tasks: tasks of one symbol or all, open ones first, newest first
select id, symbol, source, "interval", lower(span), upper(span), reason, status, attempt, rows, error, filed_at,
       started_at, published_at, landed_at
from backfill_task
where (%(symbol)s::text is null or symbol = %(symbol)s) and (%(all)s or status not in ('landed', 'cancelled'))
order by status in ('landed', 'cancelled'), priority desc, upper(span) desc, id desc
limit %(limit)s;

-- progress: how much of a symbol's history is there (without one: of all that have open tasks): seconds wanted (null:
-- nobody asks for any), seconds missing, open tasks, landed tasks, bars imported, the first error of an open task
select
    s.symbol,
    case when s.history_source is not null and s.stopped_at is null
         then greatest(0, extract(epoch from history_bound(s) - s.history_start))::float8 end,
    coalesce((select sum(extract(epoch from upper(span) - lower(span))) from gaps where gaps.symbol = s.symbol), 0)::float8,
    count(t.id) filter (where t.status not in ('landed', 'cancelled')),
    count(t.id) filter (where t.status = 'landed'),
    coalesce(sum(t.rows) filter (where t.status = 'landed'), 0)::bigint,
    (array_agg(t.error order by t.priority desc, upper(t.span) desc)
        filter (where t.error is not null and t.status not in ('landed', 'cancelled')))[1]
from symbols as s left join backfill_task as t on t.symbol = s.symbol
where s.symbol = %(symbol)s or %(symbol)s::text is null and s.symbol in (
    select symbol from backfill_task where status not in ('landed', 'cancelled') group by symbol
    order by max(priority) desc, symbol limit 100
)
group by s.symbol
order by s.symbol collate "C";

-- findings: what the auditor found, newest first
select found_at, symbol, "interval", bucket, expected, found, repaired_at from audit_finding
where %(symbol)s::text is null or symbol = %(symbol)s order by found_at desc, id desc limit %(limit)s;

-- audited: how many buckets the auditor has looked at, how many findings, and when last
select buckets, findings, at from audit;

-- audit_reach: the days that hold ticks or bars of a symbol, first and last
select min(day), max(day) from (
    select date_bin('1 day', min(ts), '2000-01-03Z') as day from ticks where symbol = %(symbol)s
    union all
    select date_bin('1 day', max(ts), '2000-01-03Z') from ticks where symbol = %(symbol)s
    union all
    select min(bucket) from ohlcv_1d where symbol = %(symbol)s
    union all
    select max(bucket) from ohlcv_1d where symbol = %(symbol)s
) as ends;

-- audit_window: compare every bucket of a level between two times that has a bar, or ticks, with its ticks; null where
-- one cannot be judged
select bucket, audit_bucket(%(symbol)s, %(interval)s, bucket)
from (
    select bucket from {view} where symbol = %(symbol)s and bucket >= %(lo)s and bucket < %(hi)s
    union
    select date_bin(%(width)s, ts, '2000-01-03Z') from ticks where symbol = %(symbol)s and ts >= %(lo)s and ts < %(hi)s
    order by 1
) as there;

-- names: every symbol
select symbol from symbols order by symbol collate "C";

-- roles: which roles have told of themselves lately
select distinct role from actor where at > now() - interval '1 minute';

-- gap_counts: how many gaps each symbol has that has some
select symbol, count(*) from gaps group by symbol;

-- counts: how many spans are missing, how many tasks are open, and how many there are of each status among those
select
    (select count(*) from gaps),
    (select count(*) from backfill_task where status not in ('landed', 'cancelled')),
    (
        select coalesce(jsonb_object_agg(status, n), '{}') from (
            select status, count(*) as n from backfill_task where status not in ('landed', 'cancelled') group by status
        ) as open
    );

-- actors: the states of all roles' machines, of processes heard from within the last minute
select role, instance, machine, subject, state, error, at from actor where at > now() - interval '1 minute'
order by role, instance, machine, subject;
