-- What the ticks and bars take on every machine: on Citus the rows lie on its workers.

-- Estimated rows and bytes of every distributed table, on all nodes together; none where the server is no Citus. Refuses
-- (55000) while a worker is away: less than all would be told as all.
create function distributed_sizes()
returns table (relation regclass, rows bigint, bytes bigint, index_bytes bigint)
language plpgsql stable set search_path = barwright, pg_temp
as $$
declare
    on_node constant text := $remote$
        select coalesce(json_agg(t), '[]') from (
            select format('%I.%I', n.nspname, parent.relname) as relation, sum(greatest(c.reltuples, 0))::bigint as rows,
                   sum(pg_total_relation_size(c.oid)) as bytes, sum(pg_indexes_size(c.oid)) as index_bytes
            from pg_dist_shard as s
            join pg_dist_placement as p using (shardid)
            join pg_dist_local_group as here on here.groupid = p.groupid
            join pg_class as parent on parent.oid = s.logicalrelid
            join pg_namespace as n on n.oid = parent.relnamespace
            join pg_class as c on c.oid = to_regclass(shard_name(s.logicalrelid, s.shardid))
            where n.nspname = 'barwright'
            group by 1
        ) as t
    $remote$;
    here jsonb;
    said jsonb;
    away text;
begin
    if to_regclass('pg_dist_node') is null then
        return;
    end if;
    -- Asked here and not by run_command_on_all_nodes: to itself the coordinator cannot log in as everybody.
    execute on_node into here;
    select jsonb_agg(result::jsonb) filter (where success),
           string_agg(nodename || ':' || nodeport, ', ') filter (where not success)
    into said, away
    from run_command_on_workers(on_node);
    if away is not null then
        raise exception 'a worker is away: %', away using errcode = 'object_not_in_prerequisite_state';
    end if;
    return query
    select to_regclass(t.relation), sum(t.rows)::bigint, sum(t.bytes)::bigint, sum(t.index_bytes)::bigint
    from jsonb_array_elements(coalesce(said, '[]') || jsonb_build_array(here)) as node
    cross join lateral jsonb_to_recordset(node) as t (relation text, rows bigint, bytes bigint, index_bytes bigint)
    group by 1;
end
$$;

-- What one table takes: here, and on the nodes (distributed_sizes() as JSON by relation; null where there are none).
create function table_size(relation regclass, sizes jsonb, out rows bigint, out bytes bigint, out index_bytes bigint)
language sql stable set search_path = barwright, pg_temp
begin atomic
    select greatest(c.reltuples, 0)::bigint + coalesce((d ->> 'rows')::bigint, 0),
           pg_total_relation_size(c.oid) + coalesce((d ->> 'bytes')::bigint, 0),
           pg_indexes_size(c.oid) + coalesce((d ->> 'index_bytes')::bigint, 0)
    from pg_class as c cross join lateral (select sizes -> c.oid::text as d) as of_nodes
    where c.oid = relation;
end;

-- What the ticks and each level take: estimated rows and bytes, partitions, the times they reach over, and the
-- end of the oldest one.
create or replace function storage() returns table (
    name text, rows bigint, bytes bigint, index_bytes bigint, chunks bigint, compressed_chunks bigint, compressed_rows bigint,
    compressed_bytes bigint, plain_bytes bigint, oldest timestamptz, newest timestamptz, first_until timestamptz,
    loose_until timestamptz
)
language plpgsql stable set search_path = barwright, pg_temp
as $$
declare
    l level;
    sizes jsonb := (select jsonb_object_agg(relation::oid, to_jsonb(d)) from distributed_sizes() as d);
begin
    return query
    select 'ticks', sum(t.rows)::bigint, sum(t.bytes)::bigint, sum(t.index_bytes)::bigint, count(*), 0::bigint, 0::bigint,
           0::bigint, 0::bigint, min(p.lower), max(p.upper), min(p.upper), null::timestamptz
    from tick_partitions() as p cross join lateral table_size(p.partition, sizes) as t having count(*) > 0;
    for l in select * from level order by ordinal loop
        return query execute format('
            select %1$L, t.rows, t.bytes, t.index_bytes, 1::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, b.oldest,
                   b.newest + %3$L, b.oldest + %3$L, null::timestamptz
            from table_size(%2$L, $1) as t,
                 (select min(bucket) as oldest, max(bucket) as newest from %2$s) as b', l.name, 'rollup_' || l.name, l.width)
        using sizes;
    end loop;
end
$$;
