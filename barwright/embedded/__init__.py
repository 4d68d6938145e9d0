"""PostgreSQL, Kafka and Valkey started from packages, for `barwright run` and the tests. Loopback only."""
