-- What is compressed, what is dropped, and what that means for everything that computes bars: nothing is computed from
-- rows that were dropped, so the bars above them stay.

-- One row for the ticks and one for each level, as maintain last applied the settings. `since`: everything below was
-- dropped (null: nothing was); it only moves up. Order: what a level is made of goes before the level itself.
create table policy (
    name text primary key,
    compress_after interval,
    keep interval,
    since timestamptz,
    width interval,  -- of the next chunks or partitions
    applied_at timestamptz
);
insert into policy (name) select 'ticks' union all select name from level;
comment on table policy is 'What is compressed after which time, what is dropped after which time, and what was.';

-- The first bucket of a level that can still be computed: what it is made of is there. Null: all.
create function computable_from(level_name text) returns timestamptz
language sql stable set search_path = barwright, pg_temp
begin atomic
    select date_bin(l.width, p.since + l.width - interval '1 microsecond', '2000-01-03Z')
    from level as l join policy as p on p.name = coalesce(l.parent, 'ticks') where l.name = level_name;
end;

-- Up to where a table may be dropped now: older than it is kept, rolled up into all that is made of it, with nothing of
-- it awaiting repair, and (a level) what it is made of is gone. Null: nothing may be.
create function droppable_until(the_name text) returns timestamptz
language sql stable set search_path = barwright, pg_temp
begin atomic
    select case when p.keep is not null and (l.name is null or source.since is not null) then least(
        now() - p.keep,
        source.since,
        (select min(watermark) from level where name = the_name or coalesce(parent, 'ticks') = the_name),
        (select min(lower(span)) from late_range)
    ) end
    from policy as p
    left join level as l on l.name = p.name
    left join policy as source on source.name = coalesce(l.parent, 'ticks')
    where p.name = the_name;
end;

-- From when on minutes can be asked of a source: older ones would be refused, or be so before they land. Null: always.
create function minutes_from() returns timestamptz
language sql stable set search_path = barwright, pg_temp
begin atomic
    select greatest(since, day_ceil(now() - keep + interval '6 hours')) from policy where name = 'ticks';
end;

-- Take over what the settings say: days after which sealed chunks are compressed (null: never), days that ticks are kept
-- (null: for ever), days for each level (those not named: for ever), hours of a chunk (null: by the data rate). Tasks for minutes that would be refused are asked for as hours instead.
create function apply_policies(
    compress_days double precision, tick_days double precision, level_days jsonb, chunk_hours double precision
) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('barwright.policy', 0));
    update policy set
        compress_after = make_interval(secs => 86400 * compress_days),
        keep = make_interval(secs => 86400 * case when name = 'ticks' then tick_days else (level_days ->> name)::float8 end),
        applied_at = now();
    perform set_width(coalesce(make_interval(secs => 3600 * chunk_hours), fitting_width()));
    update backfill_task set status = 'cancelled', error = 'older than raw retention: asked for as hours'
    where status = 'queued' and "interval" = '1m' and lower(span) < minutes_from();
end
$$;

-- Rows of ticks in a day, the most of the last week's days that are over, by their bars.
create function ticks_per_day() returns bigint
language sql stable set search_path = barwright, pg_temp
begin atomic
    select max(ticks)::bigint from (
        select sum(case when imported then 60 else trades end) as ticks from ohlcv_1h
        where bucket >= day_floor(now()) - interval '7 days' and bucket < day_floor(now())
        group by day_floor(bucket)
    ) as day;
end;

-- The width that fits the data rate: the longest of these, shortest first, whose index (72 bytes a tick, measured) stays
-- within a quarter of the memory that the server says it has for data (effective_cache_size); the shortest where none does.
create function width_by_rate(widths interval[]) returns interval
language sql stable set search_path = barwright, pg_temp
begin atomic
    select coalesce(max(width) filter (
        where coalesce(ticks_per_day(), 0) * 72 * extract(epoch from width) / 86400
            <= pg_size_bytes(current_setting('effective_cache_size')) / 4
    ), min(width))
    from unnest(widths) as width;
end;

-- Cut a hole into the tasks that fill it: minutes as far as the source has them and we keep them, then hours, then days.
create or replace function pieces(s symbols, hole tstzrange) returns table ("interval" text, span tstzrange)
language sql stable set search_path = barwright, pg_temp
begin atomic
    with reach as (
        select greatest(s.minutes_since, minutes_from()) as minutes_since, s.hours_since as hours_since
    )
    -- Minutes, a UTC day at a time.
    select '1m', tstzrange(day, day + interval '1 day') * hole * tstzrange(r.minutes_since, null)
    from reach as r cross join lateral generate_series(
        day_floor(greatest(lower(hole), r.minutes_since)), upper(hole) - interval '1 microsecond', interval '1 day', 'UTC'
    ) as day
    where r.minutes_since is null or upper(hole) > r.minutes_since
    union all
    -- Hours, 80 days at a time (1,920 rows), then days, 1,900 at a time: whole days.
    select coarse."interval", tstzrange(first, least(first + coarse.step, coarse.hi))
    from reach as r
    cross join lateral (values
        ('1h', day_floor(greatest(lower(hole), r.hours_since)), least(day_ceil(upper(hole)), r.minutes_since), interval '80 days'),
        ('1d', day_floor(lower(hole)), least(day_ceil(upper(hole)), r.hours_since), interval '1900 days')
    ) as coarse ("interval", lo, hi, step)
    cross join lateral generate_series(coarse.lo, coarse.hi - interval '1 microsecond', coarse.step, 'UTC') as first
    where coarse.lo < coarse.hi
    and case coarse."interval" when '1h' then r.minutes_since else r.hours_since end is not null
    and coarse.hi <= (select watermark from level where name = '1d');
end;

-- Compare one bucket of a level with its ticks. A difference is noted and repaired by maintain's next round. Null where
-- the bucket cannot be judged: open, awaiting repair, made of coarse bars or of ticks that were dropped, or dropped
-- itself; else whether it was right.
create or replace function audit_bucket(the_symbol text, level_name text, the_bucket timestamptz) returns boolean
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    l level;
    until timestamptz;
    expected jsonb;
    found_bar jsonb;
    twins jsonb;
begin
    perform hold_maintenance();
    select * into l from level where name = level_name;
    if not found then
        raise exception 'there is no level %', level_name using errcode = 'invalid_parameter_value';
    end if;
    until := the_bucket + l.width;
    if until > l.watermark
        or the_bucket < (select since from policy where name = 'ticks')
        or the_bucket < (select since from policy where name = level_name)
        or exists (select from late_range where symbol = the_symbol and span && tstzrange(the_bucket, until))
        or l.width >= interval '1 hour' and exists (
            select from coarse_bars
            where symbol = the_symbol and bucket >= day_floor(the_bucket) and bucket < day_ceil(until)
        )
    then
        return null;
    end if;
    select to_jsonb(b) into expected from bar_of_ticks(the_symbol, the_bucket, until) as b;
    execute format('
        select to_jsonb(b) from (
            select open, high, low, close, volume, quote_volume, trades, buy_volume, imported
            from ohlcv_%s where symbol = $1 and bucket = $2
        ) as b', level_name) into found_bar using the_symbol, the_bucket;
    -- jsonb compares numbers by value, whatever their trailing zeros.
    if expected is distinct from found_bar then
        insert into audit_finding (symbol, "interval", bucket, expected, found)
        values (the_symbol, level_name, the_bucket, expected, found_bar);
        insert into late_range (symbol, span, forced) values (the_symbol, tstzrange(the_bucket, until), true);
        update audit set findings = findings + 1;
    end if;
    update audit set buckets = buckets + 1, at = now();
    -- Trades that share a number though not a time: which of them is last is anybody's guess.
    if level_name = '1m' then
        select jsonb_object_agg(seq, times) into twins from (
            select seq, jsonb_agg(ts) as times from ticks
            where symbol = the_symbol and ts >= the_bucket and ts < until and seq >= 0 group by seq having count(*) > 1
        ) as twin;
        if twins is not null and not exists (
            select from audit_finding
            where symbol = the_symbol and bucket = the_bucket and "interval" = 'seq' and audit_finding.found = twins
        ) then
            insert into audit_finding (symbol, "interval", bucket, found) values (the_symbol, 'seq', the_bucket, twins);
            update audit set findings = findings + 1;
        end if;
    end if;
    return expected is not distinct from found_bar;
end
$$;

-- A bucket to look at: a symbol, one of its days that have bars or should, a level, and a place in the day, all by chance.
create or replace function audit_sample(the_symbol text default null)
returns table (symbol text, "interval" text, bucket timestamptz)
language sql volatile set search_path = barwright, pg_temp
begin atomic
    with one as (
        select s.symbol from symbols as s where the_symbol is null or s.symbol = the_symbol order by random() limit 1
    ), day as (
        select one.symbol, d.bucket from one cross join lateral (
            select o.bucket from ohlcv_1d as o
            where o.symbol = one.symbol and o.bucket >= coalesce((select since from policy where name = 'ticks'), '-infinity')
            order by random() limit 1
        ) as d
    )
    select day.symbol, l.name,
           day.bucket + l.width * floor(random() * (extract(epoch from interval '1 day') / extract(epoch from l.width)))
    from day cross join lateral (select name, width from level order by random() limit 1) as l;
end;

-- Remove a symbol and all its data. Its days are repaired to nothing; bars whose ticks were dropped, which no repair
-- reaches, are deleted. A new epoch keeps old pages from coming alive should the symbol come again. False where there
-- is none.
create or replace function purge_symbol(the_symbol text) returns boolean
language plpgsql set search_path = barwright, pg_temp
as $$
begin
    perform hold_symbol(the_symbol);
    delete from symbols where symbol = the_symbol;
    if not found then
        return false;
    end if;
    -- Tasks before the seal and the rows, as ingest locks them: what is landing for one lands before, or is dropped.
    delete from backfill_task where symbol = the_symbol;
    perform hold_seal();
    insert into late_range (symbol, span)
    select the_symbol, unnest(range_agg(tstzrange(bucket, bucket + interval '1 day')))
    from ohlcv_1d where symbol = the_symbol;
    perform forget_bars(the_symbol);
    delete from ticks where symbol = the_symbol;
    delete from coarse_bars where symbol = the_symbol;
    delete from settled_day where symbol = the_symbol;
    delete from imported_span where symbol = the_symbol;
    delete from uncovered where symbol = the_symbol;
    update live_session set symbols = array_remove(symbols, the_symbol) where symbols @> array[the_symbol];
    perform renew_epoch();
    return true;
end
$$;
