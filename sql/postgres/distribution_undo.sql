-- Undo distribution.sql, but for where the rows are.
drop function begin_repair, settle, distribute, unparse_functions;
