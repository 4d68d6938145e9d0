"""The rules of a tick: what is accepted is exact and PostgreSQL takes it, what is refused has a reason."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barwright.ingest import ticks
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.decode import native, native_lines
from barwright.ingest.ticks import (
    PLAIN_TRADE,
    RefusedError,
    Trade,
    Window,
    bar_row,
    decimal_of,
    number_of,
    stamp,
    time_of,
    trade_row,
)
from tests.ingest.messages import TOPIC_ID, bar, encode, trade

NOW = 1_795_478_400_000_000  # 2026-11-24T00:00:00Z
WINDOW = Window(0, NOW)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.decimals(min_value=0, max_value=Decimal("999999999999999999.999999999999999999"), allow_nan=False, places=18))
def test_an_accepted_number_is_the_decimal_of_its_digits(value: Decimal) -> None:
    for text in (f"{value:f}", f"{value:e}", f"{value:E}", str(value)):
        assert Decimal(decimal_of(text, "price")) == value


@given(st.floats(min_value=0, allow_infinity=False, allow_nan=False))
def test_what_python_prints_of_a_float_is_read_or_refused_but_never_changed(value: float) -> None:
    text = repr(value)
    _, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    if exponent < -18 or len(digits) + exponent > 18:
        with pytest.raises(RefusedError, match="18 digits"):
            decimal_of(text, "price")
    else:
        assert Decimal(decimal_of(text, "price")) == Decimal(text)


@pytest.mark.parametrize(
    "text",
    ["", "NaN", "Infinity", "-Infinity", "inf", "0x10", "1_000", "1e131071", "1e99", "1e18", "1e-19", "+1", ".5", "5.",
     " 1", "1 ", "1\n", "1\t", "\u0661", "\uff11", "1,5", "1.2.3", "--1", "1e", "e5", "1e1.5", "\\N", "1\x00", "-1",
     "1234567890123456789", "0.1234567890123456789", "1" * 100],
)  # fmt: skip
def test_what_is_no_number_of_ours_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="size: "):
        decimal_of(text, "size")
    assert not PLAIN_TRADE(f"2026-11-24T00:00:00Z\tA\t1\t1\t{text}\tb\n")


@pytest.mark.parametrize(
    ("text", "plain"),
    [("0", "0"), ("-0", "0"), ("0.000", "0"), ("0e5", "0"), ("1e-7", "0.0000001"), ("1E+2", "100"), ("007", "7"),
     ("1.500", "1.5"), ("999999999999999999", "999999999999999999"), ("1e-18", "0.000000000000000001"),
     ("0.10000000000000000000", "0.1"), ("1.0e17", "100000000000000000")],
)  # fmt: skip
def test_numbers_in_other_clothes(text: str, plain: str) -> None:
    assert decimal_of(text, "size") == plain


@given(
    st.integers(86_400, NOW // 1_000_000 - 86_400),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
    st.integers(0, 999_999_999_999),
    st.sampled_from("Tt "),
)
def test_a_time_of_any_offset_is_truncated_to_microseconds(at: int, offset: int, picos: int, sep: str) -> None:
    whole = datetime.fromtimestamp(at, UTC)
    local = whole.astimezone(timezone(timedelta(minutes=offset))).isoformat(sep)
    text = f"{local[:19]}.{picos:012}{local[19:]}"
    want = (whole - EPOCH) // timedelta(microseconds=1) + picos // 1_000_000
    assert time_of(text, WINDOW) == want
    assert datetime.fromisoformat(stamp(want)) == whole + timedelta(microseconds=picos // 1_000_000)


@pytest.mark.parametrize(
    "ts",
    ["", "now", "infinity", "2026-11-23", "2026-11-23T00:00:00", "2026-11-23T00:00Z", "2026-02-30T00:00:00Z",
     "2026-11-23T24:00:00Z", "2026-11-23T23:59:60Z", "2026-11-23T00:00:00+2400", "2026-11-23T00:00:00+99:00",
     "0000-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "2026-11-24T00:00:00.000001Z", "9999-12-31T23:59:59Z",
     "2026-11-23T00:00:00Z\n", "\u0662026-11-23T00:00:00Z", "1570752011620", -1, NOW // 1000 + 1, 10**30, -(10**30)],
)  # fmt: skip
def test_what_is_no_time_or_out_of_the_window_is_refused(ts: str | int) -> None:
    with pytest.raises(RefusedError, match="ts: "):
        time_of(ts, WINDOW)
    assert rows([trade(ts=ts)])[0] == []


def test_times_older_than_raw_retention_are_refused() -> None:
    window = Window(NOW - 1_000, NOW)
    assert time_of(stamp(NOW - 1_000), window) == NOW - 1_000
    with pytest.raises(RefusedError, match="older than raw retention"):
        time_of(stamp(NOW - 1_001), window)


@pytest.mark.parametrize(
    ("fields", "number"),
    [({"seq": 0}, (0, "seq")), ({"seq": 7, "id": "9"}, (7, "seq")), ({"seq": 2**63 - 1}, (2**63 - 1, "seq")),
     ({"id": "9"}, (9, "id")), ({"id": 9}, (9, "id")), ({"id": "007"}, (7, "id")),
     ({"id": str(2**63 - 1)}, (2**63 - 1, "id")),
     ({"id": str(2**63)}, (5, "offset")), ({"id": -1}, (5, "offset")), ({"id": "a-b"}, (5, "offset")),
     ({"id": ""}, (5, "offset")),
     ({"id": "\u0661"}, (5, "offset")), ({"id": None}, (5, "offset")), ({}, (5, "offset"))],
)  # fmt: skip
def test_a_trade_is_numbered_by_seq_else_id_else_place(fields: dict[str, Any], number: tuple[int, str]) -> None:
    assert number_of(Trade("A", 1, "1", "1", **fields), 5) == number


@pytest.mark.parametrize("seq", [-1, 2**63, 10**40])
def test_an_explicit_seq_that_is_none_is_refused(seq: int) -> None:
    with pytest.raises(RefusedError, match="seq: "):
        number_of(Trade("A", 1, "1", "1", "9", seq), 5)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"interval": "5m"}, "interval"), ({"ts": "2026-11-23T00:00:00.5Z"}, "whole minute"), ({"low": "6"}, "between"),
     ({"high": "4"}, "between"), ({"open": "0"}, "above zero"), ({"volume": "-1"}, "negative"),
     ({"trades": -1}, "count"),
     ({"trades": 2**31}, "count"), ({"quote_volume": "x"}, "quote_volume"), ({"symbol": "A B"}, "symbol")],
)  # fmt: skip
def test_a_bar_that_cannot_be_is_refused(fields: dict[str, Any], reason: str) -> None:
    good = ticks.Bar("A", "2026-11-23T00:00:00Z", "1m", "5", "7", "3", "6", "1", "9", 2)
    assert bar_row(good, WINDOW)[0] == "2026-11-23T00:00:00.000000Z\tA\t-1\t6\t1\t\\N\t5\t7\t3\t9\t2\n"
    for name, value in fields.items():
        setattr(good, name, value)
    with pytest.raises(RefusedError, match=reason):
        bar_row(good, WINDOW)


def rows(items: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The trade rows and the reasons that one record gives, its symbols all known to go by id."""
    claim = Claim("t", 0, TOPIC_ID, 1, 0)
    batch = Batch({item["symbol"]: "id" for item in items if isinstance(item.get("symbol"), str)}, WINDOW)
    # Twice: a symbol's first trade takes the second look, the next one the pattern.
    for offset in (0, 1):
        batch.add(Chunk(claim, offset, [(offset, encode(items))]), 10**9)
    assert len(batch.trades) % 2 == 0
    return batch.trades[len(batch.trades) // 2 :], [letter.reason for letter in batch.letters]


@pytest.mark.parametrize("symbol", ["", "A\t1", "A\n", "A\\N", "A B", "Aé", "_A", "A" * 65])
def test_what_is_no_symbol_is_refused(symbol: str) -> None:
    """Text COPY trusts it: a tab or a backslash would be another row's."""
    for message in (trade(symbol=symbol), bar(0, symbol=symbol)):
        accepted, reasons = rows([message])
        assert accepted == []
        assert [reason[:23] for reason in reasons] == ["symbol: not well-formed"] * 2


WEIRD = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"-?[0-9]{0,20}\.?[0-9]{0,20}([eE][+-]?[0-9]{0,3})?", fullmatch=True),
    st.from_regex(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{0,9})?(Z|[+-][0-9:]{4,5})", fullmatch=True
    ),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none(),
    st.booleans(),
)
MUTATION = st.dictionaries(
    st.sampled_from(["ts", "symbol", "id", "seq", "price", "size", "side", "type"]), WEIRD, max_size=2
)


@pytest.fixture(scope="module")
def shape(postgres: Any) -> Iterator[psycopg.Connection[Any]]:
    """A connection with a table of the shape and the checks of ticks."""
    from barwright import sql

    with psycopg.connect(postgres.url, autocommit=True) as connection:
        tables = sql.read("common/tables.sql")
        connection.execute("set search_path = pg_temp")
        connection.execute(tables[tables.index("create table tick_shape") :])  # type: ignore[arg-type]
        yield connection


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MUTATION)
def test_postgresql_takes_what_is_accepted_and_reads_the_same(shape: Any, mutation: dict[str, Any]) -> None:
    message = trade() | mutation
    accepted, reasons = rows([message])
    assert len(accepted) + len(reasons) in (1, 2)
    assert all(reasons) or not reasons
    if accepted:
        with shape.cursor().copy("copy tick_shape (ts, symbol, seq, price, size, side) from stdin") as copy:
            copy.write("".join(accepted))
        with shape.transaction():
            ts, symbol, price, size, seq, side = shape.execute(
                "delete from tick_shape returning ts, symbol, price, size, seq, side"
            ).fetchone()
        assert symbol == message["symbol"]
        assert (price, size) == (Decimal(str(message["price"])), Decimal(str(message["size"])))
        assert (ts - EPOCH) // timedelta(microseconds=1) == time_of(message["ts"], WINDOW)
        assert {"b": "buy", "s": "sell", None: None}[side] == message["side"]
        assert seq == int(message["id"] if message.get("seq") is None else message["seq"])


@settings(max_examples=300, deadline=None)
@given(MUTATION)
def test_the_pattern_and_the_second_look_agree(mutation: dict[str, Any]) -> None:
    """What the pattern takes is what `trade_row` takes, with the same meaning."""
    message = trade() | mutation
    accepted, reasons = rows([message])
    if reasons or not accepted:
        return
    made = Trade(**{k: str(v) if k in ("price", "size") else v for k, v in message.items() if k != "type"})
    row, _, _ = trade_row(made, 0, WINDOW)
    fast, careful = accepted[0].rstrip("\n").split("\t"), row.rstrip("\n").split("\t")
    assert [fast[1], int(fast[2]), Decimal(fast[3]), Decimal(fast[4]), fast[5]] == [
        careful[1], int(careful[2]), Decimal(careful[3]), Decimal(careful[4]), careful[5]
    ]  # fmt: skip
    assert datetime.fromisoformat(fast[0]) == datetime.fromisoformat(careful[0])


def test_bars_and_trades_of_one_symbol_share_a_record() -> None:
    claim = Claim("t", 0, TOPIC_ID, 1, 0)
    batch = Batch({}, WINDOW)
    batch.add(Chunk(claim, 0, [(0, encode([bar(), trade(), bar(symbol="ONLY/BARS")]))]), 10)
    assert (len(batch.trades), len(batch.bars), batch.letters) == (1, 2, [])
    assert batch.registered == {"BTCUSD": "id", "ONLY/BARS": None}


SECOND = st.lists(
    st.tuples(st.integers(0, 5), MUTATION, st.booleans()).map(
        lambda drawn: [trade() | {"id": str(900 + drawn[0])} | (drawn[1] if drawn[2] else {})]
    ),
    min_size=1, max_size=12,
)  # fmt: skip


def landed(batch: Batch, claim: Claim) -> tuple[Any, ...]:
    """All that a batch says of its records."""
    letters = [(letter.offset, letter.item, letter.reason, letter.raw) for letter in batch.letters]
    return batch.trades, letters, batch.registered, batch.minutes(), batch.cuts, batch.tallies[claim].counts


@settings(max_examples=300, deadline=None)
@given(SECOND, st.booleans(), st.sampled_from(["id", "seq", None]))
def test_what_is_looked_at_together_becomes_what_each_alone_becomes(
    records: list[list[dict[str, Any]]], arrays: bool, rule: ticks.Rule | None
) -> None:
    values = [encode(items if arrays else items[0]) for items in records]
    claim = Claim("t", 0, TOPIC_ID, 1, 0)
    together, alone = (Batch({trade()["symbol"]: rule}, WINDOW) for _ in range(2))
    together.add(Chunk(claim, 0, list(enumerate(values))), 10**9)
    alone._tally = alone.tallies[claim]
    for offset, value in enumerate(values):
        alone.take(claim, offset, native(value), value)
    assert landed(together, claim) == landed(alone, claim)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 90_000), min_size=1, max_size=12), st.integers(0, 90_000_000), st.booleans())
def test_of_the_minute_in_which_the_window_ends_what_lies_before_its_end_is_taken(
    found: list[int], end: int, texts: bool
) -> None:
    """Times in ms, and the window's end in microseconds, within the first minutes of a day."""
    day = datetime(2026, 11, 23, tzinfo=UTC)
    start = round(day.timestamp())
    ts = [f"{day + timedelta(milliseconds=ms):%Y-%m-%dT%H:%M:%S.%fZ}" if texts else start * 1000 + ms for ms in found]
    value = encode([trade(id=str(n), ts=one) for n, one in enumerate(ts)])
    batch = Batch({trade()["symbol"]: "id"}, Window(0, start * 10**6 + end))
    batch.add(Chunk(Claim("t", 0, TOPIC_ID, 1, 0), 0, [(0, value)]), 10**9)
    assert [int(row.split("\t")[2]) for row in batch.trades] == [n for n, ms in enumerate(found) if ms * 1000 <= end]
    assert {letter.reason[:17] for letter in batch.letters} <= {"ts: in the future"}
    assert len(batch.trades) + len(batch.letters) == len(found)


@pytest.mark.parametrize(("odd", "most"), [([], 0), (["1e0"], 4)])
def test_trades_of_now_are_read_the_usual_way(odd: list[str], most: int) -> None:
    """The closer look costs ten times as much, and the window ends in the minute of now. Where one trade is written
    another way it is for that one, for the first of the symbol and of each minute."""
    now = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
    batch = Batch({trade()["symbol"]: "id"}, Window(0, round(now.timestamp() * 10**6) + 5_000_000))
    items = [trade(id=str(n), ts=f"{now - timedelta(seconds=n):%Y-%m-%dT%H:%M:%SZ}") for n in range(60)]
    items += [trade(id="99", size=size, ts=items[0]["ts"]) for size in odd]
    with patch.object(Batch, "_other", autospec=True, side_effect=Batch._other) as closer:
        batch.add(Chunk(Claim("t", 0, TOPIC_ID, 1, 0), 0, [(0, encode(items))]), 10**9)
    assert len(batch.trades) == len(items)
    assert closer.call_count <= most


def test_a_symbol_with_a_newline_is_not_read_as_two_rows() -> None:
    two = "AB\t1\t5\t1\tb\n2026-11-23T00:00:00Z\tAB"
    accepted, reasons = rows([trade(), trade(symbol=two), trade()])
    assert len(accepted) == 2
    assert all(row.startswith(f"{trade()['ts']}\t{trade()['symbol']}\t") for row in accepted)
    assert all(reason.startswith("symbol: ") for reason in reasons)


@pytest.mark.parametrize(
    "values",
    [[b'{"a":[{}', b"{}]}"], [b'{"a":"}', b'{"}'], [b'{"a":{}', b',"b":{}}'], [encode(trade()) * 2, b""],
     [encode(trade()), None], [encode([trade()])], [encode(trade()) + b"\n"], [b""], [b"\xff{", b"}"],
     [encode(trade()) * 2, encode(trade())]],
)  # fmt: skip
def test_a_record_is_never_read_into_another(values: list[bytes | None]) -> None:
    assert native_lines(values) == ()
