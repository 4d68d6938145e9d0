-- Engine postgres on Citus, PostgreSQL's own distributed extension: ticks and closed bars lie on its workers by symbol,
-- everything else on the coordinator, which is the only node that Barwright talks to.

-- Bodies that were parsed make Citus take a function for something that the tables it reads depend on, and refuse to
-- distribute those. As a string the same body depends on nothing. Returns how many were changed. (Like distribute it runs
-- as who migrates: the workers do not let the owner in before that is committed.)
create function unparse_functions() returns integer
language plpgsql set search_path = barwright, public, pg_temp
as $$
declare
    f record;
    changed integer := 0;
begin
    for f in
        select p.oid::regprocedure as name, pg_get_functiondef(p.oid) as definition, pg_get_function_sqlbody(p.oid) as body
        from pg_proc as p
        where p.pronamespace = 'barwright'::regnamespace and p.prosqlbody is not null and exists (
            select from pg_depend as d join pg_class as c on c.oid = d.refobjid
            where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.refclassid = 'pg_class'::regclass
            and c.relnamespace = 'barwright'::regnamespace
            and (c.relname in ('ticks', 'level') or c.relname ~ '^(rollup|live|ohlcv)_')
        )
    loop
        execute replace(f.definition, f.body, format('AS %L', case
            when f.body ~ '^\s*BEGIN ATOMIC' then regexp_replace(f.body, '^\s*BEGIN ATOMIC(.*)END\s*$', '\1')
            else regexp_replace(f.body, '^\s*RETURN', 'SELECT')
        end));
        changed := changed + 1;
    end loop;
    return changed;
end
$$;

-- Distribute what is not yet, where the server has Citus and workers. Rows are moved. Harmless where there is nothing to
-- do, so every migration ends with it; whoever adds the first workers later calls it. Returns whether we are distributed.
create function distribute() returns boolean
language plpgsql set search_path = barwright, public, pg_temp
as $$
declare
    name text;
    owner constant text := current_setting('barwright.role_prefix', true) || '_owner';
begin
    if (select engine from meta) <> 'postgres' or to_regclass('pg_dist_node') is null then
        return false;
    end if;
    if not exists (select from pg_dist_node where isactive and shouldhaveshards) then
        return false;
    end if;
    -- The coordinator reaches the workers as whoever runs a statement, and most functions run as the owner.
    if exists (select from pg_roles where rolname = owner and not rolcanlogin) then
        execute format('alter role %I login', owner);
    end if;
    perform unparse_functions();
    -- One connection to each worker, so that what is rolled up and how far are one transaction there too: a reader would
    -- else see bars twice, or not at all, for a moment.
    for name in select p.oid::regprocedure from pg_proc as p where p.pronamespace = 'barwright'::regnamespace
        and p.proname in ('advance', 'repair', 'begin_repair', 'lay_coarse')
    loop
        execute format('alter function %s set citus.multi_shard_modify_mode = sequential', name);
    end loop;
    if exists (select from pg_dist_partition where logicalrelid = 'ticks'::regclass) then
        return true;
    end if;
    -- Tables made in this transaction are on one connection of each node, and what is moved must be too.
    set local citus.multi_shard_modify_mode = sequential;
    set local client_min_messages = warning;
    perform create_reference_table('level');
    perform create_distributed_table('ticks', 'symbol');
    perform create_distributed_table('rollup_' || l.name, 'symbol', colocate_with => 'ticks') from level as l;
    perform create_distributed_function('vwap(numeric, numeric)');
    -- Rows that were moved still fill the coordinator's disk.
    perform truncate_local_data_after_distributing_table(relid)
    from (
        select relid from pg_partition_tree('ticks') where isleaf and relid <> 'ticks'::regclass
        union all
        select to_regclass('rollup_' || l.name) from level as l
    ) as moved;
    return true;
end
$$;

-- Wait until every transaction that is decided here is finished on the workers. A commit is final on the coordinator
-- before the workers have it: for milliseconds, or until Citus recovers it where a worker died in between. What such a
-- transaction brought is neither seen there nor late. Refuses (55000) where that does not end, or a worker is away.
create function settle() returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    prepared constant text := $remote$
        select coalesce(string_agg(gid, ','), '') from pg_prepared_xacts where database = current_database()
    $remote$;
    deadline timestamptz := clock_timestamp() + interval '5 seconds';
    waiting text[];
    left_over text[];
    away text;
begin
    if to_regclass('pg_dist_node') is null then
        return;
    end if;
    loop
        select string_agg(nodename || ':' || nodeport, ', ') filter (where not success),
               string_to_array(string_agg(nullif(result, ''), ',') filter (where success), ',')
        into away, left_over
        from run_command_on_workers(prepared);
        if away is not null then
            raise exception 'a worker is away: %', away using errcode = 'object_not_in_prerequisite_state';
        end if;
        -- Only those of the first look: new ones have noted what they bring as late.
        waiting := array(select unnest(coalesce(waiting, left_over)) intersect select unnest(left_over));
        exit when waiting = '{}';
        if clock_timestamp() > deadline then
            raise exception 'transactions are not finished on their workers: %', waiting
            using errcode = 'object_not_in_prerequisite_state', hint = 'Citus recovers them every citus.recover_2pc_interval.';
        end if;
        perform pg_sleep(0.005);
    end loop;
end
$$;

-- Delete the late ranges that have been repaired into the bars and write their revisions, merged by symbol; later, in a
-- transaction of its own, where begin_repair says so.
create or replace function finish_repair(ids bigint[]) returns bigint
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    last bigint;
begin
    if current_setting('barwright.finish_later', true) = 'on' then
        return null;
    end if;
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

-- repair_history in two transactions, for Citus: this one changes the bars; finish_repair, after settle, ends the late
-- ranges it returns and writes the revisions. In one, a reader could keep an old page under the new revision: the
-- coordinator shows a commit before the workers do.
create function begin_repair() returns bigint[]
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    ids bigint[];
    symbols text[];
    days timestamptz[];
begin
    perform hold_maintenance();
    ids := array(select id from late_range);
    if ids = '{}' and not exists (select from settled_day) then
        return ids;
    end if;
    -- The ticks of these ranges may still be on their way to the workers.
    perform settle();
    perform set_config('barwright.finish_later', 'on', true);
    perform repair_history();
    perform set_config('barwright.finish_later', 'off', true);
    -- With those of settled days, which repair_history has just added.
    ids := ids || array(select id from late_range where xmin = pg_current_xact_id()::xid);
    select array_agg(symbol), array_agg(day) into symbols, days
    from (
        select distinct c.symbol, day_floor(c.bucket) as day
        from late_range as r join coarse_bars as c
            on c.symbol = r.symbol and c.bucket >= day_floor(lower(r.span)) and c.bucket < day_ceil(upper(r.span))
    ) as touched;
    if symbols is not null then
        perform lay_coarse(name, symbols, days) from unnest(array['1h', '4h', '1d']) as name;
    end if;
    return ids;
end
$$;

-- What imports must leave alone: minutes wholly covered live that hold no imported bar; it would cost them their trades
-- and buy_volume. In two steps, since the first is asked of the coordinator and the second of the symbol's worker.
create or replace function kept_live(the_symbol text, within tstzrange) returns tstzmultirange
language plpgsql stable set search_path = barwright, pg_temp set plan_cache_mode = force_custom_plan
as $$
declare
    live tstzmultirange := coalesce((
        select range_agg(tstzrange(lo, hi)) filter (where lo < hi)
        from unnest(covered_live(the_symbol, within)) as span
        cross join lateral (select
            date_bin('1 minute', lower(span) + interval '1 minute' - interval '1 microsecond', '2000-01-03Z') as lo,
            date_bin('1 minute', upper(span), '2000-01-03Z') as hi
        ) as inner_minutes
    ), '{}');
begin
    if live = '{}' then
        return live;
    end if;
    return live - coalesce((
        select range_agg(tstzrange(ts, ts + interval '1 minute')) from ticks
        where symbol = the_symbol and seq = -1 and ts >= lower(within) and ts < upper(within)
    ), '{}');
end
$$;

-- A bucket to look at: a symbol, one of its days that have bars or should, a level, and a place in the day, all by
-- chance; the day is asked for by the symbol's name, so of one worker.
create or replace function audit_sample(the_symbol text default null)
returns table (symbol text, "interval" text, bucket timestamptz)
language plpgsql volatile set search_path = barwright, pg_temp set plan_cache_mode = force_custom_plan
as $$
declare
    one text := (select s.symbol from symbols as s where the_symbol is null or s.symbol = the_symbol order by random() limit 1);
    since timestamptz := coalesce((select p.since from policy as p where p.name = 'ticks'), '-infinity');
    day timestamptz := (
        select o.bucket from ohlcv_1d as o where o.symbol = one and o.bucket >= since order by random() limit 1
    );
begin
    return query
    select one, l.name,
           day + l.width * floor(random() * (extract(epoch from interval '1 day') / extract(epoch from l.width)))
    from (select name, width from level order by random() limit 1) as l
    where day is not null;
end
$$;

-- Write the coarse bars of these days into the rollups of a level: hours as they are, or summed up; days at 1d only. The
-- ends of the days come as values: Citus lets a delete compute nothing from rows that depends on the time zone.
create or replace function lay_coarse(level_name text, symbols text[], days timestamptz[]) returns void
language plpgsql set search_path = barwright, pg_temp
as $$
declare
    l level;
begin
    select * into l from level where name = level_name;
    execute format('
        delete from rollup_%s as r using unnest($1, $2, $3) as d (symbol, day, next_day)
        where r.symbol = d.symbol and r.bucket >= d.day and r.bucket < d.next_day', l.name)
    using symbols, days, array(select day + interval '1 day' from unnest(days) with ordinality as d (day, n) order by n);
    execute format('
        insert into rollup_%s
        select c.symbol, date_bin($3, c.bucket, ''2000-01-03Z''), (array_agg(open order by c.bucket))[1], max(high),
               min(low), (array_agg(close order by c.bucket desc))[1], sum(volume),
               case when count(quote_volume) = count(*) then sum(quote_volume) end,
               case when count(trades) = count(*) then sum(trades)::bigint end, null, true
        from unnest($1, $2) as d (symbol, day)
        join coarse_bars as c on c.symbol = d.symbol and c.bucket >= d.day and c.bucket < d.day + interval ''1 day''
        where c."interval" = ''1h'' or $3 = interval ''1 day''
        group by 1, 2', l.name)
    using symbols, days, l.width;
end
$$;

-- Remove a symbol and all its data. Its days are repaired to nothing; bars whose ticks were dropped, which no repair
-- reaches, are deleted. A new epoch keeps old pages from coming alive should the symbol come again. False where there
-- is none. (A set is made of what a worker answers, not by it.)
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
    select the_symbol, unnest(days)
    from (select range_agg(tstzrange(bucket, bucket + interval '1 day')) as days from ohlcv_1d where symbol = the_symbol) as there;
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
