-- tails: the bars of some symbols from a time on, ascending: what is open, and what has just closed; {view} is the level's
select
    symbol,
    {columns}
from {view}
where symbol = any(%(symbols)s) and bucket >= %(lo)s
order by symbol, bucket;

-- changed: the revisions of a symbol after one, up to another, with their spans in seconds; null where some of the log
-- was swept (revisions have no holes)
select case when count(*) = %(upto)s - %(after)s then coalesce(
    jsonb_agg(jsonb_build_array(
        rev,
        floor(extract(epoch from greatest(lower(span), '0001-01-01Z')))::bigint,
        ceil(extract(epoch from least(upper(span), '9999-12-31Z')))::bigint
    )) filter (where symbol = %(symbol)s), '[]'
) end
from revision where rev > %(after)s and rev <= %(upto)s;
