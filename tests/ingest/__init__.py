"""The ingest package, on real servers."""
