"""Backups: a dump of one snapshot, and what says how to go on from it. PostgreSQL's own programs do the work."""
