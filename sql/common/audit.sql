-- The auditor: closed bars are computed again from their ticks, by a definition of its own, and compared where they are.

-- A repair that must not trust what the engine holds to be unchanged: the auditor's.
alter table late_range add column forced boolean not null default false;

-- The bar of any span of whole minutes, from ticks alone: a minute with an imported bar is that bar, else its trades in
-- the order of seq. No row where there was nothing.
create function bar_of_ticks(the_symbol text, lo timestamptz, hi timestamptz)
returns table (
    open numeric, high numeric, low numeric, close numeric, volume numeric, quote_volume numeric, trades numeric,
    buy_volume numeric, imported boolean
)
language sql stable set search_path = barwright, pg_temp
begin atomic
    with minutes as (
        select date_bin('1 minute', t.ts, '2000-01-03Z') as minute, array_agg(t order by t.seq) as ticks
        from ticks as t where t.symbol = the_symbol and t.ts >= lo and t.ts < hi
        group by 1
    ), bars as (
        -- seq -1 sorts first.
        select minute, (ticks[1]).open, (ticks[1]).high, (ticks[1]).low, (ticks[1]).price as close,
               (ticks[1]).size as volume, (ticks[1]).quote as quote_volume, (ticks[1]).trades::numeric as trades,
               null::numeric as buy_volume, true as imported
        from minutes where (ticks[1]).seq = -1
        union all
        select m.minute, (m.ticks[1]).price, trade.high, trade.low, (m.ticks[cardinality(m.ticks)]).price, trade.volume,
               trade.quote_volume, trade.trades, trade.buy_volume, false
        from minutes as m cross join lateral (
            select max(price) as high, min(price) as low, sum(size) as volume, sum(price * size) as quote_volume,
                   count(*)::numeric as trades,
                   case when count(side) = count(*) then coalesce(sum(size) filter (where side = 'b'), 0) end as buy_volume
            from unnest(m.ticks)
        ) as trade
        where (m.ticks[1]).seq >= 0
    )
    select (array_agg(bars.open order by minute))[1], max(bars.high), min(bars.low),
           (array_agg(bars.close order by minute desc))[1], sum(bars.volume),
           case when count(bars.quote_volume) = count(*) then sum(bars.quote_volume) end,
           case when count(bars.trades) = count(*) then sum(bars.trades) end,
           case when count(bars.buy_volume) = count(*) then sum(bars.buy_volume) end,
           bool_or(bars.imported)
    from bars having count(*) > 0;
end;

-- Compare one bucket of a level with its ticks. A difference is noted and repaired by maintain's next round. Null where
-- the bucket cannot be judged: open, awaiting repair, or made of coarse bars; else whether it was right.
create function audit_bucket(the_symbol text, level_name text, the_bucket timestamptz) returns boolean
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

-- A bucket to look at: a symbol, one of its days that have bars or should, a level, and a place in the day, all by chance.
create function audit_sample(the_symbol text default null)
returns table (symbol text, "interval" text, bucket timestamptz)
language sql volatile set search_path = barwright, pg_temp
begin atomic
    with one as (
        select s.symbol from symbols as s where the_symbol is null or s.symbol = the_symbol order by random() limit 1
    ), day as (
        select one.symbol, d.bucket from one cross join lateral (
            select o.bucket from ohlcv_1d as o where o.symbol = one.symbol order by random() limit 1
        ) as d
    )
    select day.symbol, l.name,
           day.bucket + l.width * floor(random() * (extract(epoch from interval '1 day') / extract(epoch from l.width)))
    from day cross join lateral (select name, width from level order by random() limit 1) as l;
end;

-- Findings whose repair is done are marked so. Returns how many.
create function finish_findings() returns integer
language sql set search_path = barwright, pg_temp
begin atomic
    with done as (
        update audit_finding as f set repaired_at = now()
        where repaired_at is null and "interval" <> 'seq'
        and not exists (
            select from late_range as r
            where r.symbol = f.symbol and r.forced
            and r.span @> f.bucket
        )
        returning 1
    )
    select count(*)::integer from done;
end;
