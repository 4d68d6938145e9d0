"""What a key looks like: `bw_`, eight characters that people see, and 256 random bits that only its holder knows."""

import re
import secrets
from base64 import b32encode
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, Literal

Kind = Literal["key", "link", "session"]
KEY = re.compile(r"bw_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", re.ASCII)
LINK_LASTS, SESSION_LASTS = timedelta(minutes=15), timedelta(days=30)


def fresh() -> tuple[str, dict[str, Any]]:
    """A new key, and what the database keeps of it: `prefix` and `hash`."""
    prefix = "bw_" + b32encode(secrets.token_bytes(5)).decode().lower()
    key = f"{prefix}_{secrets.token_urlsafe(32)}"
    return key, {"prefix": prefix, "hash": digest(key)}


def minted(kind: Kind, name: str, scopes: Sequence[str], lasts: timedelta | None) -> tuple[str, dict[str, Any]]:
    """A new key, and the arguments of query `make` that record it."""
    key, kept = fresh()
    return key, {"kind": kind, "name": name, "scopes": list(scopes), "lasts": lasts, **kept}


def digest(key: str) -> bytes:
    """What is kept of a key. With 256 random bits in it a plain hash is as good as a slow one, and looking it up by
    its hash tells nothing by the time it takes."""
    return sha256(key.encode()).digest()
