-- What is covered and what is missing, for one symbol or for all.

-- A multirange widened to whole minutes.
create function whole_minutes(spans tstzmultirange) returns tstzmultirange
language sql immutable parallel safe
begin atomic
    select coalesce(range_agg(tstzrange(
        date_bin('1 minute', lower(span), '2000-01-03Z'),
        date_bin('1 minute', upper(span) - interval '1 microsecond', '2000-01-03Z') + interval '1 minute'
    )), '{}')
    from unnest(spans) as span;
end;

-- The UTC midnight at or before a time, and the one at or after it.
create function day_floor(at timestamptz) returns timestamptz
language sql immutable parallel safe
return date_bin('1 day', at, '2000-01-03Z');

create function day_ceil(at timestamptz) returns timestamptz
language sql immutable parallel safe
return date_bin('1 day', at + interval '1 day' - interval '1 microsecond', '2000-01-03Z');

-- What live connections prove of a span for a symbol: every trade has landed. Minutes that lost one are cut out.
create function covered_live(the_symbol text, within tstzrange) returns tstzmultirange
language sql stable set search_path = barwright, pg_temp
begin atomic
    select coalesce((
        select range_agg(span * within)
        from live_session as s cross join lateral unnest(s.covered) as span
        where s.symbols @> array[the_symbol] and s.covered && within and span && within
    ), '{}') - coalesce((
        select range_agg(tstzrange(minute, minute + interval '1 minute'))
        from uncovered where symbol = the_symbol
        and minute > coalesce(lower(within), '-infinity') - interval '1 minute'
        and minute < coalesce(upper(within), 'infinity')
    ), '{}');
end;

-- What of a span is proved for a symbol by bars of this interval or finer ones.
create function covered(the_symbol text, within tstzrange, level_name text default '1d') returns tstzmultirange
language sql stable set search_path = barwright, pg_temp
begin atomic
    select covered_live(the_symbol, within) + coalesce((
        select range_agg(span * within) from imported_span as i
        where i.symbol = the_symbol and i.span && within
        and ("interval" = '1m'
             or "interval" = '1h' and level_name in ('1h', '4h', '1d', '1w', '1mo')
             or "interval" = '1d' and level_name in ('1d', '1w', '1mo'))
    ), '{}');
end;

-- What of a span nobody proves for bars of this interval, in whole minutes, and what still awaits repair.
create function missing(the_symbol text, lo timestamptz, hi timestamptz, level_name text default '1d')
returns tstzmultirange
language sql stable set search_path = barwright, pg_temp
begin atomic
    select case when lo < hi then
        whole_minutes(tstzmultirange(tstzrange(lo, hi)) - covered(the_symbol, tstzrange(lo, hi), level_name))
        + coalesce((
            select range_agg(span * tstzrange(lo, hi)) from late_range
            where symbol = the_symbol and span && tstzrange(lo, hi)
        ), '{}')
    else '{}' end;
end;

-- Up to where a symbol's history can be asked for now: the last minute its source has surely finished.
create function history_bound(s symbols) returns timestamptz
language sql stable set search_path = barwright, pg_temp
begin atomic
    select least(s.history_end, date_bin('1 minute', now() - s.grace, '2000-01-03Z'));
end;

-- Everything that is known complete, whether or not there were trades: by whom, how, and for bars of which interval.
create view coverage as
select symbol, source, 'import' as kind, "interval", span from imported_span
union all
select symbol, s.source, 'live' as kind, '1m' as "interval", span
from live_session as s
cross join lateral unnest(s.symbols) as symbol
cross join lateral unnest(s.covered - coalesce((
    select range_agg(tstzrange(minute, minute + interval '1 minute')) from uncovered as u where u.symbol = symbol.symbol
), '{}')) as span;

-- What is missing of the history that was asked for and a source can still give, and what still awaits repair.
create view gaps as
select s.symbol, span
from symbols as s
cross join lateral unnest(missing(s.symbol, s.history_start, history_bound(s))) as span
where s.history_start is not null and s.history_source is not null and s.stopped_at is null;

comment on view coverage is 'Spans known complete, whether or not they had trades; interval is the finest bar they prove.';
comment on view gaps is 'Spans of registered symbols that are missing or await repair; empty when all is complete.';
