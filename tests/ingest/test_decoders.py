"""Other programs' messages: read by their own fields, skipped where they are no trades, refused with a reason."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barwright.errors import BarwrightError
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.decode import Bad, Decoder, decoder_of, native
from barwright.ingest.decoders import FIELDS, decoders_of
from barwright.ingest.letters import letters_of
from barwright.ingest.ticks import Bar, Timed, Trade, Window
from barwright.settings import Settings
from tests.ingest.conftest import World, eventually
from tests.ingest.cryptocompare import heartbeat
from tests.ingest.cryptocompare import trade as frame
from tests.ingest.messages import TOPIC_ID, encode, trade

ALL = "^trades-=cryptofeed;^binance=binance;^cc-=cryptocompare"
CRYPTOFEED = {"exchange": "COINBASE", "symbol": "BTC-USD", "side": "buy", "amount": 0.00012, "price": 27180.12,
              "id": "77", "type": None, "timestamp": 1700000000.123456, "receipt_timestamp": 1700000000.2}  # fmt: skip
BINANCE = {"e": "trade", "E": 1700000000200, "s": "BTCUSDT", "t": 5, "p": "27180.12000000", "q": "0.00001000",
           "T": 1700000000123, "m": True, "M": True}  # fmt: skip
AGGREGATE = {"e": "aggTrade", "E": 1700000000200, "s": "BTCUSDT", "a": 9, "p": "1.5", "q": "2", "f": 1, "l": 3,
             "T": 1700000000123, "m": False}  # fmt: skip


def decoder(topic: str, text: str = ALL) -> Decoder:
    return decoder_of(topic, decoders_of(text))


def one(topic: str, message: Any, text: str = ALL) -> Any:
    (item,) = decoder(topic, text)(message if isinstance(message, bytes) else encode(message))
    return item


def row(topic: str, message: Any, rule: str) -> str:
    """The COPY row a message becomes, numbered by this rule."""
    batch = Batch({}, Window(0, 2**60))
    value = message if isinstance(message, bytes) else encode(message)
    batch.add(Chunk(Claim("t", 0, TOPIC_ID, 1, 0, decoder(topic)), 0, [(0, value)]), 10)
    assert not batch.letters
    assert [*batch.registered.values()] == [rule]
    (found,) = batch.trades
    return found.rstrip("\n")


def test_topics_choose_their_decoder() -> None:
    decoders = decoders_of(f"{ALL};^(?=x)x=native;^spot=binance:b={{symbol}}")
    assert decoder_of("tick-data", decoders) is native
    assert decoder_of("xyz", decoders) is native
    assert decoder_of("my-trades-x", decoders) is native
    (item,) = decoder_of("spot-1", decoders)(encode(BINANCE))
    assert isinstance(item, Trade)
    assert item.symbol == "b=BTCUSDT"
    assert not decoders_of("")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("trades", "no PATTERN=FORMAT"),
        ("^x=kaiko", "no PATTERN=FORMAT"),
        ("^(x=binance", "no regular expression"),
        ("^x=binance:{exchange}", "names no field of binance"),
        ("^x=cryptofeed:{symbol.__class__}", "names no field"),
        ("^x=cryptofeed:{symbol!r}", "names no field"),
        ("^x=cryptofeed:{symbol:>9}", "names no field"),
        ("^x=cryptofeed:{symbol", "is no template"),
        ("^x=cryptofeed:{}", "names no field"),
    ],
)
def test_settings_that_make_no_sense_are_said(text: str, reason: str) -> None:
    with pytest.raises(BarwrightError, match=reason):
        decoders_of(text)


@pytest.mark.parametrize(
    ("topic", "template", "message", "symbol"),
    [
        ("trades-COINBASE-BTC-USD", "cryptofeed", CRYPTOFEED, "COINBASE:BTC-USD"),
        ("trades-COINBASE-BTC-USD", "cryptofeed:{base}{quote}.{exchange}", CRYPTOFEED, "BTCUSD.COINBASE"),
        ("binance", "binance", BINANCE, "BTCUSDT"),
        ("cc-1", "cryptocompare", frame(1, 1.7e9), "BTCUSD"),
        ("cc-1", "cryptocompare:{exchange}:{fsym}/{tsym}", frame(1, 1.7e9), "Coinbase:BTC/USD"),
    ],
)
def test_templates_make_symbols(topic: str, template: str, message: Any, symbol: str) -> None:
    assert one(topic, message, f".*={template}").symbol == symbol


def test_cryptofeed_times_and_numbers_keep_their_digits() -> None:
    assert row("trades-x", CRYPTOFEED, "id") == (
        "2023-11-14T22:13:20.123456Z\tCOINBASE:BTC-USD\t77\t27180.12\t0.00012\tb"
    )
    # Times a million, this one would be .100003 as a binary float.
    exact = encode(CRYPTOFEED).replace(b"1700000000.123456", b"1700000000.1000039").replace(b"27180.12", b'"1e-05"')
    assert row("trades-x", exact, "id") == "2023-11-14T22:13:20.100003Z\tCOINBASE:BTC-USD\t77\t0.00001\t0.00012\tb"
    assert one("trades-x", CRYPTOFEED | {"timestamp": 1700000000, "id": None}).id is None


@pytest.mark.parametrize(
    ("missing", "rule"), [(None, "offset"), ("", "offset"), ("7", "id"), (7, "id"), ("a-1", "time")]
)
def test_cryptofeed_ids_choose_the_numbering(missing: Any, rule: str) -> None:
    assert row("trades-x", CRYPTOFEED | {"id": missing}, rule)


def test_an_id_that_is_no_number_numbers_the_same_trade_the_same() -> None:
    first, again, other = (one("trades-x", CRYPTOFEED | {"id": name}) for name in ("a-1", "a-1", "a-2"))
    assert type(first) is Timed
    assert first.seq == again.seq != other.seq
    assert first.seq // 1_000 == other.seq // 1_000 == 1_700_000_000_123_456
    assert one("trades-x", CRYPTOFEED | {"id": "a", "timestamp": 1.5}).seq // 1_000_000 == 1_500


def test_binance() -> None:
    assert row("binance-spot", BINANCE, "id") == "2023-11-14T22:13:20.123Z\tBTCUSDT\t5\t27180.12000000\t0.00001000\ts"
    assert row("binance-spot", AGGREGATE, "id") == "2023-11-14T22:13:20.123Z\tBTCUSDT\t9\t1.5\t2\tb"
    assert one("binance", {"stream": "btcusdt@trade", "data": BINANCE}) == one("binance", BINANCE)
    assert one("binance", {"data": AGGREGATE, "stream": "btcusdt@aggTrade"}) == one("binance", AGGREGATE)
    assert one("binance", BINANCE | {"X": "MARKET"}) == one("binance", BINANCE)
    assert one("binance", BINANCE | {"T": 1700000000123456}).ts == "2023-11-14T22:13:20.123456Z"


@pytest.mark.parametrize(
    "message",
    [
        BINANCE | {"X": "INSURANCE_FUND"},
        AGGREGATE | {"X": "ADL"},
        {"e": "depthUpdate", "s": "BTCUSDT", "b": [["1", "2"]], "a": [["1", "2"]], "T": "x"},
        {"e": "24hrTicker", "s": "BTCUSDT", "p": 1, "a": "2"},
        {"e": "kline", "k": {}},
        {"stream": "btcusdt@depth", "data": {"e": "depthUpdate", "a": []}},
        {"stream": "btcusdt@depth5", "data": {"lastUpdateId": 1, "bids": [], "asks": []}},
        {"u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "1", "A": "1"},
        {"result": None, "id": 1},
        {"error": {"code": 1}, "id": 1},
        [{"e": "24hrMiniTicker"}, {"e": "24hrMiniTicker"}],
    ],
)
def test_what_is_no_trade_of_binances_market_is_skipped(message: Any) -> None:
    assert not decoder("binance")(encode(message))


def test_cryptocompare_is_numbered_by_time_as_our_own_feed_does() -> None:
    second = 1_700_000_000
    message = encode(frame(1234567, second + 0.123456, ID="x-1")).replace(b"27180.12", b"27180.120000000000001")
    seq = second * 10**9 + 123_456_000 + 567
    assert row("cc-1", message, "time") == (
        f"2023-11-14T22:13:20.123456Z\tBTCUSD\t{seq}\t27180.120000000000001\t0.00012\ts"
    )
    without = frame(7, second + 1, TSNS=None, CCSEQ=None)
    assert one("cc-1", without).seq == (second + 1) * 10**9 + 7
    for skipped in (heartbeat(5), {"TYPE": "20", "P": "x", "TS": []}, {"TYPE": "5", "FLAGS": 1}, {}):
        assert not decoder("cc-1")(encode(skipped))


@pytest.mark.parametrize(
    ("topic", "message", "reason"),
    [
        ("trades-x", b"", "not JSON"),
        ("trades-x", b"[1]", "got `array`"),
        ("trades-x", [CRYPTOFEED], "got `array`"),
        ("trades-x", CRYPTOFEED | {"timestamp": None}, "timestamp: not seconds"),
        ("trades-x", CRYPTOFEED | {"timestamp": -1}, "timestamp: not seconds"),
        ("trades-x", CRYPTOFEED | {"timestamp": 1e30}, "timestamp: not seconds"),
        ("trades-x", CRYPTOFEED | {"timestamp": 1e15}, "timestamp: not seconds"),
        ("trades-x", CRYPTOFEED | {"symbol": "BTC USD"}, "symbol: not well-formed"),
        ("trades-x", {"exchange": "X"}, "symbol"),
        ("binance", {}, "no event"),
        ("binance", {"x": 1}, "no event"),
        ("binance", {"data": {}, "stream": "x"}, "no event"),
        ("binance", [BINANCE], "one record is one message"),
        ("binance", b"7", "got `int`"),
        ("binance", BINANCE | {"t": None}, "t: no trade's number"),
        ("binance", BINANCE | {"t": -1}, "t: no trade's number"),
        ("binance", BINANCE | {"T": 10**30}, "T"),
        ("binance", {"e": "trade"}, "missing required"),
        ("cc-1", {"x": 1}, "no TYPE"),
        ("cc-1", frame(1, 1) | {"TS": None}, "TS: not seconds"),
        ("cc-1", frame(1, 1) | {"TSNS": -5}, "TSNS"),
        ("cc-1", frame(1, 1) | {"P": None}, "P: missing"),
        ("cc-1", frame(1, 1) | {"P": 0}, "P: not above zero"),
        ("cc-1", frame(1, 1) | {"Q": "1_0"}, "Q: not a number"),
        ("cc-1", frame(1, 1) | {"FSYM": ""}, "FSYM and TSYM"),
    ],
)
def test_what_is_wrong_is_said_with_its_bytes(topic: str, message: Any, reason: str) -> None:
    value = message if isinstance(message, bytes) else encode(message)
    item = one(topic, value)
    assert isinstance(item, Bad)
    assert reason in item.reason
    assert item.raw == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
GOOD = {"trades-x": CRYPTOFEED, "binance": BINANCE, "cc-1": frame(1, 1.7e9)}


@pytest.mark.parametrize("topic", GOOD)
@given(data=st.data())
def test_nothing_gets_past_a_decoder_but_trades_and_reasons(topic: str, data: st.DataObject) -> None:
    good = GOOD[topic]
    changed = st.dictionaries(st.sampled_from(sorted(good)) | st.text(max_size=4), JSON).map(lambda new: good | new)
    text = (changed | JSON).map(msgspec.json.encode)
    cut = st.tuples(text, st.integers(0, 300)).map(lambda pair: pair[0][: pair[1]])
    value = data.draw(text | cut | st.binary(max_size=200))
    items = decoder(topic)(value)
    assert len(items) <= 1
    assert all(isinstance(item, Trade | Bad) for item in items)
    batch = Batch({}, Window(0, 2**60))
    batch.add(Chunk(Claim("t", 0, TOPIC_ID, 1, 0, decoder(topic)), 0, [(0, value)]), 10)
    assert len(batch.trades) + len(batch.letters) == len(items)


def test_a_row_is_found_again_among_records_that_are_no_arrays() -> None:
    batch = Batch({}, Window(0, 2**60))
    values = [{"result": None}, BINANCE, BINANCE | {"t": 6}, {"e": "kline"}]
    claim = Claim("t", 0, TOPIC_ID, 1, 0, decoder("binance"))
    batch.add(Chunk(claim, 0, [(n, encode(value)) for n, value in enumerate(values)]), 10)
    (letter,) = letters_of(batch, batch.trades[1], "because")
    assert (letter.offset, letter.item, letter.raw) == (2, 0, encode(values[2]))


def test_ingest_reads_further_topics_by_a_pattern_each_with_its_decoder(world: World) -> None:
    name = world.settings.tick_topic
    feed, stream, odd = f"{name}-feed", f"{name}-binance", f"{name}-feed-odd"
    # A pattern that also fits the dynamic topics must not read them twice.
    world.settings = world.settings.model_copy(
        update={
            "tick_pattern": f"^{re.escape(name)}-.*|^{re.escape(world.dynamic)}.*",
            "decoders": f"^{name}-feed$=cryptofeed;^{name}-binance=binance",
        }
    )
    for topic in (feed, odd, f"{world.dynamic}x"):
        world.topic(topic, 1)
    world.topic()
    world.start()
    world.send(trade(1))
    world.send(CRYPTOFEED, {"exchange": 1}, topic=feed)
    world.send(trade(2), topic=odd)
    world.send(trade(3), topic=f"{world.dynamic}x")
    world.topic(stream, 1)
    world.send(BINANCE, {"result": None, "id": 1}, topic=stream)
    eventually(lambda: world.one("select count(*) from ticks"), 5, 40)
    found = {each["symbol"]: each["rule"] for each in world.query("select symbol, seq_rule as rule from symbols")}
    assert found == {"BTCUSD": "id", "BTCUSDT": "id", "COINBASE:BTC-USD": "id"}
    assert world.one("select topic from dead_letter") == feed


def test_numbers_made_from_time_are_a_rule_of_their_own(world: World) -> None:
    world.settings = world.settings.model_copy(update={"decoders": f"^{world.settings.tick_topic}=cryptocompare"})
    world.topic()
    world.start()
    world.send(frame(1, 1.7e9), frame(1, 1.7e9), frame(2, 1.7e9))
    eventually(lambda: world.query("select seq_rule, (select count(*) from ticks) as ticks from symbols"),
               [{"seq_rule": "time", "ticks": 2}], 40)  # fmt: skip


def test_the_native_format_takes_json_numbers_in_every_field_of_a_bar() -> None:
    numbers = dict.fromkeys(("open", "high", "low", "close", "volume", "quote_volume"), 1.5)
    for changed, quote in ((numbers, "1.5"), (numbers | {"quote_volume": None}, None)):
        (item,) = native(encode({"type": "bar", "symbol": "X", "interval": "1m", "ts": 0} | changed))
        assert isinstance(item, Bar)
        assert (item.open, item.quote_volume) == ("1.5", quote)


def test_json_numbers_keep_every_digit() -> None:
    price, size = "123456789012345678.000000000000000001", "0.100000000000000005"
    fields = f'"symbol":"X","ts":0,"price":{price},"size":{size}'
    (item,) = native(f'{{"type":"trade",{fields}}}'.encode())
    assert isinstance(item, Trade)
    assert (item.price, item.size) == (price, size)
    bar = f'"open":{size},"high":{price},"low":{size},"close":{price},"volume":{size},"quote_volume":{price}'
    (item,) = native(f'[{{"type":"bar","symbol":"X","interval":"1m","ts":0,{bar}}}]'.encode())
    assert isinstance(item, Bar)
    assert (item.open, item.high, item.volume, item.quote_volume) == (size, price, size, price)


def test_every_format_is_in_the_setting() -> None:
    described = Settings.model_fields["decoders"].description or ""
    assert all(name in described for name in (*FIELDS, "native"))
