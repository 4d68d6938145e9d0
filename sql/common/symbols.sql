-- Symbols are registered, stopped and purged.

-- Serialises what is decided about one symbol (its registration, which tasks are filed), by transaction.
create function hold_symbol(the_symbol text) returns void
language sql set search_path = barwright, pg_temp
begin atomic
    select pg_advisory_xact_lock(hashtextextended(the_symbol, 5));
end;

-- Register a symbol, or register it again: the start moves only back, a stopped one goes on, and another source of
-- history may reach further back with its minutes.
create function register_symbol(
    the_symbol text, the_source text, the_market text, the_base text, the_quote text, start timestamptz,
    history text, the_grace interval, follow boolean
) returns symbols
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    result symbols;
begin
    perform hold_symbol(the_symbol);
    insert into symbols as s (symbol, source, market, base, quote, history_start, history_source, grace, live, history_end)
    values (the_symbol, the_source, the_market, the_base, the_quote, date_bin('1 minute', start, '2000-01-03Z'), history,
            the_grace, follow,
            -- What a topic brings from now on is not asked for again.
            case when not follow then date_bin('1 minute', now(), '2000-01-03Z') + interval '1 minute' end)
    on conflict (symbol) do update set
        source = excluded.source, market = excluded.market, base = excluded.base, quote = excluded.quote,
        history_start = least(s.history_start, excluded.history_start), history_source = excluded.history_source,
        grace = excluded.grace, live = excluded.live, stopped_at = null,
        -- Another producer may number the trades in another way.
        seq_rule = case when s.source is not distinct from excluded.source then s.seq_rule end,
        history_end = case when not excluded.live then coalesce(s.history_end, excluded.history_end) end,
        minutes_since = case when (s.history_source, s.market) is not distinct from (excluded.history_source, excluded.market)
                             then s.minutes_since end,
        hours_since = case when (s.history_source, s.market) is not distinct from (excluded.history_source, excluded.market)
                           then s.hours_since end
    returning * into result;
    update backfill_task set status = 'cancelled', error = 'registered with another source'
    where symbol = the_symbol and status not in ('landed', 'cancelled')
    and (source, market) is distinct from (result.history_source, result.market);
    return result;
end
$$;

-- Follow a symbol no more; its data stay. False where it is not followed.
create function stop_symbol(the_symbol text) returns boolean
language plpgsql set search_path = barwright, pg_temp
as $$
begin
    perform hold_symbol(the_symbol);
    update symbols set live = false, stopped_at = now()
    where symbol = the_symbol and source is not null and stopped_at is null;
    if not found then
        return false;
    end if;
    update backfill_task set status = 'cancelled', error = 'the symbol was stopped'
    where symbol = the_symbol and status not in ('landed', 'cancelled');
    return true;
end
$$;

-- Remove a symbol and all its data. Its days are repaired to nothing; a new epoch keeps old pages from coming alive
-- should the symbol come again. False where there is none.
create function purge_symbol(the_symbol text) returns boolean
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

-- An older state has come back, or data have gone: nothing that is cached under the old epoch may be used.
create function renew_epoch() returns text
language sql set search_path = barwright, pg_temp
begin atomic
    update meta set epoch = replace(gen_random_uuid()::text, '-', '') returning epoch;
end;
