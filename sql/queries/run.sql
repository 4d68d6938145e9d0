-- engine: the engine this database was built with and what it runs on, in words
select concat_ws(' ',
    engine,
    (select extversion from pg_extension where extname = 'timescaledb' and engine = 'timescaledb'),
    'on Citus ' || (select split_part(extversion, '-', 1) from pg_extension where extname = 'citus')
        || ' with ' || workers() || ' workers,',
    'on PostgreSQL',
    split_part(current_setting('server_version'), ' ', 1)
)
from meta;

-- positions: per partition, the next message to land and how many rows have landed
select topic, partition, next_offset, rows from ingest_offset;

-- newest_bars: the newest minute of the first few symbols
select symbol, bucket, open, high, low, close, volume, trades
from newest_bars(array(select symbol from symbols order by symbol limit 10))
order by symbol;

-- watermark: up to when minutes are closed
select watermark from level where name = '1m';

-- register_unknown: register a market of the simulated exchange unless its symbol is registered
select register_symbol(
    %(symbol)s, %(source)s, %(market)s, %(base)s, %(quote)s, %(start)s, %(source)s, %(grace)s, true
)
where not exists (select from symbols where symbol = %(symbol)s and source is not null);

-- revision: how far the schema was migrated
select version_num from alembic_version;
