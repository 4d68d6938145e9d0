-- How many workers of a Citus cluster hold our rows; null where the server is none.
create function workers() returns integer
language plpgsql stable set search_path = barwright, pg_temp
as $$
declare
    n integer;
begin
    if to_regclass('pg_dist_node') is not null then
        execute 'select count(*) from pg_dist_node where isactive and shouldhaveshards' into n;
    end if;
    return n;
end
$$;
