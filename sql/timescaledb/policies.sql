-- A floor for the day maintain is dead: every hour refresh what is older than an hour. While maintain lives these find
-- nothing to do. Oldest first and in large batches: the default (newest first, 10 buckets) hides visible bars meanwhile.
do $$
declare
    l level;
begin
    for l in select * from level order by ordinal loop
        perform add_continuous_aggregate_policy(
            ('barwright.ohlcv_' || l.name)::regclass, start_offset => interval '30 days', end_offset => interval '1 hour',
            schedule_interval => interval '1 hour', buckets_per_batch => 240, refresh_newest_first => false
        );
    end loop;
end
$$;
