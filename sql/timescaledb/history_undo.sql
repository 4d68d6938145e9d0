-- Undo history.sql: the aggregates get their public names back.
drop view ohlcv_1w;
drop view ohlcv_1mo;
drop view ohlcv_1h;
drop view ohlcv_4h;
drop view ohlcv_1d cascade;  -- and the auditor's sample, which reads it
alter materialized view cagg_1h rename to ohlcv_1h;
alter materialized view cagg_4h rename to ohlcv_4h;
alter materialized view cagg_1d rename to ohlcv_1d;
