"""What the same ticks and bars take: bytes on disk, megabytes of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from bench.quest import Quest


def storage(connection: Any, quests: Quest, table: Any, home: Path) -> dict[str, Any]:
    """Bytes of a tick and of a minute bar, indexes included; ours not compressed."""
    ours = {
        name: size / rows
        for name, rows, size, *_ in connection.execute("select name, rows, bytes from storage()")
        if rows
    }
    file = home / "ticks.parquet"
    table.write_parquet(file)
    return {
        "tick": {"barwright": round(ours["ticks"], 1), "questdb": quests.bytes_each(quests.table),
                 "parquet_zstd": round(file.stat().st_size / len(table), 1)},
        "bar_1m": {"barwright": round(ours["1m"], 1), "questdb": quests.bytes_each("bars")},
    }  # fmt: skip


def memory(connection: Any, quests: Quest) -> dict[str, Any]:
    """Megabytes of the servers after all this: PostgreSQL's processes with each shared page once, QuestDB's process."""
    backend = connection.execute("select pg_backend_pid()").fetchone()[0]
    return {"postgresql": _shared_mb(backend), "questdb": quests.process.memory_info().rss >> 20}


def _shared_mb(backend: int) -> int | None:
    """None where the server is on another machine, or not ours to look into."""
    try:
        server = psutil.Process(backend).parent()
        if server is None or "postgres" not in server.name():
            return None
        return sum(int(one.memory_full_info().pss) for one in (server, *server.children())) >> 20
    except psutil.Error:
        return None
