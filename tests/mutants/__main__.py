"""`make mutants`: plant each bug in a copy of the tree and run the tests that must find it."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from tests import services
from tests.mutants.mutant import ROOT, Mutant, mutants, place_of

LINKED = (".venv", ".jars", "api/web/dist", "tests/timescaledb/node_modules")  # not in git, and not mutated
_PASSED = re.compile(r"^(PASSED) (\S+?)(?:\[| |$)", re.MULTILINE)
_WHY = re.compile(r"^E +(.*)$", re.MULTILINE)
_FAILED = re.compile(r"^(FAILED|ERROR) (\S+?)(?:\[| |$)", re.MULTILINE)


@dataclass
class Result:
    """What became of a mutant: `killed` by a test, `survived`, or `broken` where no test failed, but a fixture or the
    import of a file did: that is no bug that a test found. `why` is the first thing that the test says."""

    name: str
    file: str
    harm: str
    outcome: str
    by: str
    seconds: float
    why: str = ""


@click.command()
@click.option("--only", multiple=True, help="mutants by name; else all")
@click.option("--all", "whole", is_flag=True, help="the whole default suite for those that survive their tests")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="mutants at once")
@click.option("--no-control", is_flag=True, help="do not run each one's tests without the bug, too")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="put the rows into FILE.json and the table of all its rows into FILE",
)
def main(only: Sequence[str], whole: bool, jobs: int, no_control: bool, output: Path | None) -> None:
    """Plant bugs, each in a tree of its own, and say which test found it. Status 1 where one survives."""
    known = mutants()
    chosen = [mutant for mutant in known if not only or mutant.name in only]
    if unknown := set(only) - {mutant.name for mutant in chosen}:
        raise click.ClickException(f"there is no mutant {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary, _servers(Path(temporary)), ThreadPoolExecutor(jobs) as pool:
        clean = _copy(Path(temporary, "clean"))
        sound = pool.submit(_sound, clean, [] if no_control else chosen)
        trials = [
            pool.submit(_try, _copy(Path(temporary, str(n))), mutant, whole) for n, mutant in enumerate(chosen)
        ]  # fmt: skip
        results = []
        for mutant, trial in zip(chosen, trials, strict=True):
            result = trial.result()
            if not no_control and (unsound := set(mutant.tests) - sound.result()[mutant.words]):
                result.outcome, result.by = "broken", f"without the bug {min(unsound)} does not pass"
            results.append(result)
            click.echo(f"{result.name}: {result.outcome} {result.by} ({result.seconds:.0f} s)")
            if output:
                _put(output, results, known)
    click.echo(_summary(results))
    sys.exit(any(result.outcome != "killed" for result in results))


@contextmanager
def _servers(home: Path) -> Iterator[None]:
    """Name the servers that tests do not stop; started for each bug anew they take longer than most of the tests."""
    makers = {
        "DATABASE_URL": services.postgres,
        "KAFKA_BOOTSTRAP_SERVERS": services.kafka,
        "REDIS_URL": services.valkey,
    }
    with ExitStack() as stack:
        for variable, make in makers.items():
            if variable not in os.environ:
                server = make(home)
                services.demand(server)
                server.start()
                stack.callback(server.stop)
                os.environ[variable] = server.url
        yield


def _put(output: Path, results: Sequence[Result], mutants: Sequence[Mutant]) -> None:
    """Rows of mutants that were not tried this time, and are still there, stay."""
    kept = output.with_suffix(".json")
    rows = {row["name"]: Result(**row) for row in json.loads(kept.read_text())} if kept.exists() else {}
    rows |= {result.name: result for result in results}
    known = [rows[mutant.name] for mutant in mutants if mutant.name in rows]
    kept.write_text(json.dumps([asdict(result) for result in known], indent=1) + "\n")
    output.write_text(_table(known, mutants))


def _copy(tree: Path) -> Path:
    """What git knows of the working tree, changed or new; the rest is linked."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, tree / name
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    for name in LINKED:
        if (ROOT / name).exists() and not (tree / name).is_symlink():
            (tree / name).symlink_to((ROOT / name).resolve())
    return tree


def _try(tree: Path, mutant: Mutant, whole: bool) -> Result:
    file = tree / mutant.file
    file.write_text(mutant.planted(file.read_text()))
    try:
        status, by, why, seconds = _run(tree, [*mutant.tests, *mutant.words])
        if status == 0 and whole:
            status, by, why, more = _run(tree, ["-m", "not slow"])
            seconds += more
    finally:
        shutil.rmtree(tree)
    outcome = "survived" if status == 0 else "killed" if by.startswith("tests/") else "broken"
    return Result(mutant.name, mutant.file, mutant.harm, outcome, by, seconds, why)


def _sound(tree: Path, chosen: Sequence[Mutant]) -> dict[tuple[str, ...], set[str]]:
    """The tests that pass without a bug, and the words they were chosen by: one session for each such choice."""
    tests: dict[tuple[str, ...], dict[str, None]] = {}
    for mutant in chosen:
        tests.setdefault(mutant.words, {}).update(dict.fromkeys(mutant.tests))
    found = {}
    for words, names in tests.items():
        done = _pytest(tree, "-rpfE", *sorted(names, key=place_of), *words)
        passed, failed = ({match[2] for match in pattern.finditer(done.stdout)} for pattern in (_PASSED, _FAILED))
        if failed:
            click.echo(done.stdout[-4000:], err=True)
        found[words] = passed - failed
    return found


def _pytest(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def _run(tree: Path, tests: Sequence[str]) -> tuple[int, str, str, float]:
    """Status of pytest, the first test that failed (or what else there is to say), what it says, and seconds."""
    began = time.monotonic()
    done = _pytest(tree, "-x", "-rpfE", *tests)
    seconds = time.monotonic() - began
    found, said = _FAILED.search(done.stdout), _WHY.search(done.stdout)
    why = said[1][:200] if said else ""
    if done.returncode and (found is None or found[1] == "ERROR" or done.returncode != 1):
        click.echo(done.stdout[-4000:] + done.stderr[-2000:], err=True)
    if found is None or done.returncode == 0:
        if not _PASSED.search(done.stdout):
            return done.returncode or 5, "(no test ran)", why, seconds
        return done.returncode, f"(status {done.returncode})" if done.returncode else "", why, seconds
    return done.returncode, found[2] if found[1] == "FAILED" else f"({found[2]} could not begin)", why, seconds


def _summary(results: Sequence[Result]) -> str:
    killed = [result for result in results if result.outcome == "killed"]
    times = sorted(result.seconds for result in killed) or [0.0]
    return (
        f"{len(killed)} of {len(results)} planted bugs found; median {times[len(times) // 2]:.0f} s, "
        f"longest {times[-1]:.0f} s, on {os.cpu_count()} cores ({platform.machine()})"
    )


def _table(results: Sequence[Result], mutants: Sequence[Mutant]) -> str:
    lines = ["| planted bug | in | what a user would suffer | found by | s |", "|---|---|---|---|---|"]
    for result in results:
        by = f"`{result.by.removeprefix('tests/')}`" if result.outcome == "killed" else f"**{result.outcome}**"
        lines.append(f"| {result.name} | `{result.file}` | {result.harm} | {by} | {result.seconds:.0f} |")
    untried = [mutant.name for mutant in mutants if mutant.name not in {result.name for result in results}]
    rest = [f"Not tried yet: {'; '.join(untried)}.", ""] if untried else []
    return "\n".join([*lines, "", _summary(results) + ".", "", *rest])


if __name__ == "__main__":
    main()
