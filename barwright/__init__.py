"""Barwright: OHLCV bars you can trust. Ticks on Kafka become exact bars in the database and in the API."""

__version__ = "0.1.0"
