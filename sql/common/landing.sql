-- What ingest calls in the transaction that lands the rows.

-- Take one session's marks of a batch on one partition, in their order: [{"n", "from", "to", "count", "seen", "source",
-- "symbols"}, …], `seen` being the session's trades since the mark before (or the batch's begin), `rest` those after the
-- last. A mark extends what is covered only where its number and its count agree with what has landed. Where they do
-- not, trades are lost whose times may lie a little beyond the mark (it stays behind the newest by a margin): the minute
-- after it is in doubt too.
create function land_session(
    the_session text, the_topic text, the_partition integer, the_topic_id uuid, marks jsonb, rest bigint
) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    s live_session;
    mark record;
begin
    insert into live_session (session, topic, partition, topic_id)
    values (the_session, the_topic, the_partition, the_topic_id) on conflict do nothing;
    select * into s from live_session
    where session = the_session and topic = the_topic and partition = the_partition for update;
    if s.topic_id <> the_topic_id then
        s.topic_id := the_topic_id;
        s.n := -1;
    end if;
    for mark in
        select * from jsonb_to_recordset(marks) as m (
            n bigint, "from" timestamptz, "to" timestamptz, count bigint, seen bigint, source text, symbols text[]
        )
    loop
        if mark.n = 1 and s.n = 0 then
            s.symbols := coalesce(mark.symbols, '{}');
            s.source := coalesce(mark.source, '');
            s.until := mark."from";
        end if;
        if mark.n = s.n + 1 and mark.count = s.pending + mark.seen and mark."from" = s.until then
            if greatest(mark."from", s.doubted_until) < mark."to" then
                s.covered := s.covered + tstzmultirange(tstzrange(greatest(mark."from", s.doubted_until), mark."to"));
            end if;
        else
            s.doubted_until := greatest(s.doubted_until, mark."to" + interval '1 minute');
        end if;
        s.n := mark.n;
        s.until := mark."to";
        s.pending := 0;
    end loop;
    update live_session
    set topic_id = s.topic_id, n = s.n, until = s.until, doubted_until = s.doubted_until, pending = s.pending + rest,
        covered = s.covered, symbols = s.symbols, source = s.source, seen_at = now()
    where session = the_session and topic = the_topic and partition = the_partition;
end
$$;

-- Cut minutes out of live coverage, of symbols whose coverage counts.
create function cut(the_symbols text[], minutes timestamptz[]) returns void
language sql set search_path = barwright, pg_temp
begin atomic
    insert into uncovered (symbol, minute)
    select lost.symbol, date_bin('1 minute', lost.minute, '2000-01-03Z')
    from unnest(the_symbols, minutes) as lost (symbol, minute)
    join symbols as s on s.symbol = lost.symbol and s.history_start is not null
    order by 1, 2
    on conflict do nothing;
end;

-- What an import must leave alone: minutes wholly covered live that hold no imported bar. It would cost them their
-- trades and buy_volume.
create function kept_live(the_symbol text, within tstzrange) returns tstzmultirange
language sql stable set search_path = barwright, pg_temp
begin atomic
    select case when live.spans = '{}' then live.spans else live.spans - coalesce((
        select range_agg(tstzrange(ts, ts + interval '1 minute')) from ticks
        where symbol = the_symbol and seq = -1 and ts >= lower(within) and ts < upper(within)
    ), '{}') end
    from (
        select coalesce(range_agg(tstzrange(lo, hi)) filter (where lo < hi), '{}') as spans
        from unnest(covered_live(the_symbol, within)) as span
        cross join lateral (select
            date_bin('1 minute', lower(span) + interval '1 minute' - interval '1 microsecond', '2000-01-03Z') as lo,
            date_bin('1 minute', upper(span), '2000-01-03Z') as hi
        ) as inner_minutes
    ) as live;
end;

-- Whether a span holds imported bars. By a plan of its own each time: it then looks into the partitions of its span only.
create function has_bars(the_symbol text, lo timestamptz, hi timestamptz) returns boolean
language plpgsql stable set search_path = barwright, pg_temp set plan_cache_mode = force_custom_plan
as $$
begin
    return exists (select from ticks where symbol = the_symbol and seq = -1 and ts >= lo and ts < hi);
end
$$;

-- The tasks that a batch brings something for, as they stand: whatever belongs to an older attempt, a closed task or
-- another span is dropped. Locked, in order, so that a task cannot be claimed again while its bars land.
create function lock_tasks(ids bigint[])
returns table (id bigint, symbol text, "interval" text, span tstzrange, attempt integer, kept tstzmultirange)
language sql set search_path = barwright, pg_temp
begin atomic
    select t.id, t.symbol, t."interval", t.span, t.attempt,
           case when t."interval" = '1m' then kept_live(t.symbol, t.span) else '{}' end
    from backfill_task as t
    where t.id = any(ids) and t.status not in ('landed', 'cancelled')
    order by t.id for update;
end;

-- What the bars of one record prove, in the transaction that inserts them: `within` was asked of the source, `bars` are
-- the buckets it sent (without those left alone), `alone` and `refused` prove nothing here. Imported minutes that it no
-- longer sends go; with `fresh`, the number of bars in their place, there were none before. The last record of a task
-- ends it, but for the repair.
create function land_import(
    task bigint, the_attempt integer, the_symbol text, the_interval text, the_source text, within tstzrange,
    bars timestamptz[], alone tstzmultirange, refused timestamptz[], final boolean, fresh integer default null
) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    proved tstzmultirange := tstzmultirange(within) - alone - coalesce((
        select range_agg(tstzrange(minute, minute + interval '1 minute')) from unnest(refused) as minute
    ), '{}');
    gone timestamptz[];
begin
    if the_interval = '1m' and fresh is null then
        -- By a hash: what has just been inserted is looked through too, and a list would be compared with each row.
        gone := array(
            select ts from (
                select ts from ticks
                where symbol = the_symbol and seq = -1 and ts >= lower(within) and ts < upper(within)
                except select unnest(bars || refused)
            ) as unsent
            where proved @> ts
        );
        if gone <> '{}' then
            delete from ticks where symbol = the_symbol and seq = -1 and ts = any(gone);
            insert into late_range (symbol, span)
            select the_symbol, unnest(range_agg(tstzrange(ts, ts + interval '1 minute')))
            from unnest(gone) as ts where ts < late_below();
        end if;
    end if;
    perform prove(the_symbol, the_interval, the_source, proved);
    if the_interval = '1m' then
        -- Days that hours or days stood in for, and whose minutes are all there now.
        with settled as (
            insert into settled_day (symbol, day)
            select distinct the_symbol, day_floor(bucket) from coarse_bars
            where symbol = the_symbol and bucket >= day_floor(lower(within)) and bucket < day_ceil(upper(within))
            and covered(the_symbol, tstzrange(day_floor(bucket), day_floor(bucket) + interval '1 day'), '1m')
                @> tstzrange(day_floor(bucket), day_floor(bucket) + interval '1 day')
            on conflict do nothing
            returning day
        )
        insert into late_range (symbol, span)
        select the_symbol, tstzrange(day, day + interval '1 day') from settled;
    end if;
    update backfill_task
    set rows = rows + coalesce(fresh, cardinality(bars)), attempt = greatest(attempt, the_attempt),
        status = case when final then 'repairing' else status end
    where id = task;
end
$$;

-- Serialises who changes what imports prove of a symbol, by transaction. Not the lock of its registration: filing tasks
-- holds that for many symbols at once, in its own order.
create function hold_coverage(the_symbol text) returns void
language sql set search_path = barwright, pg_temp
begin atomic
    select pg_advisory_xact_lock(hashtextextended(the_symbol, 6));
end;

-- Add spans to what imports of an interval prove; spans that touch become one row.
create function prove(the_symbol text, the_interval text, the_source text, proved tstzmultirange) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    merged tstzmultirange := proved;
    old tstzmultirange;
begin
    if proved = '{}' then
        return;
    end if;
    perform hold_coverage(the_symbol);
    with touching as (
        delete from imported_span as i
        where i.symbol = the_symbol and i."interval" = the_interval and i.source = the_source
        and exists (select from unnest(proved) as span where i.span && span or i.span -|- span)
        returning i.span
    )
    select range_agg(span) into old from touching;
    insert into imported_span (symbol, "interval", source, span)
    select the_symbol, the_interval, the_source, span from unnest(merged + coalesce(old, '{}')) as span;
end
$$;

-- Take spans out of what coarse imports prove: finer bars have come.
create function disprove_coarse(the_symbol text, gone tstzmultirange, intervals text[]) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
begin
    perform hold_coverage(the_symbol);
    with cut_rows as (
        delete from imported_span
        where symbol = the_symbol and "interval" = any(intervals) and tstzmultirange(span) && gone
        returning *
    )
    insert into imported_span (symbol, "interval", source, span)
    select c.symbol, c."interval", c.source, rest
    from cut_rows as c cross join lateral unnest(tstzmultirange(c.span) - gone) as rest;
end
$$;

-- Land hours or days of a span that has no minutes. Each UTC day has one source, the finest that came: days wholly
-- proved by finer bars are left alone. The bars are in columns of one length.
create function land_coarse(
    task bigint, the_attempt integer, the_symbol text, the_interval text, the_source text, within tstzrange,
    buckets timestamptz[], opens numeric[], highs numeric[], lows numeric[], closes numeric[], volumes numeric[],
    quotes numeric[], counts bigint[], final boolean
) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    finer tstzmultirange := (
        select coalesce(range_agg(tstzrange(day, day + interval '1 day')), '{}')
        from generate_series(day_floor(lower(within)), day_ceil(upper(within)) - interval '1 day', interval '1 day', 'UTC') as day
        where covered(the_symbol, tstzrange(day, day + interval '1 day'), case the_interval when '1h' then '1m' else '1h' end)
            @> tstzrange(day, day + interval '1 day')
        and not exists (
            select from imported_span as i
            where i.symbol = the_symbol and i."interval" = the_interval and i.span && tstzrange(day, day + interval '1 day')
        )
    );
    landing tstzmultirange := tstzmultirange(tstzrange(day_floor(lower(within)), day_ceil(upper(within)))) - finer;
begin
    if lower(within) <> day_floor(lower(within)) or upper(within) <> day_floor(upper(within)) then
        raise exception 'coarse bars come in whole UTC days, not in %', within using errcode = 'invalid_parameter_value';
    end if;
    delete from coarse_bars where symbol = the_symbol and landing @> bucket;
    insert into coarse_bars (symbol, "interval", bucket, open, high, low, close, volume, quote_volume, trades)
    select the_symbol, the_interval, bar.*
    from unnest(buckets, opens, highs, lows, closes, volumes, quotes, counts)
        as bar (bucket, open, high, low, close, volume, quote_volume, trades)
    where landing @> bucket;
    if the_interval = '1h' then
        perform disprove_coarse(the_symbol, landing, array['1d']);
    end if;
    perform prove(the_symbol, the_interval, the_source, landing);
    perform coarse_changed(the_symbol, span) from unnest(landing) as span;
    update backfill_task
    set rows = rows + cardinality(buckets), attempt = greatest(attempt, the_attempt),
        status = case when final then 'repairing' else status end
    where id = task;
end
$$;
