"""Records with good trades between them: through decoder and batch into a database, and compared with the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from barwright import sql
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.decode import Decoder, Item, decoder_of, native
from barwright.ingest.decoders import decoders_of
from barwright.ingest.marks import Mark
from barwright.ingest.store import Clock, Store
from barwright.ingest.ticks import Window
from barwright.sql.engine import engine_of, levels
from tests import oracle
from tests.fuzz.corpus import RECORDS, chance, mutated
from tests.ingest.messages import TOPIC_ID

TOGETHER = 400  # records in a batch
DECODERS = decoders_of("cryptofeed=cryptofeed;binance=binance;cryptocompare=cryptocompare")
GOOD = "GOOD-ONE"  # no record of the corpus names it
BEGIN = datetime(2023, 3, 1, tzinfo=UTC)
WINDOW = Window(0, int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000)


class Records:
    """Lands cases in a database of its own; `good` are the trades that must be there."""

    def __init__(self, database: str, seed: int) -> None:
        self.database, self.seed = database, seed
        self.store = Store(database, Clock(), {})
        self.counts: Counter[str] = Counter()
        self.good: list[dict[str, Any]] = []
        row = self.store.connection.execute(
            sql.queries("ingest")["claim"], {"topic": "t", "partition": 0, "topic_id": TOPIC_ID}
        ).fetchone()
        assert row is not None
        self.place, self.fence = row[0], row[1]

    def run(self, first: int, cases: int) -> None:
        """So many cases; AssertionError names the seed and the first case of the batch that failed."""
        for number in range(first, first + cases, TOGETHER):
            kind = [*RECORDS][number // TOGETHER % len(RECORDS)]
            try:
                self._batch(kind, range(number, min(number + TOGETHER, first + cases)))
            except Exception as error:
                raise AssertionError(f"seed {self.seed}, cases of {kind} from {number}: {error!r}") from error

    def _batch(self, kind: str, numbers: range) -> None:
        decode = decoder_of(kind, DECODERS)
        values = []
        for number in numbers:
            rng = chance(self.seed, number)
            values.append(mutated(rng, rng.choice(RECORDS[kind])))
        self._land(values, decode)
        self.counts[kind] += len(values)

    def _land(self, values: list[bytes], decode: Decoder) -> None:
        """One batch: a bad record and a good one in turn, the good ones in our own format."""
        begin, records, marks, items = self.place, [], 0, 0
        good = {self._good() for _ in values}
        values = [value for pair in zip(values, sorted(good), strict=True) for value in pair]

        # Of other programs' topics, too: a good trade is told in our own format, whatever the bad one beside it is.
        def either(value: bytes) -> Sequence[Item]:
            return native(value) if GOOD.encode() in value else decode(value)

        for value in values:
            found = either(value)
            marks += sum(isinstance(item, Mark) for item in found)
            items += len(found)
            records.append((self.place, value))
            self.place += 1
        claim = Claim("t", 0, TOPIC_ID, self.fence, begin, either)
        rows = letters = 0
        rest: Chunk | None = Chunk(claim, begin, records)
        while rest:
            batch = Batch(self.store.rules, WINDOW)
            rest = batch.add(rest, 10**9)
            rows += batch.rows
            letters += len(batch.letters)
            while not self.store.register(batch):  # another rule numbers a symbol: decoded again by the one there is
                raise AssertionError("another process numbered a symbol")
            self.store.land(batch)
            claim.next = batch.spans[claim].end
        assert items - marks <= rows + letters <= items, (items, marks, rows, letters)
        self.counts["items"] += items
        self.counts["accepted, good ones included"] += rows
        self.counts["refused"] += letters

    def _good(self) -> bytes:
        n = len(self.good)
        ts = BEGIN + timedelta(seconds=n * 7)
        price, size = Decimal(100 + n % 13) + Decimal("1e-18") * (n % 97), Decimal(n % 11) / 8
        self.good.append({"symbol": GOOD, "ts": ts, "seq": n, "price": price, "size": size, "side": "b"})
        told = {"type": "trade", "symbol": GOOD, "ts": f"{ts:%Y-%m-%dT%H:%M:%SZ}", "id": str(n), "side": "buy"}
        return msgspec.json.encode(told | {"price": f"{price:f}", "size": f"{size:f}"})

    def check(self) -> None:
        """Every good trade's bar is the oracle's, and each letter is kept with a reason."""
        query = self.store.connection.execute
        with sql.connect(self.database, "test", autocommit=True) as connection:
            engine = engine_of(connection)
            engine.seal(timedelta(0))
            for level in levels(connection):
                engine.advance(level.name)
            while engine.repair():
                pass
        kept = query("select count(*), count(*) filter (where reason = '') from barwright.dead_letter").fetchone()
        assert kept == (self.counts["refused"], 0), (kept, self.counts)
        names = ("bucket", "open", "high", "low", "close", "volume", "quote_volume", "trades", "buy_volume")
        for interval in ("1m", "1h", "1d"):
            found = query(
                f"select {', '.join(names)} from barwright.ohlcv_{interval} where symbol = %s order by 1",  # type: ignore[arg-type]
                (GOOD,),
            ).fetchall()
            wanted = [tuple(bar[name] for name in names) for bar in oracle.bars(self.good, interval)]
            first = next((pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]), None)
            assert found == wanted, f"bars of {interval}: {len(found)} for {len(wanted)}, the first other: {first}"

    def close(self) -> None:
        """End the connection."""
        self.store.close()
