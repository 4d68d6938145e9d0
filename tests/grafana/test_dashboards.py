"""The dashboards: their JSON is what their sources say, and every query has an answer beside a live Barwright."""

import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo

from barwright import instance
from barwright.embedded.ports import free_port
from tests.services import ROOT
from tests.test_run import Running, whole

FOLDER = ROOT / "docker" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}
PANELS = [(name, panel) for name, board in DASHBOARDS.items() for panel in board["panels"] if panel["type"] != "row"]
SQL = [panel for _, panel in PANELS if panel["datasource"]["uid"] == "barwright"]
PROMQL = [panel for _, panel in PANELS if panel["datasource"]["uid"] == "prometheus"]
VARIABLES = {each["name"]: each for each in DASHBOARDS["market"]["templating"]["list"]}
LEVELS = VARIABLES["interval"]["query"].split(",")


def test_the_json_is_what_the_sources_say() -> None:
    program = "import json, build; print(json.dumps(build.DASHBOARDS))"
    done = subprocess.run([sys.executable, "-B", "-c", program], cwd=FOLDER, capture_output=True, text=True, check=True)
    for name, text in json.loads(done.stdout).items():
        assert (FOLDER / "dashboards" / name).read_text() == text, "make docs"
    assert {f"{name}.json" for name in DASHBOARDS} == set(json.loads(done.stdout))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_shape_is_the_one_that_grafana_documents(name: str) -> None:
    """https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/"""
    board = DASHBOARDS[name]
    sources = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "barwright.yml").read_text())["datasources"]
    known = {(source["type"], source["uid"]) for source in sources}
    assert {
        "uid",
        "title",
        "tags",
        "timezone",
        "schemaVersion",
        "version",
        "panels",
        "time",
        "templating",
    } <= board.keys()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            for target in panel["targets"]:
                assert (target["datasource"]["type"], target["datasource"]["uid"]) in known
                assert target.get("rawSql") or target["expr"]


def expanded(query: str, since: datetime, until: datetime, timescaledb: bool, **values: str) -> str:
    """A query as Grafana's PostgreSQL data source sends it: variables, then macros (its macros.go)."""
    query = query.replace("$__interval", "1m")
    for name, value in values.items():
        quoted = "'" + value.replace("'", "''") + "'"
        query = query.replace(f"${{{name}:sqlstring}}", quoted).replace(f"${{{name}:raw}}", value)

    def macro(match: re.Match[str]) -> str:
        name, given = match[1], [each.strip() for each in match[2].split(",")]
        start, end = (f"'{moment:%Y-%m-%dT%H:%M:%S.%f}Z'" for moment in (since, until))
        match name:
            case "timeFilter":
                return f"{given[0]} BETWEEN {start} AND {end}"
            case "timeFrom" | "timeTo":
                return start if name == "timeFrom" else end
            case "timeGroup" | "timeGroupAlias":
                seconds = {"1m": 60}[given[1]]
                group = (
                    f"time_bucket('{seconds}.000s',{given[0]})" if timescaledb
                    else f"floor(extract(epoch from {given[0]})/{seconds})*{seconds}"
                )  # fmt: skip
                return f'{group} AS "time"' if name == "timeGroupAlias" else group
        raise AssertionError(f"unknown macro {name}")

    query = re.sub(r"\$__([_a-zA-Z0-9]+)\(([^)]*)\)", macro, query)
    assert "$" not in query
    return query


class Beside:
    """A `barwright run`, Grafana's connection to its database, and a Prometheus that scrapes it."""

    def __init__(self, running: Running, prometheus: str) -> None:
        self.running, self.prometheus = running, prometheus
        variables = running.variables()
        self.url = variables["DATABASE_URL"]
        self.api = f"http://127.0.0.1:{variables['BARWRIGHT_PORT']}"

    def use(self, seconds: float) -> None:
        """Ask the API now and then for a while, as users do."""
        until = time.monotonic() + seconds
        with httpx.stream("GET", f"{self.api}/v1/stream?symbol=BTCUSD&interval=1m", timeout=60):
            while time.monotonic() < until:
                for interval in ("1m", "1h"):
                    httpx.get(
                        f"{self.api}/v1/bars?symbol=BTCUSD&interval={interval}&limit=5", timeout=20
                    ).raise_for_status()
                time.sleep(0.5)

    def ask(self, query: str) -> list[float]:
        """The values that Prometheus gives now."""
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": query}, timeout=20).json()
        assert answer["status"] == "success", (query, answer)
        values = [float(each["value"][1]) for each in answer["data"]["result"]]
        return [value for value in values if not math.isnan(value)]


@pytest.fixture(scope="module", params=[12, pytest.param(120, marks=pytest.mark.slow)])
def beside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """Used for so many seconds."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no Prometheus on this machine: sudo apt-get install --no-install-recommends prometheus")
    home, port = tmp_path_factory.mktemp("grafana"), free_port()
    with whole(home, BARWRIGHT_READ_PASSWORD="read") as running:
        found = instance.read(home / "state")
        assert found is not None
        options = {"config.file": configuration(home, found.metrics), "storage.tsdb.path": home / "prometheus",
                   "web.listen-address": f"127.0.0.1:{port}"}  # fmt: skip
        command = [program, *(f"--{name}={value}" for name, value in options.items())]
        with (home / "prometheus.log").open("w") as log:
            prometheus = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            beside = Beside(running, f"http://127.0.0.1:{port}")
            beside.use(request.param)
            yield beside
        finally:
            prometheus.kill()
            prometheus.wait()


def configuration(home: Path, targets: dict[str, str]) -> Path:
    """Ours, with addresses in place of the names that only containers have, and a scrape each second."""
    ours = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())
    (job,) = ours["scrape_configs"]
    del job["dns_sd_configs"], job["relabel_configs"]
    job["static_configs"] = [{"targets": [at], "labels": {"service": role}} for role, at in targets.items()]
    ours["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    ours["rule_files"] = [str(ROOT / "docker" / "prometheus" / name) for name in ours["rule_files"]]
    file = home / "prometheus.yml"
    file.write_text(yaml.safe_dump(ours))
    return file


def test_every_panel_has_figures(beside: Beside) -> None:
    time.sleep(1.5)  # the last requests are scraped
    for panel in PROMQL:
        values = [beside.ask(target["expr"].replace("$__rate_interval", "15s")) for target in panel["targets"]]
        assert all(values), (panel["title"], values)


def test_no_alert_fires_while_all_is_well(beside: Beside) -> None:
    assert beside.ask('ALERTS{alertstate="firing"}') == []
    assert beside.ask('sum(up{job="barwright"})') == [4]


def test_every_query_of_the_market_answers_as_the_role_that_only_reads(beside: Beside) -> None:
    prefix = beside.running.environment["BARWRIGHT_ROLE_PREFIX"]
    until = datetime.now(UTC)
    with psycopg.connect(
        make_conninfo(beside.url, user=f"{prefix}_read", password="read"), autocommit=True
    ) as connection:
        symbols = [name for (name,) in connection.execute(VARIABLES["symbol"]["query"])]
        assert "BTCUSD" in symbols
        assert "EUR/USD" in symbols
        for panel in SQL:
            for interval in LEVELS:
                (target,) = panel["targets"]
                days = 2 if interval in ("1m", "5m", "15m") else 60
                query = expanded(target["rawSql"], until - timedelta(days=days), until, False,
                                 symbol="BTCUSD", interval=interval)  # fmt: skip
                rows = connection.execute(query.encode()).fetchall()
                assert rows, (panel["title"], interval)
                assert rows[0][-1] is not None, panel["title"]
        wrong = connection.execute(b"select has_table_privilege('barwright.ticks', 'select')").fetchone()
        assert wrong == (False,)


def test_every_query_of_the_market_is_taken_with_time_bucket_too(engine_dsn: str) -> None:
    """With the data source's TimescaleDB switch on, which needs the extension; without rows."""
    until = datetime.now(UTC)
    with psycopg.connect(engine_dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("set search_path = barwright, public")
        (engine,) = connection.execute("select engine from meta").fetchone() or ("",)
        for panel in SQL:
            (target,) = panel["targets"]
            query = expanded(target["rawSql"], until - timedelta(days=1), until, engine == "timescaledb",
                             symbol="O'Neil", interval="1m")  # fmt: skip
            connection.execute(query.encode())
