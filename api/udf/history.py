"""`/udf/history`: bars as columns."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from math import ceil

import msgspec

from barwright.api.bars import Answer, Bars, etag_of
from barwright.api.errors import bad
from barwright.api.intervals import FIRST, LAST
from barwright.api.params import BarsQuery
from barwright.api.udf.resolutions import resolution

MOST = 20_000  # bars in an answer, the newest of what was asked for: a fortnight of minutes, 1.2 MB


class _Bar(msgspec.Struct):
    """A bar of our JSON; numbers stay the text they are."""

    bucket: datetime
    open: msgspec.Raw
    high: msgspec.Raw
    low: msgspec.Raw
    close: msgspec.Raw
    volume: msgspec.Raw


class _Page(msgspec.Struct):
    bars: list[_Bar]


_decode = msgspec.json.Decoder(_Page).decode


def history_query(given: Mapping[str, str], symbol: str, now: float) -> BarsQuery:
    """The bars a request asks for: the `countback` before `to`, or those in [from, to). ApiError 400."""
    count, start = _number(given, "countback"), _number(given, "from")
    end = _number(given, "to")
    hi = None if end is None or end > now else end
    counted = count is not None and count > 0
    if start is None and not counted:
        raise bad("from", given.get("from", ""), "from is missing.", hint="Give from, or countback.")
    if not counted and start is not None and end is not None and end < start:
        raise bad("to", given["to"], "to lies before from.", "a time at or after from")
    return BarsQuery(
        symbol=symbol, interval=resolution(given.get("resolution", "")),
        lo=FIRST if counted or start is None else start, hi=hi,
        limit=min(count, MOST) if counted and count is not None else MOST, order="asc", format="json", newest=True,
    )  # fmt: skip


def asked(query: BarsQuery, now: float) -> int:
    """How many bars a request may bring: what it is charged."""
    assert query.limit is not None
    if query.lo <= FIRST or not query.interval.width:
        return query.limit
    hi = now if query.hi is None else query.hi
    return min(query.limit, max(1, int(hi - query.lo) // query.interval.width))


async def history(bars: Bars, query: BarsQuery) -> Answer:
    """The columns of bars, or `no_data` and where the nearest earlier bar is. ApiError 404, 503."""
    answer = await bars.read(query)
    found = _decode(answer.body).bars
    if found:
        return _told(answer, _columns(found))
    if query.lo <= FIRST:
        return _told(answer, b'{"s":"no_data"}')
    earlier = await bars.read(replace(query, lo=FIRST, hi=query.lo, limit=1))
    before = _decode(earlier.body).bars
    rests = None if answer.rests is None or earlier.rests is None else (*answer.rests, *earlier.rests)
    answer = replace(answer, rests=rests, lasts=min(answer.lasts, earlier.lasts))
    where = b',"nextTime":%d' % before[0].bucket.timestamp() if before else b""
    return _told(answer, b'{"s":"no_data"%s}' % where)


def _told(answer: Answer, body: bytes) -> Answer:
    return replace(answer, body=body, etag=etag_of(body))


def _columns(bars: list[_Bar]) -> bytes:
    return b'{"s":"ok","t":[%s],"o":[%s],"h":[%s],"l":[%s],"c":[%s],"v":[%s]}' % (
        ",".join([str(int(bar.bucket.timestamp())) for bar in bars]).encode(),
        b",".join([bar.open for bar in bars]),
        b",".join([bar.high for bar in bars]),
        b",".join([bar.low for bar in bars]),
        b",".join([bar.close for bar in bars]),
        b",".join([bar.volume for bar in bars]),
    )


def _number(given: Mapping[str, str], name: str) -> int | None:
    """The first whole number at or after one that may have a fraction (`from` of TradingView's adapter has), between
    the years 1 and 9999; None where it is not given. Always seconds, however large."""
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        number = Decimal(text)
        if not number.is_finite():
            raise InvalidOperation
    except InvalidOperation as error:
        raise bad(name, text, f"{name}={text!r:.40} is no number.", "epoch seconds; for countback, bars") from error
    return ceil(min(max(number, Decimal(FIRST)), Decimal(LAST)))
