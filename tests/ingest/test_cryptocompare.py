"""History from CryptoCompare: pages, proofs, what lies beyond the horizon, and a vendor in a bad mood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from barwright.ingest.feed.cryptocompare import CryptoCompare
from barwright.ingest.feed.source import History, Market, MarketError, RateLimitedError, UnavailableError
from barwright.ingest.ticks import Window, bar_row
from tests.ingest.cryptocompare import Vendor, answer, error, flat, http, row

BTC = Market("BTCUSD", "Coinbase~BTC~USD")
DAY = 86_400
# The vendor's clock, in the past so that ours never gets in the way.
NOW = int(datetime(2025, 6, 10, 15, 30, 20, tzinfo=UTC).timestamp())
TODAY = NOW // DAY * DAY


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def minutes(start: int, end: int, step: int = 60) -> dict[int, tuple[float, float]]:
    """A trade in every `step` of [start, end)."""
    return {time: (100 + time // 60 % 7 / 4, 0.25) for time in range(start, end, step)}


@asynccontextmanager
async def source(vendor: Vendor) -> AsyncIterator[CryptoCompare]:
    async with http(vendor.reply, vendor) as url:
        made = CryptoCompare("cryptocompare", url, "ws://127.0.0.1:1", "secret", reconnect=0.1, pause=0.01)
        try:
            yield made
        finally:
            await made.close()


def histories(vendor: Vendor, *spans: tuple[str, int, int], market: Market = BTC) -> list[History]:
    """The histories of these spans, one after the other, from one source."""

    async def ask() -> list[History]:
        async with source(vendor) as made:
            return [await made.history(market, interval, at(lo), at(hi)) for interval, lo, hi in spans]

    return asyncio.run(ask())


def history(vendor: Vendor, interval: str, lo: int, hi: int, market: Market = BTC) -> History:
    (found,) = histories(vendor, (interval, lo, hi), market=market)
    return found


def test_a_day_of_minutes_takes_one_call_and_every_row() -> None:
    vendor = Vendor(minutes(TODAY - 3 * DAY, NOW), NOW)
    found = history(vendor, "1m", TODAY - DAY, TODAY)
    assert (found.start, found.end) == (at(TODAY - DAY), at(TODAY))
    assert [bar.ts for bar in found.bars][:2] == ["2025-06-09T00:00:00Z", "2025-06-09T00:01:00Z"]
    assert len(found.bars) == 1440
    assert len(vendor.calls) == 1
    assert vendor.headers[0]["authorization"] == "Apikey secret"
    assert "api_key" not in vendor.calls[0][1]
    for bar in found.bars:
        bar_row(bar, Window(0, 2**60))


def test_a_long_span_takes_pages_without_a_seam() -> None:
    vendor = Vendor(minutes(TODAY - 9 * DAY, NOW), NOW)
    found = history(vendor, "1m", TODAY - 6 * DAY, TODAY)
    assert [datetime.fromisoformat(str(bar.ts)).timestamp() for bar in found.bars] == [
        *range(TODAY - 6 * DAY, TODAY, 60)
    ]
    assert len(vendor.calls) == 5


def test_a_server_that_gives_less_than_asked_is_asked_more_often() -> None:
    vendor = Vendor(minutes(TODAY - 3 * DAY, NOW), NOW)
    vendor.most = 500
    found = history(vendor, "1m", TODAY - DAY, TODAY)
    assert len(found.bars) == 1440
    assert len(vendor.calls) == 3


def test_the_open_row_is_never_taken_and_the_proof_ends_where_it_begins() -> None:
    vendor = Vendor(minutes(TODAY, NOW), NOW)
    found = history(vendor, "1m", TODAY, TODAY + DAY)
    assert found.end == at(NOW // 60 * 60)
    assert str(found.bars[-1].ts) == f"{at(NOW // 60 * 60 - 60):%Y-%m-%dT%H:%M:%SZ}"


def test_what_had_not_ended_by_the_vendors_clock_is_not_taken_though_more_rows_follow() -> None:
    vendor = Vendor(minutes(TODAY, NOW), NOW)
    vendor.alter = lambda _, rows: [*rows, flat(rows[-1]["time"] + 60, 100), flat(rows[-1]["time"] + 120, 100)]
    assert history(vendor, "1m", TODAY, TODAY + DAY).end == at(NOW // 60 * 60)


def test_a_span_that_has_not_ended_yet_proves_nothing() -> None:
    minute = NOW // 60 * 60
    vendor = Vendor(minutes(TODAY, NOW), NOW)
    assert history(vendor, "1m", minute, minute + 60) == History([], at(minute), at(minute))


def test_filler_rows_are_no_bars_but_their_time_is_proved() -> None:
    vendor = Vendor(minutes(TODAY - 2 * DAY, NOW, step=300), NOW)
    found = history(vendor, "1m", TODAY - DAY, TODAY)
    assert len(found.bars) == 288
    assert (found.start, found.end) == (at(TODAY - DAY), at(TODAY))


@pytest.mark.parametrize("beyond", ["zeros", "error", "empty", "later"])
def test_beyond_the_minutes_horizon_the_hours_show_what_is_missing(beyond: str) -> None:
    vendor = Vendor(minutes(TODAY - 12 * DAY, NOW, step=180), NOW, beyond)
    horizon = TODAY - 7 * DAY + 15 * 3_600 + 30 * 60
    vendor.reach = {"histominute": horizon}
    inside, across, outside = histories(
        vendor,
        ("1m", TODAY - 6 * DAY, TODAY - 5 * DAY),
        ("1m", TODAY - 7 * DAY, TODAY - 6 * DAY),
        ("1m", TODAY - 9 * DAY, TODAY - 8 * DAY),
    )
    assert inside.start == at(TODAY - 6 * DAY)
    assert at(horizon - 1800) <= across.start <= at(horizon)
    assert len(across.bars) == 170
    assert (outside.bars, outside.start, outside.end) == ([], at(TODAY - 8 * DAY), at(TODAY - 8 * DAY))


@pytest.mark.parametrize("beyond", ["zeros", "error", "empty", "later"])
def test_a_minute_beyond_the_horizon_that_is_less_than_the_rounding_is_missing_all_the_same(beyond: str) -> None:
    hour = TODAY - 7 * DAY + 15 * 3_600
    vendor = Vendor(minutes(TODAY - 12 * DAY, NOW) | {hour: (99.0, 0.000001)}, NOW, beyond)
    vendor.reach = {"histominute": hour + 60}
    found = history(vendor, "1m", TODAY - 7 * DAY, TODAY - 6 * DAY)
    assert (found.start, str(found.bars[0].ts)) == (at(hour + 60), f"{at(hour + 60):%FT%TZ}")


@pytest.mark.parametrize("beyond", ["zeros", "error", "empty", "later"])
def test_beyond_the_hours_horizon_the_days_show_what_is_missing(beyond: str) -> None:
    vendor = Vendor(minutes(TODAY - 300 * DAY, NOW, step=7200), NOW, beyond)
    vendor.reach = {"histominute": TODAY - 7 * DAY, "histohour": TODAY - 90 * DAY}
    hours, minute, day = histories(
        vendor,
        ("1h", TODAY - 200 * DAY, TODAY - 80 * DAY),
        ("1m", TODAY - 200 * DAY, TODAY - 199 * DAY),
        ("1d", TODAY - 400 * DAY, TODAY),
    )
    assert hours.start == at(TODAY - 90 * DAY)
    assert len(hours.bars) == 120
    assert minute.start == at(TODAY - 199 * DAY)
    assert (len(day.bars), day.start) == (300, at(TODAY - 400 * DAY))


@pytest.mark.parametrize("beyond", ["zeros", "error", "empty", "later"])
def test_before_the_listing_there_is_nothing_and_that_is_proved(beyond: str) -> None:
    listing = TODAY - 5 * DAY + 10 * 3_600 + 30 * 60
    vendor = Vendor(minutes(listing, NOW), NOW, beyond)
    vendor.reach = dict.fromkeys(("histominute", "histohour", "histoday"), listing // DAY * DAY)
    across, before, hours = histories(
        vendor,
        ("1m", TODAY - 5 * DAY, TODAY - 4 * DAY),
        ("1m", TODAY - 20 * DAY, TODAY - 19 * DAY),
        ("1h", TODAY - 20 * DAY, TODAY - 4 * DAY),
    )
    assert (across.start, len(across.bars)) == (at(TODAY - 5 * DAY), 810)
    assert (before.start, before.end, before.bars) == (at(TODAY - 20 * DAY), at(TODAY - 19 * DAY), [])
    assert (hours.start, len(hours.bars)) == (at(TODAY - 20 * DAY), 14)


def test_a_market_listed_within_this_hour() -> None:
    listing = NOW // 3_600 * 3_600 + 600
    vendor = Vendor(minutes(listing, NOW), NOW)
    found = history(vendor, "1m", TODAY, NOW // 60 * 60)
    assert (found.start, found.end) == (at(TODAY), at(NOW // 60 * 60))
    assert str(found.bars[0].ts) == f"{at(listing):%Y-%m-%dT%H:%M:%SZ}"


def test_a_gap_in_a_quiet_time_is_no_horizon() -> None:
    """Traded at 10:02, asked from 10:30 on: the hour of ten shows trades, and its minutes hold them all."""
    ten = TODAY - DAY + 10 * 3_600
    vendor = Vendor({ten + 120: (100.0, 1.0), ten + 7_500: (101.0, 1.0)}, NOW)
    found = history(vendor, "1m", ten + 1_800, ten + 9_000)
    assert (found.start, found.end, len(found.bars)) == (at(ten + 1_800), at(ten + 9_000), 1)


def test_hours_are_asked_once_for_many_spans() -> None:
    vendor = Vendor(minutes(TODAY - 40 * DAY, NOW, step=600), NOW)
    vendor.reach = {"histominute": TODAY - 7 * DAY}
    spans = [("1m", TODAY - n * DAY, TODAY - (n - 1) * DAY) for n in range(9, 20)]
    assert {found.start for found in histories(vendor, *spans)} == {at(hi) for _, _, hi in spans}
    # A block of 1,000 hours begins 41 days apart: two at most. The newest minute and one page more confirm it once.
    assert len([name for name, _ in vendor.calls if name == "histohour"]) <= 4
    assert len([name for name, _ in vendor.calls if name == "histominute"]) == len(spans) + 2


def test_an_empty_answer_that_another_contradicts_gives_no_past_up() -> None:
    vendor = Vendor(minutes(TODAY - 3 * DAY, NOW), NOW)
    vendor.scripted = [answer([])]
    with pytest.raises(UnavailableError, match="two answers"):
        history(vendor, "1m", TODAY - DAY, TODAY)


def test_an_error_that_the_newest_minute_shares_is_an_outage() -> None:
    vendor = Vendor(minutes(TODAY - 3 * DAY, NOW), NOW)
    vendor.broken = {"histominute"}
    with pytest.raises(UnavailableError, match="Something is wrong"):
        history(vendor, "1m", TODAY - DAY, TODAY)


def test_an_unknown_market_is_said_to_be_one() -> None:
    vendor = Vendor({}, NOW)
    with pytest.raises(MarketError, match="does not exist"):
        history(vendor, "1m", TODAY - DAY, TODAY, Market("X", "Coinbase~NONE~USD"))
    with pytest.raises(MarketError, match="does not exist"):
        history(vendor, "1d", TODAY - 5 * DAY, TODAY, Market("X", "Coinbase~NONE~USD"))
    with pytest.raises(MarketError, match="no market"):
        history(vendor, "1m", TODAY - DAY, TODAY, Market("X", "BTC/USD"))


def test_a_hole_in_the_middle_proves_nothing_where_the_hours_hold_more() -> None:
    vendor = Vendor(minutes(TODAY - 3 * DAY, NOW), NOW)
    vendor.alter = lambda name, rows: rows[:700] + rows[705:] if name == "histominute" else rows
    with pytest.raises(UnavailableError, match="missing"):
        history(vendor, "1m", TODAY - DAY, TODAY)
    vendor.alter = lambda name, rows: rows[:-5] if name == "histominute" else rows
    with pytest.raises(UnavailableError, match="missing"):
        history(vendor, "1m", TODAY - DAY, TODAY)


def test_a_server_that_leaves_quiet_minutes_out_is_believed_where_the_hours_agree() -> None:
    every_third = {minute: trade for minute, trade in minutes(TODAY - 3 * DAY, NOW).items() if minute // 60 % 3 == 0}
    vendor = Vendor(every_third, NOW)
    vendor.alter = lambda _, rows: [row for row in rows if row["volumefrom"]]
    found = history(vendor, "1m", TODAY - DAY, TODAY)
    assert (found.start, found.end) == (at(TODAY - DAY), at(TODAY))
    assert len(found.bars) == 480


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(0, 5, 4, 3, 3.5, 1, 4), "between low and high"),
        (row(0, 0, 4, 0, 3.5, 1, 4), "price of zero"),
        (row(0, -1, 4, -1, 3.5, 1, 4), "negative"),
        (row(0, 1, 4, 1, 3.5, -1, 4), "negative"),
        (row(0, None, 4, 1, 3.5, 1, 4), "not a decimal"),
        (row(0, "NaN", 4, 1, 3.5, 1, 4), "not a decimal"),
        (row(0, 1, 1e30, 1, 3.5, 1, 4), "digits"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(bad: dict[str, Any], reason: str) -> None:
    vendor = Vendor(minutes(TODAY - 3 * DAY, NOW), NOW)
    vendor.alter = lambda _, rows: [*rows[:9], bad | {"time": rows[9]["time"]}, *rows[10:]]
    with pytest.raises(UnavailableError, match=rf"The row of 2025-06-.*{reason}"):
        history(vendor, "1m", TODAY - DAY, TODAY)


@pytest.mark.parametrize(
    "alter",
    [
        lambda _, rows: rows[::-1],
        lambda _, rows: [rows[0], *rows],
        lambda _, rows: [{**each, "time": each["time"] + 7} for each in rows],
    ],
)
def test_rows_in_the_wrong_place_are_garbage(alter: Any) -> None:
    vendor = Vendor(minutes(TODAY - 3 * DAY, NOW), NOW)
    vendor.alter = alter
    with pytest.raises(UnavailableError, match="wrong place"):
        history(vendor, "1m", TODAY - DAY, TODAY)


def test_numbers_keep_their_digits() -> None:
    vendor = Vendor({}, NOW)
    first, last = TODAY - 120, TODAY - 60
    body = answer([flat(first - 60, 1), "$1", "$2", flat(TODAY, 1)])
    numbers = (
        b'"open":1e-05,"high":"0.000010","low":0.00000999999999999,"close":1E-5,'
        b'"volumefrom":123456789012345.123456,"volumeto":0.30000000000000004123'
    )
    body = body.replace(b'"$1"', b'{"time":%d,%s}' % (first, numbers))
    body = body.replace(
        b'"$2"', b'{"time":%d,"open":2,"high":2,"low":2,"close":2,"volumefrom":0.0,"volumeto":3}' % last
    )
    vendor.scripted = [body]
    one, two = history(vendor, "1m", first, TODAY).bars
    assert (one.open, one.high, one.low, one.close) == ("0.00001", "0.00001", "0.00000999999999999", "0.00001")
    assert (one.volume, one.quote_volume) == ("123456789012345.123456", "0.300000000000000041")
    assert (two.volume, two.quote_volume) == ("0", "3")


def test_version_1_without_nesting_and_without_a_date() -> None:
    vendor = Vendor({}, NOW)
    rows = [row(TODAY - 60 * n, 1, 2, 1, 2, 3, 4) for n in (3, 2, 1, 0)]
    vendor.scripted = [(200, {"date": "no date"}, answer([], Data=rows))]
    assert len(history(vendor, "1m", TODAY - 180, TODAY).bars) == 3


RATE = {"calls_made": {"second": 51, "minute": 60, "total_calls": 9}, "max_calls": {"second": 50, "minute": 300}}


@pytest.mark.parametrize(
    "limits", [RATE, {"calls_made": RATE["calls_made"], "calls_left": {"second": 0, "minute": 20}}, {}]
)
def test_a_rate_limit_is_waited_for(limits: dict[str, Any]) -> None:
    vendor = Vendor(minutes(TODAY - 2 * DAY, NOW), NOW)
    vendor.scripted = [error("You are over your rate limit", 99, RateLimit=limits)] * 2
    assert len(history(vendor, "1m", TODAY - DAY, TODAY).bars) == 1440
    assert len(vendor.calls) == 3


def test_429_is_waited_for_as_it_says_and_a_long_wait_is_the_callers() -> None:
    vendor = Vendor(minutes(TODAY - 2 * DAY, NOW), NOW)
    vendor.scripted = [(429, {"retry-after": "1"}, b"slow down"), (429, {"retry-after": "500"}, b"{}")]
    with pytest.raises(RateLimitedError) as caught:
        history(vendor, "1m", TODAY - DAY, TODAY)
    assert caught.value.retry_after == pytest.approx(500, abs=5)
    over = {"calls_made": {"hour": 7}, "max_calls": {"hour": 7}}
    vendor.scripted = [error("You are over your rate limit", 99, RateLimit=over)]
    with pytest.raises(RateLimitedError) as caught:
        history(vendor, "1m", TODAY - DAY, TODAY)
    assert caught.value.retry_after == pytest.approx(3_600 - NOW % 3_600, abs=5)


def test_what_passes_by_is_tried_again() -> None:
    vendor = Vendor(minutes(TODAY - 2 * DAY, NOW), NOW)
    vendor.scripted = [(500, {}, b"oops"), b"<html>", (502, {}, b"")]
    assert len(history(vendor, "1m", TODAY - DAY, TODAY).bars) == 1440


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"Data":7}', b'{"Data":{"Data":[{"time":1}]}}', b"\xff"])
def test_garbage_is_an_outage(body: bytes) -> None:
    vendor = Vendor({}, NOW)
    vendor.scripted = [body] * 4
    with pytest.raises(UnavailableError):
        history(vendor, "1m", TODAY - DAY, TODAY)
    assert len(vendor.calls) == 4


def test_a_missing_key_is_said_by_the_vendors_words_and_not_asked_again() -> None:
    vendor = Vendor({}, NOW)
    body = b'{"Data":{},"Err":{"type":2,"message":"API key required","http_status_code":401}}'
    vendor.scripted = [(401, {}, body)]
    with pytest.raises(UnavailableError, match="API key required"):
        history(vendor, "1m", TODAY - DAY, TODAY)
    assert len(vendor.calls) == 1


def test_an_answer_without_end_is_cut_off() -> None:
    vendor = Vendor({}, NOW)
    vendor.scripted = [b" " * 9_000_000] * 4
    with pytest.raises(UnavailableError, match="more than"):
        history(vendor, "1m", TODAY - DAY, TODAY)


def test_a_source_that_fails_is_left_alone_then_probed() -> None:
    vendor = Vendor(minutes(TODAY - 2 * DAY, NOW), NOW)
    vendor.scripted = [(500, {}, b"")] * 8

    async def ask() -> None:
        async with source(vendor) as made:
            for _ in range(2):
                with pytest.raises(UnavailableError, match="500"):
                    await made.history(BTC, "1m", at(TODAY - DAY), at(TODAY))
            with pytest.raises(UnavailableError, match="8 times in a row") as caught:
                await made.history(BTC, "1m", at(TODAY - DAY), at(TODAY))
            assert caught.value.retry_after == pytest.approx(0.6, abs=0.4)
            assert len(vendor.calls) == 8
            await asyncio.sleep(0.7)
            assert len((await made.history(BTC, "1m", at(TODAY - DAY), at(TODAY))).bars) == 1440

    asyncio.run(ask())


def test_nobody_there() -> None:
    async def ask() -> None:
        made = CryptoCompare("cryptocompare", "http://127.0.0.1:1", "ws://127.0.0.1:1", pause=0.01)
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await made.history(BTC, "1m", at(TODAY - DAY), at(TODAY))
        await made.close()

    asyncio.run(ask())


def test_a_symbol_means_a_market() -> None:
    made = CryptoCompare("cryptocompare", "http://127.0.0.1:1", "ws://127.0.0.1:1")
    assert made.market_of("BTCUSD") == "Coinbase~BTC~USD"
    with pytest.raises(MarketError):
        made.market_of("no symbol")
