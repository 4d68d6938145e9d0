"""Random numbers that depend on names."""

from __future__ import annotations

from hashlib import blake2b


def key(*parts: object) -> int:
    """64 bits that depend on nothing but the parts."""
    return int.from_bytes(blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest())
