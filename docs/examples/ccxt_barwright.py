"""Barwright as an exchange of ccxt: what takes candles from an exchange takes them from here, at any address by
`barwright({"urls": {"api": {"public": "http://…"}}})`."""

from ccxt import Exchange

FRAMES = {name: name for name in ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "12h", "1d", "1w")}


class barwright(Exchange):  # noqa: N801  as ccxt names its classes
    def describe(self):
        return self.deep_extend(super().describe(), {
            "id": "barwright", "has": {"fetchOHLCV": True, "fetchMarkets": True}, "timeframes": {**FRAMES, "1M": "1mo"},
            "urls": {"api": {"public": "http://127.0.0.1:8000"}},
        })  # fmt: skip

    def sign(self, path, api="public", method="GET", params=None, headers=None, body=None):
        url = f"{self.urls['api'][api]}/{path}?{self.urlencode(params or {})}"
        return {"url": url, "method": method, "headers": headers, "body": body}

    def fetch_markets(self, params=None):
        names = ("symbol", "base", "quote")
        return [
            self.safe_market_structure({**{name: row[name] for name in names}, "id": row["symbol"], "type": "spot"})
            for row in self.request("v1/symbols", "public", "GET", params or {})["symbols"]
        ]

    def fetch_ohlcv(self, symbol, timeframe="1m", since=None, limit=None, params=None):
        self.load_markets()
        asked = {"symbol": self.market(symbol)["id"], "interval": self.timeframes[timeframe], "time": "ms"}
        asked |= {name: value for name, value in (("start", since), ("limit", limit)) if value is not None}
        bars = self.request("v1/bars", "public", "GET", {**asked, **(params or {})})["bars"]
        names = ("open", "high", "low", "close", "volume")
        return [[int(bar["bucket"]), *(float(bar[name]) for name in names)] for bar in bars]
