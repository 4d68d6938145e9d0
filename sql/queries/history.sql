-- register: register a symbol, or again
select (s.r).symbol, (s.r).source, (s.r).market, (s.r).base, (s.r).quote, (s.r).history_start, (s.r).history_source, (s.r).live
from (select register_symbol(
    %(symbol)s, %(source)s, %(market)s, %(base)s, %(quote)s, %(start)s, %(history_source)s, %(grace)s, %(live)s
) as r) as s;

-- stop: follow a symbol no more, keep its data
select stop_symbol(%(symbol)s);

-- purge: remove a symbol and its data
select purge_symbol(%(symbol)s);

-- ask: file tasks for what is missing of a symbol in a span, before all others
select file_tasks(%(symbol)s, %(span)s, 1);

-- ask_again: file tasks for a span though it is covered
select request_tasks(%(symbol)s, %(span)s);

-- gaps: what is missing or awaits repair, of one symbol or all, newest first
select symbol, lower(span), upper(span) from gaps
where %(symbol)s::text is null or symbol = %(symbol)s
order by symbol, span desc limit %(limit)s;

-- tasks: tasks of one symbol or all, open ones first, newest first
select id, symbol, source, "interval", lower(span), upper(span), reason, status, attempt, rows, error, filed_at,
       started_at, published_at, landed_at
from backfill_task
where (%(symbol)s::text is null or symbol = %(symbol)s) and (%(all)s or status not in ('landed', 'cancelled'))
order by status in ('landed', 'cancelled'), priority desc, upper(span) desc, id desc
limit %(limit)s;

-- progress: how much of a symbol's history is there: seconds wanted, seconds missing, open tasks, landed tasks, bars
-- imported, the first error of an open task
select
    extract(epoch from history_bound(s) - s.history_start)::float8,
    coalesce((select sum(extract(epoch from upper(span) - lower(span))) from gaps where gaps.symbol = s.symbol), 0)::float8,
    count(t.id) filter (where t.status not in ('landed', 'cancelled')),
    count(t.id) filter (where t.status = 'landed'),
    coalesce(sum(t.rows) filter (where t.status = 'landed'), 0)::bigint,
    min(t.error) filter (where t.status not in ('landed', 'cancelled'))
from symbols as s left join backfill_task as t on t.symbol = s.symbol
where s.symbol = %(symbol)s
group by s.symbol;

-- findings: what the auditor found, newest first
select found_at, symbol, "interval", bucket, expected, found, repaired_at from audit_finding
where %(symbol)s::text is null or symbol = %(symbol)s order by found_at desc, id desc limit %(limit)s;

-- audited: how many buckets the auditor has looked at, how many findings, and when last
select buckets, findings, at from audit;

-- audit_next: the closed buckets of a symbol after one, of one level, that hold bars: for an audit of everything
select bucket from {view} where symbol = %(symbol)s and bucket > %(after)s order by bucket limit %(limit)s;

-- audit_bucket: compare one bucket with its ticks
select audit_bucket(%(symbol)s, %(interval)s, %(bucket)s);

-- actors: the states of all roles' machines, of processes heard from within the last minute
select role, instance, machine, subject, state, error, at from actor where at > now() - interval '1 minute'
order by role, instance, machine, subject;
