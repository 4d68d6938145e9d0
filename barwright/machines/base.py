"""The base of all machines: python-statemachine, plus what makes a machine seen: the board, a counter, the log."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from itertools import count
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import structlog
from prometheus_client import Counter
from statemachine import StateMachine
from statemachine.exceptions import TransitionNotAllowed

from barwright.errors import BarwrightError
from barwright.machines.board import BOARD, Board, Row, now

log = structlog.get_logger()
# Its labels are bounded by the transitions that the classes declare.
TRANSITIONS: Final = Counter("barwright_transitions", "Transitions of state machines.", ("machine", "source", "target"))
# Transitions a machine remembers.
REMEMBERED: Final = 16
_tokens: Final = count()


class TransitionError(BarwrightError):
    """An event came in a state that does not take it: whoever sent it is wrong about what is going on."""

    def __init__(self, machine: str, subject: str, state: str, event: str, allowed: list[str]) -> None:
        what = f"{machine} {subject}".strip()
        hint = f"It takes: {', '.join(allowed)}." if allowed else "It has ended."
        super().__init__(f"{what}: no {event!r} in the state {state!r}.", hint)
        self.machine, self.subject, self.state, self.event = machine, subject, state, event


class Change(NamedTuple):
    """One transition, remembered."""

    at: datetime
    event: str
    source: str
    target: str
    error: str


class Machine(StateMachine):
    """A state machine of one subject; events are methods, for one thread at a time.

    `with machine:` is its whole life: what fails inside becomes the event `fail`, and at the end it leaves the board.
    For a machine that lives on, `with machine.guard():` is one piece of its work.
    """

    # A state that nothing leaves is an end. The library's own final states stop it before it can say what is illegal.
    validate_trap_states = False

    def __init__(self, subject: str, board: Board = BOARD, start: str | None = None) -> None:
        # The library calls what it finds on us while it starts, so ours comes first.
        self.subject, self.board = subject, board
        self.reason, self.since = "", now()
        self.history: deque[Change] = deque(maxlen=REMEMBERED)
        self._token, self._open = next(_tokens), True
        super().__init__(start_value=start)
        self._show()

    @classmethod
    @cache
    def label(cls) -> str:
        """The machine's name on the board, in metrics and on the command line: history_task."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    @cache
    def moves(cls) -> dict[str, dict[str, str]]:
        """What each state's events lead to: {state: {event: target}}, in the order of their declaration."""
        return {
            str(state.value): {
                str(event.id): str(move.target.value)
                for move in state.transitions
                if not move.initial and move.target is not None
                for event in move.events
            }
            for state in cls.states
        }

    @property
    def state(self) -> str:
        """The state's name."""
        return str(self.current_state_value)

    @property
    def failed(self) -> bool:
        """Whether it is in its error state."""
        return self.state == "error"

    @contextmanager
    def guard(self) -> Iterator[Self]:
        """A piece of work: the error of before is reset; one inside becomes the event `fail`, and goes on up."""
        self.recover()
        try:
            yield self
        except BaseException as error:
            self._fail(error)
            raise

    def recover(self) -> None:
        """Back from an error to the beginning; nothing where all is well."""
        if self.failed:
            self.send("reset")

    def close(self) -> None:
        """Leave the board; nothing is shown of it from now on. From any thread, and twice is harmless."""
        self._open = False
        self.board.remove(self._token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A cancellation is an end, not an error.
        if isinstance(error, Exception):
            self._fail(error)
        self.close()

    def after_transition(self, *sent: BaseException | str, event: str, source: Any, target: Any) -> None:
        """For the library, after each transition. `sent` is what the event came with: `fail(error)`."""
        before, after, moment = str(source.value), str(target.value), now()
        self.reason = _said(sent[0]) if sent else ""
        if before != after:
            self.since = moment
        self.history.append(Change(moment, str(event), before, after, self.reason))
        _counter(self.label(), before, after).inc()
        self._show()
        log.debug(
            "moved", machine=self.label(), subject=self.subject, sent=str(event), source=before, target=after,
            **({"error": self.reason} if self.reason else {}),
        )  # fmt: skip

    def _processing_loop(self, caller_future: Any = None) -> Any:
        """Every event passes here, whether called or sent."""
        try:
            return super()._processing_loop(caller_future)
        except TransitionNotAllowed as error:
            allowed = list(self.moves()[self.state])
            raise TransitionError(self.label(), self.subject, self.state, str(error.event), allowed) from None

    def _fail(self, error: BaseException) -> None:
        if "fail" in self.moves()[self.state]:
            self.send("fail", error)

    def _show(self) -> None:
        if self._open:
            self.board.put(self._token, Row(self.label(), self.subject, self.state, self.reason, self.since))
        # Closed, perhaps by another thread meanwhile.
        if not self._open:
            self.board.remove(self._token)


@cache
def _counter(machine: str, source: str, target: str) -> Counter:
    return TRANSITIONS.labels(machine, source, target)


def _said(error: BaseException | str) -> str:
    """An error in a line of at most 500 characters."""
    if isinstance(error, BarwrightError):
        text = error.message
    else:
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]
