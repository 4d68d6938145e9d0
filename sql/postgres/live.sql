-- The live views as select_bars says now.
do $$
declare
    l level;
begin
    for l in select * from level order by ordinal loop
        execute format('create or replace view live_%s as %s', l.name, select_bars(l.name, 'ohlcv',
            format('{time} >= (select watermark from level where name = %L)', l.name)));
    end loop;
end
$$;
