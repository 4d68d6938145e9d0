"""Requests as the server takes them, and frames out of its answers."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from barwright.client.errors import ClientError, ConnectionFailedError

if TYPE_CHECKING:
    import pyarrow as pa

Time = datetime | date | str | int
Symbols = str | Iterable[str]
Frame = Literal["arrow", "pandas", "polars"]
Numbers = Literal["decimal", "float"]
COMPLETE = "x-barwright-complete"
KEY = b"barwright.complete"  # in a table's metadata
ARROW = {"accept": "application/vnd.apache.arrow.stream", "accept-encoding": "identity"}


def when(time: Time | None) -> str | None:
    """A time as the server takes it. Without a zone it is UTC, as everything in Barwright; whole numbers are epoch
    seconds or milliseconds."""
    if isinstance(time, datetime):
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
    return None if time is None else str(time)


def several(symbols: Symbols) -> list[str]:
    """The symbols, one or many."""
    found = symbols.split(",") if isinstance(symbols, str) else list(symbols)
    if not all(found) or not found:
        raise ClientError("A symbol is missing.", 'For instance bars("BTCUSD", "1m").')
    return found


def query(symbols: Symbols, interval: str, frame: Frame, numbers: Numbers | None, **given: Any) -> dict[str, str]:
    """The query string of a request for a table; what is None is left out."""
    if frame not in ("arrow", "pandas", "polars"):
        raise ClientError(f"There is no frame {frame!r:.40}.", "arrow, pandas or polars.")
    if numbers is None:
        numbers = "decimal" if frame == "arrow" else "float"
    start, end = when(given.pop("start")), when(given.pop("end"))
    asked = {"symbol": ",".join(several(symbols)), "interval": interval, "start": start, "end": end, **given,
             "format": "arrow", "numbers": "float" if numbers == "float" else None}  # fmt: skip
    return {name: str(value) for name, value in asked.items() if value is not None}


def table(body: bytes, headers: Mapping[str, str]) -> "pa.Table":
    """The table of an answer in Arrow's stream format; whether it is complete is in its metadata, as far as known."""
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            found = reader.read_all()
    except pa.ArrowInvalid as error:
        raise ConnectionFailedError("The answer was cut off.", "Ask again.") from error
    complete = headers.get(COMPLETE, "null")
    return found.replace_schema_metadata({**(found.schema.metadata or {}), KEY: complete.encode()})


def framed(found: "pa.Table", frame: Frame) -> Any:
    """The table, or a frame of pandas (its index the bucket) or polars."""
    if frame == "polars":
        import polars

        return polars.from_arrow(found)
    if frame == "pandas":
        made = found.to_pandas().set_index("bucket")
        made.attrs["complete"] = is_complete(found)
        return made
    return found


def is_complete(found: "pa.Table") -> bool | None:
    """Whether all bars that a table was asked for are in it; None where nobody vouches for all of them."""
    told = (found.schema.metadata or {}).get(KEY, b"null")
    return {b"true": True, b"false": False}.get(told)
