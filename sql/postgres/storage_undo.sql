-- Undo storage.sql; storage() itself is made again before.
drop function distributed_sizes, table_size;
