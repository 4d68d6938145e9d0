-- What \d+ and \dv+ in psql, and database browsers, show of the objects that people meet.
do $$
declare
    name text;
begin
    for name in select l.name from level as l union all values ('1w'), ('1mo') loop
        execute format('comment on view ohlcv_%s is %L', name, format(
            'Bars of %s: start of the bucket in UTC, exact decimals, the open bar included, no row where there was no '
            'trade. Ask by symbol and a range of bucket.', name));
    end loop;
end
$$;

comment on table ticks is 'Trades, and imported 1-minute bars (seq -1): the one place prices enter.';
comment on table symbols is 'The symbols we hold or want; one that arrives on a topic registers itself.';
comment on table level is 'How far each level is sealed and rolled up: buckets below watermark are closed.';
comment on table ingest_offset is 'Kafka positions, written in the transaction that writes the rows.';
comment on table dead_letter is 'Messages that could not become rows, with reason and bytes.';
comment on table late_range is 'Spans of rows that landed below the seal and await repair.';
comment on table revision is 'Changes of closed bars, in commit order.';
comment on table meta is 'Engine, epoch and the revision counter: one row.';
