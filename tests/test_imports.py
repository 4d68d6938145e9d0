"""The import rule: the rooms know each other only through what is meant to be shared."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMON = {"sql", "settings", "errors", "log", "machines", "metrics", "reporting", "sources", "channels", "links"}
MAY_IMPORT = {
    "sql": set[str](),
    "migrations": COMMON,
    "ingest": COMMON | {"markets"},
    "api": COMMON | {"markets"},
    "simulator": COMMON | {"markets"},
    # What the roles do, seen from outside: it knows none of them.
    "machines": {"errors"},
    "metrics": {"errors", "machines", "settings", "sql"},
    # Below the command line; it starts roles as processes and imports none of them.
    "embedded": {"errors"},
    # Others' programs import it: it is no part of the server.
    "client": {"errors", "settings", "instance"},
}


def imported(source: str) -> Iterator[str]:
    """The parts of barwright that a module imports: `sql` for `barwright.sql.engine`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("barwright."))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_itself_and_what_is_shared(room: str) -> None:
    folder = ROOT / "barwright" / room
    foreign = {
        f"{file.relative_to(ROOT)}: barwright.{part}"
        for file in folder.resolve().rglob("*.py")
        for part in imported(file.read_text())
        if part not in MAY_IMPORT[room] | {room, "__version__"}
    }
    assert foreign == set()


def test_the_rule_sees_every_kind_of_import() -> None:
    lines = ("import barwright.api", "from barwright import sql", "from barwright.ingest.feed import x", "def f():")
    code = "\n".join([*lines, "    import barwright.log"])
    assert sorted(imported(code)) == ["api", "ingest", "log", "sql"]
