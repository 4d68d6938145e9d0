"""TradingView's Universal Data Feed: what its charting library, and whatever else speaks UDF, needs to use our bars."""
