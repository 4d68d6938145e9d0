"""`barwright diagram`: the state machines, drawn from their classes."""

from __future__ import annotations

import difflib
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, Final

import click

from barwright.errors import BarwrightError
from barwright.machines.base import Machine
from barwright.machines.consumer import HistoryConsumer, LiveBatch
from barwright.machines.coordinator import BackfillTask, Coordinator
from barwright.machines.datastore import Datastore
from barwright.machines.producer import HistoryTask, LiveConnection

# Each machine with the colour of its actor in the seed's pictures.
COLOURS: Final[dict[type[Machine], str]] = {
    HistoryTask: "lightblue",
    LiveConnection: "lightblue",
    Coordinator: "lightgreen",
    BackfillTask: "lightgreen",
    LiveBatch: "lightcoral",
    HistoryConsumer: "lightseagreen",
    Datastore: "lightyellow",
}
MACHINES: Final = {machine.label(): machine for machine in COLOURS}
_FONT: Final[dict[str, Any]] = {"fontname": "Helvetica", "fontsize": "10"}


def dot(machine: type[Machine]) -> str:
    """A machine in the DOT language: the same text for the same class."""
    # Imported here: pydot brings a parser that takes longer to import than the rest.
    from pydot import Dot, Edge, Node

    graph = Dot(machine.__name__, rankdir="TB")
    graph.set_node_defaults(shape="rectangle", style='"filled,rounded"', fillcolor=COLOURS[machine], **_FONT)
    graph.set_edge_defaults(**_FONT)
    graph.add_node(Node("begin", shape="point", width="0.12", fillcolor="black"))
    moves = machine.moves()
    for state in machine.states:
        look: dict[str, Any] = {"fillcolor": "tomato"} if state.value == "error" else {}
        # Twice framed: nothing leaves it.
        look |= {} if moves[state.value] else {"peripheries": "2"}
        graph.add_node(Node(state.value, label=f'"{state.name}"', **look))
        if state.initial:
            graph.add_edge(Edge("begin", state.value))
    for source, events in moves.items():
        for target in dict.fromkeys(events.values()):
            label = "\\n".join(event for event, leads_to in events.items() if leads_to == target)
            look = {"color": "red", "fontcolor": "red"} if target == "error" else {}
            graph.add_edge(Edge(source, target, label=f'"{label}"', **look))
    return str(graph.to_string())


def svg(text: str) -> str:
    """The picture of a DOT text. BarwrightError where graphviz-pure is missing or refuses it."""
    program = shutil.which("graphviz-pure", path=sysconfig.get_path("scripts")) or shutil.which("graphviz-pure")
    if program is None:
        raise BarwrightError("There is no graphviz-pure.", "`pip install graphviz-pure`, or use --format dot.")
    done = subprocess.run([program, "-Tsvg"], input=text, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise BarwrightError(f"graphviz-pure refused the graph: {done.stderr.strip()}")
    return done.stdout


def found(name: str) -> type[Machine]:
    """The machine of a name; BarwrightError names the nearest."""
    if name not in MACHINES:
        near = difflib.get_close_matches(name, MACHINES, 1) or [", ".join(MACHINES)]
        raise BarwrightError(f"There is no machine {name!r}.", f"Did you mean {near[0]}?")
    return MACHINES[name]


@click.command("diagram", epilog=f"The machines: {', '.join(MACHINES)}.")
@click.argument("names", metavar="[MACHINE]...", nargs=-1)
@click.option("--format", "form", type=click.Choice(["dot", "svg"]), default="dot", show_default=True)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="A directory: a file each.")
def command(names: tuple[str, ...], form: str, output: Path | None) -> None:
    """Draw state machines, all or some, as the code has them."""
    machines = [found(name) for name in names or MACHINES]
    if output is None and form == "svg" and len(machines) > 1:
        raise click.UsageError("Several pictures need --output DIRECTORY.")
    for machine in machines:
        text = dot(machine) if form == "dot" else svg(dot(machine))
        if output is None:
            click.echo(text, nl=False)
        else:
            output.mkdir(parents=True, exist_ok=True)
            (output / f"{machine.label()}.{form}").write_text(text, encoding="utf-8")
            click.echo(output / f"{machine.label()}.{form}")
