-- What is missing of all symbols, found at once. When each symbol looked through the live sessions by itself it read
-- their whole lists of symbols: 10,000 symbols took 6.2 s, where this takes 0.1 s.

-- Up to where a symbol's history can be asked for now: the last minute its source has surely finished. Without a search
-- path of its own it is planned as a part of what calls it.
create or replace function history_bound(s symbols) returns timestamptz
language sql stable
begin atomic
    select least(s.history_end, date_bin('1 minute', now() - s.grace, '2000-01-03Z'));
end;

-- What is missing of the history that was asked for and a source can still give, and what still awaits repair: what
-- missing() says of each symbol. Where one symbol is asked for, each part looks for that one only.
create or replace view gaps as
select known.symbol, span
from (
    select
        s.symbol,
        tstzmultirange(tstzrange(s.history_start, history_bound(s))) as wanted,
        coalesce(live.spans, '{}') - coalesce(lost.spans, '{}') + coalesce(imported.spans, '{}') as proved,
        late.spans as late
    from symbols as s
    left join (
        -- Unnested as a column, which keeps no copy of the list: half the time of one symbol.
        select symbol, range_agg(covered) as spans
        from (select unnest(symbols) as symbol, covered from live_session) as listed
        group by symbol
    ) as live on live.symbol = s.symbol
    left join (
        select symbol, range_agg(tstzrange(minute, minute + interval '1 minute')) as spans from uncovered group by symbol
    ) as lost on lost.symbol = s.symbol
    left join (
        select symbol, range_agg(span) as spans from imported_span group by symbol
    ) as imported on imported.symbol = s.symbol
    left join (
        select symbol, range_agg(span) as spans from late_range group by symbol
    ) as late on late.symbol = s.symbol
    where s.history_source is not null and s.stopped_at is null and s.history_start < history_bound(s)
) as known
cross join lateral unnest(whole_minutes(wanted - proved) + coalesce(late * wanted, '{}')) as span
where not proved @> wanted or late && wanted;
