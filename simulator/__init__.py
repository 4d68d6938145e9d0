"""A simulated exchange: every trade of every market is a pure function of (seed, market, minute)."""
