"""Pictures from the code, and docs that cannot go stale."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from barwright import cli
from barwright.errors import BarwrightError
from barwright.machines import diagram
from barwright.machines.diagram import MACHINES

DOCS = Path(__file__).parents[2] / "docs"
AGAIN = "`barwright diagram -o docs/machines` and `--format svg` draw it again"


@pytest.mark.parametrize("name", MACHINES)
def test_the_docs_show_the_code(name: str) -> None:
    text = diagram.dot(MACHINES[name])
    assert (DOCS / "machines" / f"{name}.dot").read_text() == text, AGAIN
    picture = diagram.svg(text)
    assert (DOCS / "machines" / f"{name}.svg").read_text() == picture, AGAIN
    page = (DOCS / "machines.md").read_text()
    assert f"](machines/{name}.svg)" in page
    assert f"`{MACHINES[name].__name__}`" in page


@pytest.mark.parametrize("name", MACHINES)
def test_a_picture_has_every_state_and_event(name: str) -> None:
    root = ElementTree.fromstring(diagram.svg(diagram.dot(MACHINES[name])))
    shown = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    moves = MACHINES[name].moves()
    assert {state.name for state in MACHINES[name].states} | {e for events in moves.values() for e in events} <= shown


def test_no_picture_of_a_machine_that_is_gone() -> None:
    assert {path.stem for path in (DOCS / "machines").iterdir()} == set(MACHINES)


def test_the_command(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(cli.cli, ["diagram", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert run("live_batch") == diagram.dot(MACHINES["live_batch"])
    assert run().count("digraph ") == len(MACHINES)
    assert run("datastore", "--format", "svg").startswith("<?xml")
    listed = run("live_batch", "datastore", "--format", "svg", "-o", str(tmp_path / "new")).split()
    assert [Path(line).name for line in listed] == ["live_batch.svg", "datastore.svg"]
    assert all(Path(line).read_text().endswith("</svg>\n") for line in listed)


def test_what_the_command_refuses() -> None:
    done = CliRunner().invoke(cli.cli, ["diagram", "--format", "svg"])
    assert done.exit_code == 2
    assert "--output" in done.output
    with pytest.raises(BarwrightError, match=r"no machine 'livebatch'.*live_batch"):
        CliRunner().invoke(cli.cli, ["diagram", "livebatch"], catch_exceptions=False)
    with pytest.raises(BarwrightError, match="refused the graph"):
        diagram.svg("digraph {")
