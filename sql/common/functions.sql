-- What both engines do the same way. Functions that take locks or write pin their search path.

-- Volume-weighted average price: quote / base volume, rounded half up to 12 places, null at volume 0. div() is exact,
-- so nothing is rounded twice. (No pinned search path: the planner must be able to inline it.)
create function vwap(quote_volume numeric, volume numeric) returns numeric
language sql immutable parallel safe
return div(quote_volume * 2000000000000 + volume, nullif(volume, 0) * 2) * 0.000000000001;

-- Taken in a statement of its own, before the seal is read, by every transaction that inserts ticks: the seal cannot
-- move while it is open. Read in the same statement, the seal would be the one from before the wait.
create function hold_seal() returns void
language sql set search_path = barwright, pg_temp
begin atomic
    select pg_advisory_xact_lock_shared(hashtextextended('barwright.seal', 0));
end;

-- Seal every level up to `until`, whole buckets only, never backwards. Waits for open ingest transactions, so the
-- caller sets lock_timeout: a waiting seal stops all ingest behind it.
create function move_seal(until timestamptz) returns timestamptz
language plpgsql set search_path = barwright, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('barwright.seal', 0));
    update level set sealed = greatest(sealed, date_bin(width, until, '2000-01-03Z'));
    return (select sealed from level where name = '1m');
end
$$;

-- Held by whoever rolls up, repairs or audits, on the connection that writes: a second one with an older snapshot
-- would overwrite a repair for good.
create function hold_maintenance() returns void
language sql set search_path = barwright, pg_temp
begin atomic
    select pg_advisory_xact_lock(hashtextextended('barwright.maintenance', 0));
end;

-- Record that closed bars of these symbols changed in these spans (arrays of one length). One counter row, updated in
-- the same transaction, makes commit order the order of revisions. Returns the last one.
create function revise(symbols text[], spans tstzrange[]) returns bigint
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    last bigint;
begin
    update meta set rev = rev + cardinality(symbols) returning rev into last;
    insert into revision (rev, symbol, span)
    select last - cardinality(symbols) + n, symbol, span
    from unnest(symbols, spans) with ordinality as change (symbol, span, n);
    return last;
end
$$;

-- Delete the late ranges that have been repaired into the bars and write their revisions, merged by symbol.
create function finish_repair(ids bigint[]) returns bigint
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    last bigint;
begin
    with done as (
        delete from late_range where id = any(ids) returning symbol, span
    ), merged as (
        select symbol, unnest(range_agg(span)) as span from done group by symbol
    )
    select revise(array_agg(symbol order by symbol, span), array_agg(span order by symbol, span)) into last
    from merged having count(*) > 0;
    return last;
end
$$;

-- How far a level is rolled up; a week or a month is closed by the day.
create function watermark(level_name text) returns timestamptz
language sql stable set search_path = barwright, pg_temp
begin atomic
    select level.watermark from level where name = case when level_name in ('1w', '1mo') then '1d' else level_name end;
end;
