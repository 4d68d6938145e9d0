-- apply: take over what the settings say of compression, retention and the width of chunks
select apply_policies(%(compress_days)s, %(tick_days)s, %(level_days)s, %(chunk_hours)s);

-- set_refresh_floor: days back that the engine's own refresh looks
select set_refresh_floor(%(floor_days)s);

-- hold: one process at a time compresses and drops; held by the session
select pg_try_advisory_lock(hashtextextended('barwright.policies', 0));

-- levels: every level, bottom up
select name from level order by ordinal;

-- compressible: closed chunks that are to be compressed, oldest first
select name, chunk::text, range_end from compressible();

-- compress_ticks: compress one chunk of the ticks
select compress_ticks(%(chunk)s::regclass);

-- compress_bars: compress one chunk of a level
select compress_bars(%(name)s, %(chunk)s::regclass);

-- drop_ticks: drop ticks that are older than they are kept; 0: there are none
select drop_ticks();

-- drop_bars: drop bars of a level that are older than they are kept; 0: there are none
select drop_bars(%(level)s);

-- storage: what the ticks and each level take, when each drops or compresses next, and what was
-- last applied to them, bottom up
select p.name, coalesce(s.rows, 0), coalesce(s.bytes, 0), coalesce(s.index_bytes, 0), coalesce(s.chunks, 0),
       coalesce(s.compressed_chunks, 0), coalesce(s.compressed_rows, 0), coalesce(s.compressed_bytes, 0),
       coalesce(s.plain_bytes, 0), s.oldest, s.newest, s.first_until + p.keep,
       s.loose_until + p.compress_after, p.compress_after, p.keep, p.since, p.width, p.applied_at
from policy as p left join storage() as s on s.name = p.name left join level as l on l.name = p.name
order by l.ordinal nulls first;

-- engine: which engine this database was built with
select engine from meta;
