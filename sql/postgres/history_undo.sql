-- Undo history.sql: what 0001 made is as it was.
alter function repair() reset enable_hashjoin reset enable_mergejoin;
