"""What ingest's statements are given: columns of batches, letters, sessions and imports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from barwright.ingest.batch import Batch
from barwright.ingest.claims import Claim, Letter
from barwright.ingest.imports import Import
from barwright.ingest.marks import Heard
from barwright.ingest.ticks import MINUTE, NULL, stamp


def ordered(batch: Batch) -> list[Claim]:
    """A batch's claims in the order in which they are locked."""
    return sorted(batch.spans, key=lambda claim: (claim.topic, claim.partition))


def keys(claims: Iterable[Claim]) -> dict[str, list[Any]]:
    """The names of partitions."""
    claims = list(claims)
    return {"topics": [claim.topic for claim in claims], "partitions": [claim.partition for claim in claims]}


def moves(batch: Batch, claims: Sequence[Claim]) -> dict[str, list[Any]]:
    """The columns of advance_positions."""
    spans = [batch.spans[claim] for claim in claims]
    return {
        **keys(claims),
        "generations": [claim.generation for claim in claims],
        "begins": [span.begin for span in spans],
        "ends": [span.end for span in spans],
        "rows": [span.rows for span in spans],
    }


def letters(found: Sequence[Letter]) -> dict[str, list[Any]]:
    """The columns of note_letters."""
    return {
        "topic_ids": [letter.claim.topic_id for letter in found],
        "partitions": [letter.claim.partition for letter in found],
        "offsets": [letter.offset for letter in found],
        "items": [letter.item for letter in found],
        "topics": [letter.claim.topic for letter in found],
        "reasons": [letter.reason.replace("\0", "\\0") for letter in found],
        "raws": [letter.raw for letter in found],
    }


def cuts(found: Iterable[tuple[str, int]]) -> dict[str, list[Any]]:
    """The columns of cut."""
    pairs = sorted(found)
    return {"symbols": [symbol for symbol, _ in pairs], "minutes": [minute for _, minute in pairs]}


def session(claim: Claim, heard: Heard) -> dict[str, Any]:
    """The names of land_session."""
    return {
        "session": heard.session, "topic": claim.topic, "partition": claim.partition, "topic_id": claim.topic_id,
        "marks": msgspec.json.encode(heard.marks).decode(), "rest": heard.rest,
    }  # fmt: skip


def asked(imports: Iterable[Import]) -> dict[str, list[Any]]:
    """The columns of kept_live: imports that have no task."""
    free = [one for one in imports if one.task is None]
    return {
        "symbols": [one.symbol for one in free], "intervals": [one.interval for one in free],
        "los": [one.lo for one in free], "his": [one.hi for one in free],
    }  # fmt: skip


def spans(imports: Iterable[Import]) -> dict[str, list[Any]]:
    """The columns of has_bars."""
    found = list(imports)
    return {
        "symbols": [one.symbol for one in found], "los": [one.lo for one in found], "his": [one.hi for one in found],
    }  # fmt: skip


def minutes(one: Import) -> dict[str, Any]:
    """The names of land_import."""
    header = _header(one, one.lo, one.hi)
    # Hours and days come here only where a bar of every day was refused: nothing is proved.
    nothing = f"{{[{header['lo']},{header['hi']})}}"
    return {
        **header, "kept": one.kept if one.is_fine else nothing,
        "bars": _array(one.landed if one.is_fine and one.again else ()),
        "refused": _array(one.refused | one.spoiled), "final": one.final,
        "fresh": None if one.again or not one.is_fine else len(one.landed),
    }  # fmt: skip


def coarse(one: Import, lo: int, hi: int, final: bool) -> dict[str, Any]:
    """The names of land_coarse, for the days in [lo, hi): minutes counted from 1970."""
    parts = [
        row.rstrip("\n").split("\t") for row, minute in zip(one.landing, one.landed, strict=True) if lo <= minute < hi
    ]
    ts, _, _, close, volume, _, open_, high, low, quote, trades = (
        map(list, zip(*parts, strict=True)) if parts else [[]] * 11
    )
    return {
        **_header(one, lo, hi), "buckets": ts, "opens": open_, "highs": high, "lows": low, "closes": close,
        "volumes": volume, "quotes": [None if text == NULL else text for text in quote],
        "counts": [None if text == NULL else int(text) for text in trades], "final": final,
    }  # fmt: skip


def _header(one: Import, lo: int, hi: int) -> dict[str, Any]:
    return {
        "task": one.task, "attempt": one.attempt, "symbol": one.symbol, "interval": one.interval, "source": one.source,
        "lo": stamp(lo * MINUTE), "hi": stamp(hi * MINUTE),
    }  # fmt: skip


def _array(found: Iterable[int]) -> str:
    """An array of PostgreSQL's: as one text it costs a fifth of what psycopg takes for a list."""
    return "{" + ",".join(map(str, found)) + "}"
