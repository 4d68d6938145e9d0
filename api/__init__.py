"""The HTTP API: bars, symbols and health, answered from closed pages and one snapshot of the database."""
