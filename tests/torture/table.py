"""What happened, counted, and the table that tells it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Counts:
    """Of one run. `recoveries`: seconds until a fault was over for the data and the API, by kind of fault."""

    seed: int
    engine: str = ""
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    registered: int = 0
    sent: int = 0
    accepted: int = 0
    refused: int = 0
    twice: int = 0
    corrected: int = 0
    again: int = 0
    rows: int = 0
    dropped: int = 0
    lost: int = 0
    doubled: int = 0
    wrong_bars: int = 0
    bars: int = 0
    answers: int = 0
    quiet: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Every kill -9, of roles and of servers."""
        return sum(count for name, count in self.faults.items() if name.startswith("kill -9"))

    def json(self) -> str:
        """All of it."""
        recoveries = {name: [round(one, 1) for one in sorted(times)] for name, times in self.recoveries.items()}
        told = {**vars(self), "kills": self.kills, "recoveries": recoveries}
        return json.dumps(told, indent=1, sort_keys=True)

    def markdown(self) -> str:
        """The table."""
        rows: list[tuple[str, Any]] = [
            ("engine", self.engine), ("seed", self.seed), ("minutes", f"{self.seconds / 60:.1f}"),
            ("faults", f"{sum(self.faults.values()):,}"), ("kills (kill -9)", f"{self.kills:,}"),
            ("symbols registered, starts moved", f"{self.registered:,}"),
            ("messages sent", f"{self.sent:,}"), ("accepted", f"{self.accepted:,}"), ("refused", f"{self.refused:,}"),
            ("sent twice on purpose", f"{self.twice:,}"), ("corrections of imported minutes", f"{self.corrected:,}"),
            ("sent again by producers without an answer, and landed both times", f"{self.again:,}"),
            ("rows dropped by age, whose bars stay", f"{self.dropped:,}"),
            ("lost", self.lost), ("doubled", self.doubled), ("wrong bars", self.wrong_bars),
            ("bars compared (SQL, API, stream)", f"{self.bars:,}"), ("quiet points", self.quiet),
        ]  # fmt: skip
        lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
        lines += ["| fault | times | longest to recover, s | median, s |", "|---|---|---|---|"]
        for name in sorted(self.faults):
            times = sorted(self.recoveries.get(name, []))
            told = (f"{times[-1]:.1f}", f"{times[len(times) // 2]:.1f}") if times else ("", "")
            lines.append(f"| {name} | {self.faults[name]} | {told[0]} | {told[1]} |")
        lines += [f"| {name} | not done: {why} | | |" for name, why in sorted(self.skipped.items())]
        return "\n".join(lines)


class Recoveries(threading.Thread):
    """Measures each fault from the moment that it is lifted until all that Kafka held by then has landed and the API
    answers; other faults may come meanwhile, and their time counts."""

    def __init__(self, counts: Counts, positions: Any, answers: Any) -> None:
        super().__init__(name="recoveries", daemon=True)
        self.counts, self.positions, self.answers = counts, positions, answers
        self._open: list[tuple[str, float, dict[int, int]]] = []
        self._one, self._over = threading.Lock(), threading.Event()

    def lifted(self, name: str, ends: dict[int, int]) -> None:
        """A fault is over; `ends` are the log's ends now."""
        with self._one:
            self._open.append((name, time.monotonic(), ends))

    def run(self) -> None:
        """Until closed."""
        while not self._over.wait(0.2):
            if self._open:
                self._look()

    def _look(self) -> None:
        try:
            held, answers = self.positions(), self.answers()
        except Exception:  # whatever it is, it has not recovered
            return
        now = time.monotonic()
        with self._one:
            for one in tuple(self._open):
                name, began, ends = one
                if answers and all(held.get(partition, 0) >= end for partition, end in ends.items()):
                    self._open.remove(one)
                    self.counts.recoveries[name].append(now - began)

    def close(self) -> None:
        """Measure no more."""
        self._over.set()
        self.join()
