-- What is missing of symbols is asked for: the queue that maintain fills and feed empties.

-- File tasks for what is missing of one symbol (or of all: null) inside a span (or everywhere: null) and not asked for
-- already: newest first, minutes a UTC day at a time; where they do not reach, hours, then days, whole days only and
-- never those not closed yet. At most `most` open tasks of a symbol. What a task has just failed to bring is left alone
-- for a while. Returns how many were filed.
create function file_tasks(
    the_symbol text default null, within tstzrange default null, the_priority integer default 0,
    most integer default 64, pause interval default '20 seconds'
) returns integer
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    s symbols;
    name text;
    filed integer := 0;
    n integer;
begin
    for name in
        select symbol from symbols
        where history_source is not null and history_start is not null and stopped_at is null
        and (the_symbol is null or symbol = the_symbol) order by symbol
    loop
        perform hold_symbol(name);
        select * into s from symbols where symbol = name and stopped_at is null and history_source is not null;
        continue when not found;
        insert into backfill_task (symbol, source, market, "interval", span, reason, priority)
        select s.symbol, s.history_source, s.market, piece."interval", piece.span, 'gap', the_priority
        from unnest(unfiled(s, within, pause)) as hole (span)
        cross join lateral pieces(s, hole.span) as piece
        order by upper(piece.span) desc
        limit greatest(0, most - (
            select count(*) from backfill_task where symbol = s.symbol and status not in ('landed', 'cancelled')
        ));
        get diagnostics n = row_count;
        filed := filed + n;
        if the_priority > 0 then
            update backfill_task set priority = the_priority
            where symbol = s.symbol and status = 'queued' and priority < the_priority and (within is null or span && within);
        end if;
    end loop;
    return filed;
end
$$;

-- What is missing of a symbol and neither asked for nor just tried in vain.
create function unfiled(s symbols, within tstzrange, pause interval) returns tstzmultirange
language sql stable set search_path = barwright, pg_temp
begin atomic
    select case when s.history_start < history_bound(s) then
        whole_minutes(
            tstzmultirange(tstzrange(s.history_start, history_bound(s)) * coalesce(within, tstzrange(null, null)))
            - covered(s.symbol, tstzrange(s.history_start, history_bound(s)))
        ) - coalesce((
            select range_agg(span) from backfill_task as t
            where t.symbol = s.symbol
            and (t.status not in ('landed', 'cancelled') or t.status = 'landed' and t.landed_at > now() - pause)
        ), '{}') - coalesce((
            -- What landed five times within an hour and is still missing will not come the sixth time: a bar that is
            -- refused each time, say. It is left alone for 10 minutes.
            select range_agg(again.span) from (
                select span from backfill_task as t
                where t.symbol = s.symbol and t.landed_at > now() - interval '1 hour' and t.reason = 'gap' and pause > '0'
                group by span having count(*) >= 5 and max(landed_at) > now() - interval '10 minutes'
            ) as again
        ), '{}')
    else '{}' end;
end;

-- A hole cut into the tasks that fill it.
create function pieces(s symbols, hole tstzrange) returns table ("interval" text, span tstzrange)
language sql stable set search_path = barwright, pg_temp
begin atomic
    -- Minutes, a UTC day at a time.
    select '1m', tstzrange(day, day + interval '1 day') * hole * tstzrange(s.minutes_since, null)
    from generate_series(
        day_floor(greatest(lower(hole), s.minutes_since)), upper(hole) - interval '1 microsecond', interval '1 day', 'UTC'
    ) as day
    where s.minutes_since is null or upper(hole) > s.minutes_since
    union all
    -- Hours, 80 days at a time (1,920 rows), then days, 1,900 at a time: whole days.
    select coarse."interval", tstzrange(first, least(first + coarse.step, coarse.hi))
    from (values
        ('1h', day_floor(greatest(lower(hole), s.hours_since)), least(day_ceil(upper(hole)), s.minutes_since), interval '80 days'),
        ('1d', day_floor(lower(hole)), least(day_ceil(upper(hole)), s.hours_since), interval '1900 days')
    ) as coarse ("interval", lo, hi, step)
    cross join lateral generate_series(coarse.lo, coarse.hi - interval '1 microsecond', coarse.step, 'UTC') as first
    where coarse.lo < coarse.hi
    and case coarse."interval" when '1h' then s.minutes_since else s.hours_since end is not null
    and coarse.hi <= (select watermark from level where name = '1d');
end;

-- Ask for a span again though it is covered, minutes first: what the source has now replaces what it had.
create function request_tasks(the_symbol text, within tstzrange) returns integer
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    s symbols;
    n integer;
begin
    perform hold_symbol(the_symbol);
    update symbols set minutes_since = null, hours_since = null
    where symbol = the_symbol and history_source is not null and stopped_at is null returning * into s;
    if not found then
        return 0;
    end if;
    insert into backfill_task (symbol, source, market, "interval", span, reason, priority)
    select s.symbol, s.history_source, s.market, piece."interval", piece.span, 'request', 1
    from unnest(
        whole_minutes(tstzmultirange(
            within * tstzrange(s.history_start, greatest(history_bound(s), s.history_start))
        )) - coalesce((
            select range_agg(span) from backfill_task where symbol = s.symbol and status not in ('landed', 'cancelled')
        ), '{}')
    ) as hole (span)
    cross join lateral pieces(s, hole.span) as piece
    order by upper(piece.span) desc;
    get diagnostics n = row_count;
    return n;
end
$$;

-- Once in a while ask again for the minutes of the last day that were imported: a vendor corrects its bars late.
create function file_corrections(every interval) returns integer
language sql set search_path = barwright, pg_temp
begin atomic
    with due as (
        select s.* from symbols as s
        where s.history_source is not null and s.stopped_at is null and s.registered_at < now() - every
        and not exists (
            select from backfill_task as t
            where t.symbol = s.symbol and t.reason = 'correction' and t.filed_at > now() - every
        )
    ), hull as (
        select due.symbol, due.history_source, due.market, day,
               range_merge(range_agg(i.span * tstzrange(day, day + interval '1 day') * recent)) as span
        from due
        cross join lateral (select tstzrange(
            date_bin('1 minute', now() - every - interval '1 hour', '2000-01-03Z'), date_bin('1 minute', now() - due.grace, '2000-01-03Z')
        )) as lately (recent)
        cross join lateral generate_series(day_floor(lower(recent)), upper(recent), interval '1 day', 'UTC') as day
        join imported_span as i on i.symbol = due.symbol and i."interval" = '1m'
            and i.span && recent and i.span && tstzrange(day, day + interval '1 day')
        group by 1, 2, 3, 4
    ), filed as (
        insert into backfill_task (symbol, source, market, "interval", span, reason, priority)
        select symbol, history_source, market, '1m', span, 'correction', -1 from hull where not isempty(span)
        returning 1
    )
    select count(*)::integer from filed;
end;

-- Take the most urgent task of these sources (patterns of LIKE) that nobody works on, or whose worker or delivery has
-- timed out. No row: nothing to do.
create function claim_task(sources text[], the_owner text, for_time interval) returns setof backfill_task
language sql set search_path = barwright, pg_temp
begin atomic
    update backfill_task as t
    set status = 'fetching', attempt = attempt + 1, owner = the_owner, lease = now() + for_time, rows = 0,
        started_at = now(), published_at = null, deadline = null,
        error = case status when 'queued' then error when 'published' then 'what was published did not land in time'
                else 'the feed that worked on it is gone' end
    where id = (
        select id from backfill_task
        where source like any(sources) and status not in ('landed', 'cancelled')
        and case status
            when 'queued' then coalesce(not_before <= now(), true)
            when 'published' then deadline < now()
            when 'repairing' then false
            else lease < now() end
        order by priority desc, upper(span) desc, id limit 1 for update skip locked
    )
    returning t.*;
end;

-- Keep a claim; false where it is no longer ours.
create function renew_task(the_id bigint, the_attempt integer, for_time interval) returns boolean
language sql set search_path = barwright, pg_temp
begin atomic
    with renewed as (
        update backfill_task set lease = now() + for_time
        where id = the_id and attempt = the_attempt and status in ('fetching', 'publishing') returning 1
    )
    select exists (select from renewed);
end;

-- A claimed task goes on: publishing, then published (with the time it may take to land; ingest may have been quicker).
create function advance_task(the_id bigint, the_attempt integer, the_status text, in_time interval default null)
returns boolean
language sql set search_path = barwright, pg_temp
begin atomic
    with advanced as (
        update backfill_task
        set status = case when status in ('fetching', 'publishing') then the_status else status end,
            published_at = case when the_status = 'published' then now() end, deadline = now() + in_time
        where id = the_id and attempt = the_attempt and status in ('fetching', 'publishing', 'repairing', 'landed')
        returning 1
    )
    select exists (select from advanced);
end;

-- A claimed task failed: it is queued again after a pause.
create function fail_task(the_id bigint, the_attempt integer, the_error text, pause interval) returns boolean
language sql set search_path = barwright, pg_temp
begin atomic
    with failed as (
        update backfill_task set status = 'queued', error = the_error, not_before = now() + pause, lease = null
        where id = the_id and attempt = the_attempt and status in ('fetching', 'publishing') returning 1
    )
    select exists (select from failed);
end;

-- The source has nothing this fine before a time, though there were trades: what lies before the next UTC midnight is
-- asked for in the next coarser interval. What stays of open tasks above it is filed anew.
create function coarsen(the_id bigint, the_attempt integer, reach timestamptz) returns boolean
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    t backfill_task;
    since timestamptz := day_ceil(reach);
begin
    select * into t from backfill_task
    where id = the_id and attempt = the_attempt and status in ('fetching', 'publishing');
    if not found or t."interval" = '1d' then
        return false;
    end if;
    perform hold_symbol(t.symbol);
    if t."interval" = '1m' then
        update symbols set minutes_since = greatest(minutes_since, since) where symbol = t.symbol;
    else
        update symbols set hours_since = greatest(hours_since, since) where symbol = t.symbol;
    end if;
    update backfill_task set status = 'cancelled', error = format('the source has no %s bars before %s', t."interval", since)
    where symbol = t.symbol and "interval" = t."interval" and status not in ('landed', 'cancelled', 'published', 'repairing')
    and lower(span) < since;
    perform file_tasks(t.symbol, null, t.priority);
    return true;
end
$$;

-- Tasks whose bars have come and whose span no late range touches any more have landed. Returns how many.
create function finish_tasks() returns integer
language sql set search_path = barwright, pg_temp
begin atomic
    with done as (
        update backfill_task as t set status = 'landed', landed_at = now(), error = null
        where status = 'repairing'
        and not exists (select from late_range as l where l.symbol = t.symbol and l.span && t.span)
        returning 1
    )
    select count(*)::integer from done;
end;
