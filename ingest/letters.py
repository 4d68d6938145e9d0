"""Rows that the database refuses though we did not: which items they were, found by decoding again. So rare that a
batch keeps nothing for it."""

from __future__ import annotations

from collections.abc import Iterator

from barwright.ingest.batch import Batch
from barwright.ingest.claims import Letter
from barwright.ingest.decode import split
from barwright.ingest.imports import Import
from barwright.ingest.items import Items


def letters_of(batch: Batch, row: str, reason: str) -> Iterator[Letter]:
    """Letters of the items that became this row."""
    for chunk in batch.chunks:
        for offset, value in chunk.records:
            for place, raw in enumerate(split(value or b"")):
                alone = Items({symbol: seen.rule for symbol, seen in batch.symbols.items()}, batch.window)
                alone.take(chunk.claim, offset, chunk.claim.decoder(raw), raw, before=place)
                if row in alone.trades or row in alone.bars:
                    yield Letter(chunk.claim, offset, place, reason, raw)


def letter_of(batch: Batch, one: Import, place: int, reason: str) -> Letter:
    """The letter of an item of an import; -1 is its mark."""
    values = [
        value or b""
        for chunk in batch.chunks
        if chunk.claim is one.claim
        for offset, value in chunk.records
        if offset == one.offset
    ]
    raws = split(values[0])
    return Letter(one.claim, one.offset, place % len(raws), reason, raws[place])
