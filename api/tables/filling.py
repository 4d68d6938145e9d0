"""Buckets without a bar, filled in Arrow: as in JSON, with the close before them, or with nulls."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PRICES: Final = ("open", "high", "low", "close")


def first_line(close: str) -> str:
    """A line before all others whose close is that of the bar before them."""
    return f"-9000000000000,{close},{close},{close},{close},0,0,,0,0,false\n"


def filled(found: pa.Table, grid: list[int], previous: bool) -> pa.Table:
    """A row for each bucket of `grid`, in its order, from ascending rows: `previous`, flat at the close before it, no
    row where there is none; else of nulls."""
    wanted, starts = np.array(grid, np.int64), found["bucket"].to_numpy()
    before = np.searchsorted(starts, wanted, side="right") - 1  # a bucket's own bar, or the last one before it
    if previous:
        wanted, before = wanted[before >= 0], before[before >= 0]
    there = np.isin(wanted, starts)
    own = pa.array(before, mask=~there)
    last = found["close"].take(pa.array(before)) if previous else None
    columns = [pa.array(wanted)]
    for name in found.column_names[1:]:
        column = found[name].take(own)
        blank = last if previous and name in PRICES else _blank(name, column.type, previous)
        columns.append(pc.if_else(there, column, blank))
    return pa.table(columns, names=found.column_names)


def _blank(name: str, kind: pa.DataType, previous: bool) -> pa.Scalar:
    """What stands for a bar's value where there is none."""
    text = "false" if name == "imported" else "0" if previous and name != "vwap" else None
    return pa.array([text], pa.string()).cast(kind)[0]
