"""`barwright storage`: what ticks and bars take, and what the policies do with them next."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from rich.filesize import decimal
from rich.table import Table

from barwright import sql
from barwright.commands.common import connected, console, plain, put_json
from barwright.settings import Settings

Q: Final = sql.queries("policies")
FIELDS: Final = (
    "name", "rows", "bytes", "index_bytes", "chunks", "compressed_chunks", "compressed_rows", "compressed_bytes",
    "plain_bytes", "oldest", "newest", "drops_at", "compresses_at", "compress_after", "keep", "since", "width",
    "applied_at",
)  # fmt: skip


@click.command("storage")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@click.pass_obj
def command(settings: Callable[[], Settings], as_json: bool) -> None:
    """What the ticks and each level of bars take: estimated rows, bytes, bytes a row, compressed and not; and what is
    compressed and dropped next, by the settings that maintain last applied."""
    with connected(settings(), "storage") as connection:
        [(engine,)] = connection.execute(Q["engine"]).fetchall()
        rows = [dict(zip(FIELDS, row, strict=True)) for row in connection.execute(Q["storage"])]
    if as_json:
        for row in rows:
            put_json(plain(_days(row | _per_row(row) | {"engine": engine})))
        return
    columns = ("", "rows (est.)", "size", "bytes a row", "compressed chunks", "from", "to", "oldest", "newest", "next")
    table = Table(*columns, title=f"engine {engine}", title_justify="left")
    for row in rows:
        table.add_row(*_told(row))
    console().print(table)
    total = sum(row["bytes"] for row in rows)
    note = "" if engine == "timescaledb" else "; this engine has no compression"
    click.echo(f"{decimal(total)} in all{note}. {_applied(rows)}")


def _per_row(row: dict[str, Any]) -> dict[str, Any]:
    """Bytes a row: of all, of what is compressed and what that took before, and of what is not."""
    loose = row["rows"] - row["compressed_rows"]
    return {
        "bytes_per_row": _ratio(row["bytes"], row["rows"]),
        "compressed_bytes_per_row": _ratio(row["compressed_bytes"], row["compressed_rows"]),
        "plain_bytes_per_row": _ratio(
            row["plain_bytes"] + row["bytes"] - row["compressed_bytes"], row["compressed_rows"] + loose
        ),
    }


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 1) if whole > 0 else None


def _told(row: dict[str, Any]) -> tuple[str, ...]:
    """A row for the eye."""
    each = _per_row(row)["bytes_per_row"]
    packed = f"{row['compressed_chunks']} of {row['chunks']}" if row["compressed_chunks"] else ""
    return (
        row["name"], f"{row['rows']:,}", decimal(row["bytes"]), "" if each is None else f"{each:,}", packed,
        decimal(row["plain_bytes"]) if packed else "", decimal(row["compressed_bytes"]) if packed else "",
        _day(row["oldest"]), _day(row["newest"]), _next(row),
    )  # fmt: skip


def _next(row: dict[str, Any]) -> str:
    """What the policies do next."""
    parts = [
        f"{verb} {_day(at)}" for verb, at in (("compresses", row["compresses_at"]), ("drops", row["drops_at"])) if at
    ]
    return ", ".join(parts) or "kept for ever"


def _day(at: datetime | None) -> str:
    if at is None:
        return ""
    return f"{at.astimezone(UTC):%F %H:%M}"


def _applied(rows: list[dict[str, Any]]) -> str:
    at = rows[0]["applied_at"]
    return f"Settings applied at {at:%F %T} UTC." if at else "maintain has not applied the settings yet."


def _days(row: dict[str, Any]) -> dict[str, Any]:
    """Intervals as days."""
    return {name: value / timedelta(days=1) if isinstance(value, timedelta) else value for name, value in row.items()}
