-- Compare one bucket of a level with its ticks. The level's name goes into a statement that runs as the owner, so it must
-- be one. A difference is noted and repaired by maintain's next round. Null where
-- the bucket cannot be judged: open, awaiting repair, or made of coarse bars; else whether it was right.
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
