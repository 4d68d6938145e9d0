-- After every upgrade: rows are distributed where the server has Citus and workers, and new functions made fit for it.
do $$
begin
    if to_regprocedure('barwright.distribute()') is not null then
        perform barwright.distribute();
    end if;
end
$$;
