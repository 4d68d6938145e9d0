"""Buckets without a bar, filled: with the close before them, or with nulls."""

from dataclasses import replace

import msgspec

from barwright.api.blocks import Block, of_lines, series
from barwright.api.database import Row
from barwright.api.encode import NULL
from barwright.api.encode import rows as encoded
from barwright.api.intervals import moment
from barwright.api.params import BarsQuery
from barwright.api.pieces import Picked


class _Close(msgspec.Struct):
    close: msgspec.Raw


_decode = msgspec.json.Decoder(_Close).decode


def filler(bucket: int, close: str | None) -> Row:
    """A row as query `bars` gives it, for a bucket without a bar: flat at a close, or of nulls where there is none."""
    text = moment(bucket).isoformat().replace("+00:00", "Z")
    if close is None:
        return (bucket, text, *[NULL] * 9, "false")
    return (bucket, text, *[close] * 4, "0", "0", NULL, "0", "0", "false")


def close_of(picked: Picked) -> str | None:
    """The close of the last bar; None where there is no bar."""
    return _close(*picked.pieces[-1][::2]) if len(picked) else None


def filled(query: BarsQuery, picked: Picked, lo: int, hi: int, close: str | None) -> Picked:
    """The bars of [lo, hi) with all that is missing between them; `close` is the one before `lo`."""
    kind = series(query.symbol, query.interval, query.style)
    at = {part.starts[n]: (part, n) for part, i, j in picked.pieces for n in range(i, j)}
    grid = query.interval.starts(lo, hi)
    lines: list[bytes | None] = []
    fillers: list[Row] = []
    last: tuple[Block, int] | None = None
    for bucket in grid:
        if bucket in at:
            part, n = last = at[bucket]
            lines.append(part.body[part.cuts[n] : part.cuts[n + 1]])
        else:
            if last is not None:
                close, last = _close(last[0], last[1] + 1), None
            fillers.append(filler(bucket, None if query.fill == "null" else close))
            lines.append(None)
    written = iter(encoded(fillers, picked.edge, query.style))
    whole = [next(written) + b"," if line is None else line for line in lines]
    block = of_lines(kind, lo, hi, grid, whole, picked.edge)
    return replace(picked, pieces=[(block, 0, len(block))] if grid else [])


def _close(part: Block, end: int) -> str:
    """The close of the bar before a position, without quotes."""
    return bytes(_decode(part.body[part.cuts[end - 1] : part.cuts[end] - 1]).close).decode().strip('"')
