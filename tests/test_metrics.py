"""Every role's listener says exactly what happened, and whether the role lives and can work."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from barwright import migrations, sql
from barwright.commands.metrics import page
from barwright.embedded.ports import free_port
from barwright.errors import BarwrightError
from barwright.ingest.feed.source import Alive, Subscribed, Trades, UnavailableError
from barwright.ingest.metrics import class_of
from barwright.metrics.health import Health
from barwright.metrics.listener import listening
from barwright.metrics.overview import PATIENCE, Overview
from barwright.settings import Settings
from tests import services
from tests.api.conftest import eventually
from tests.ingest.conftest import World
from tests.ingest.feeding import Feeding
from tests.ingest.messages import trade
from tests.ingest.scripted import Scripted, now
from tests.ingest.scripted import trade as live_trade
from tests.services import Server

ROLES = ("ingest", "maintain", "serve", "feed")
# The most series of one name that a process may have: labels are bounded.
MOST = 400
Said = dict[tuple[str, ...], float]


def said(address: str) -> Said:
    """Every sample of /metrics, by its name and its labels' values in the order of their names."""
    answer = httpx.get(f"http://{address}/metrics", timeout=20).raise_for_status()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(answer.text)
        for sample in family.samples
    }


def healthy(address: str, kind: str = "ready") -> tuple[int, str]:
    """Status and body of a health check."""
    answer = httpx.get(f"http://{address}/health/{kind}", timeout=20)
    return answer.status_code, answer.text


class System:
    """Servers of its own and three roles as processes; feed is a thread, so that its source can be scripted."""

    def __init__(self, postgres: Server, world: World) -> None:
        self.postgres, self.world = postgres, world
        self.addresses = {role: f"127.0.0.1:{free_port(0)}" for role in ROLES}
        self.api = f"127.0.0.1:{free_port(0)}"
        world.topic()
        variables = {"BARWRIGHT_STUCK_AFTER": "1", "BARWRIGHT_PORT": self.api.split(":")[1]}
        for role in ROLES[:3]:
            world.spawn(role, BARWRIGHT_METRICS=self.addresses[role], **variables)
        self.source, self.feeding = Scripted(), Feeding(world)
        self.feeding.start(self.source, metrics=self.addresses["feed"], stuck_after=1.0)

    def up(self) -> None:
        """Wait until all answer."""
        eventually(lambda: [healthy(address) for address in self.addresses.values()], 60, httpx.HTTPError)

    def said(self, role: str) -> Said:
        """What a role tells."""
        return said(self.addresses[role])

    @contextmanager
    def frozen(self, broker: Server) -> Iterator[None]:
        """The database and, where it is ours, the broker answer nobody, though they still take connections."""
        found = [psutil.Process(server.pid) for server in (self.postgres, broker) if server.embedded]  # type: ignore[attr-defined]
        found += [child for process in found for child in process.children(recursive=True)]
        for process in found:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in found:
                process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def system(kafka: Server, valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """See System."""
    home = tmp_path_factory.mktemp("metrics")
    for postgres in services.server("", lambda: services.postgres(home)):
        migrations.upgrade(Settings(database_url=postgres.url))
        world = World(postgres.url, kafka.url, valkey.url, home)
        made = System(postgres, world)
        made.up()
        yield made
        made.feeding.close()
        world.close()


def test_ingest_says_what_landed(system: System) -> None:
    bad, text = trade(9, price="x"), b"no JSON"
    system.world.send(*(trade(n) for n in range(1, 6)), partition=1)
    eventually(lambda: _is(system.said("ingest")["barwright_ticks_total", "trade", "inserted"], 5), 20)
    system.world.send(trade(1), bad, text, trade(6), partition=1)
    eventually(lambda: _is(system.said("ingest")["barwright_messages_total", "fixed"], 9), 20)
    found = system.said("ingest")
    want = {
        ("barwright_ticks_total", "trade", "inserted"): 6,
        ("barwright_ticks_total", "trade", "duplicate"): 1,
        ("barwright_ticks_total", "bar", "inserted"): 0,
        ("barwright_late_ticks_total", "trade"): 6,  # they are of 2023
        ("barwright_dead_letters_total", "price"): 1,
        ("barwright_dead_letters_total", "json"): 1,
        ("barwright_dead_letters_total", "ts"): 0,
        ("barwright_messages_total", "dynamic"): 0,
        ("barwright_batch_rows_sum",): 7,
        ("barwright_consumer_lag_messages", "fixed"): 0,
        ("barwright_partitions", "reading", "fixed"): 4,
        ("barwright_takeovers_total", "fixed"): 4,
        ("barwright_newest_trade_timestamp_seconds",): 1_677_628_860,
        ("barwright_dependency_up", "database"): 1,
        ("barwright_dependency_up", "kafka"): 1,
        ("barwright_dependency_up", "redis"): 1,
        ("barwright_machines", "live_batch", "ingest", "idle"): 2,
    }
    assert {key: found[key] for key in want} == want
    engine = "timescaledb" if services.timescaledb_version(system.postgres.url) else "postgres"
    assert any(key[:3] == ("barwright_build_info", engine, "ingest") for key in found)


def test_lag_counts_what_is_not_committed(system: System) -> None:
    """While somebody holds the rows that ingest must lock."""
    database = system.world.settings.database_url
    before = system.said("ingest")["barwright_messages_total", "fixed"]
    with sql.connect(database) as holder:
        holder.execute("select * from ingest_offset for update")
        system.world.send(*(trade(n) for n in range(20, 30)), partition=1)
        eventually(lambda: _is(system.said("ingest")["barwright_consumer_lag_messages", "fixed"], 10), 20)
    eventually(lambda: _is(system.said("ingest")["barwright_consumer_lag_messages", "fixed"], 0), 20)
    assert system.said("ingest")["barwright_messages_total", "fixed"] == before + 10


def test_feed_says_what_came_and_what_went(system: System) -> None:
    """Its process is that of all tests: what others have counted is taken off."""
    before = system.said("feed")
    system.feeding.register("F1")
    eventually(lambda: _is(len(system.source.subscriptions.wanted), 1), 20)
    at = now()
    system.source.say(
        Subscribed(frozenset({"F1"}), at), Trades([live_trade("F1", at + n, n) for n in range(3)]), Alive(at + 10)
    )
    key = ("barwright_feed_trades_total", "simulator")
    eventually(lambda: _is(system.said("feed")[key], before.get(key, 0) + 3), 20)
    found = system.said("feed")
    assert found["barwright_feed_connections", "simulator"] == 1
    assert found["barwright_feed_symbols", "simulator"] == 1
    for name, count in (("connects", 1), ("events", 3)):
        key = (f"barwright_feed_{name}_total", "simulator")
        assert found[key] - before.get(key, 0) == count
    eventually(lambda: _is(system.said("feed")["barwright_feed_unacknowledged",], 0), 20)
    key = ("barwright_feed_published_total", "fixed")
    assert system.said("feed")[key] > before[key]
    ended = ("barwright_feed_disconnects_total", "unavailable", "simulator")
    system.source.say(UnavailableError("gone"))
    eventually(lambda: _is(system.said("feed")[ended], before.get(ended, 0) + 1), 20)
    eventually(lambda: _is(system.said("feed")["barwright_feed_connections", "simulator"], 0), 20)


def test_maintain_says_what_it_did_and_how_the_database_stands(system: System) -> None:
    def repaired() -> Said:
        found = system.said("maintain")
        assert found["barwright_repaired_ranges_total",] > 0
        assert found["barwright_late_ranges",] == 0
        return found

    found = eventually(repaired, 20)
    assert found["barwright_leader",] == 1
    assert found["barwright_repair_duration_seconds_count",] > 0
    assert found["barwright_rounds_total", "done"] > 0
    assert found["barwright_position_rows", "fixed"] >= 6
    assert found["barwright_revisions_total",] > 0
    assert 0 < found["barwright_seal_lag_seconds", "1m"] < 70
    assert found["barwright_watermark_overdue_seconds", "1m"] < 10
    assert found["barwright_watermark_ahead_seconds",] < 0
    assert ("barwright_actors", "live_batch", "ingest", "idle") in found


def test_serve_says_how_it_answers(system: System) -> None:
    with httpx.Client(base_url=f"http://{system.api}", timeout=20) as client:
        before = system.said("serve")
        for _ in range(3):
            client.get("/v1/bars?symbol=BTCUSD&interval=1m&start=2023-03-01&end=2023-03-02").raise_for_status()
        client.get("/v1/bars?symbol=BTCUSD&interval=1m&start=2023-03-01&end=2023-03-02&format=csv").raise_for_status()
        assert client.get("/v1/symbols/NOPE").status_code == 404
        assert client.head("/health/live").status_code == 200
        assert client.get("/what/is/here").status_code == 404
        with client.stream("GET", "/v1/stream?symbol=BTCUSD&interval=1m") as stream:
            assert stream.status_code == 200, stream.read()
            lines = stream.iter_lines()
            assert next(lines)
            found = system.said("serve")
            assert found["barwright_streams", "sse"] == found["barwright_subscriptions",] == 1
        eventually(lambda: _is(system.said("serve")["barwright_streams", "sse"], 0), 20)
        whole = {sample.name for family in families(client.get("/metrics").text) for sample in family.samples}
    found = system.said("serve")
    name = "barwright_http_request_duration_seconds_count"
    want = {
        (name, "json", "/v1/bars", "2xx"): 3,
        (name, "csv", "/v1/bars", "2xx"): 1,
        (name, "json", "/v1/symbols/{name}", "4xx"): 1,
        (name, "json", "/health/live", "2xx"): 1,
        (name, "json", "unmatched", "4xx"): 1,
        (name, "event-stream", "/v1/stream", "2xx"): 1,
        ("barwright_cache_requests_total", "answer", "hit"): 2,
        ("barwright_cache_requests_total", "answer", "miss"): 1,
    }
    assert {key: found.get(key, 0) - before.get(key, 0) for key in want} == want
    assert found["barwright_stream_events_total", "live"] == 1
    assert found["barwright_database_connections", "read", "idle"] >= 1
    assert found["barwright_database_requests_waiting", "read"] == 0
    assert found["barwright_snapshot_age_seconds",] < 1
    # The API's own port tells of the whole database too, a role's listener of its process.
    assert {"barwright_gaps", "barwright_watermark_lag_seconds", name} <= whole
    assert not any(key[0] == "barwright_gaps" for key in found)


@pytest.mark.parametrize("role", ROLES)
def test_names_are_sound_and_labels_bounded(system: System, role: str) -> None:
    url = f"http://{system.addresses[role]}/metrics"
    plain = httpx.get(url, timeout=20).text
    counts: dict[str, int] = {}
    for family in families(plain):
        for sample in family.samples:
            counts[sample.name] = counts.get(sample.name, 0) + 1
            assert not {"BTCUSD", "F1", system.world.settings.tick_topic} & set(sample.labels.values())
    assert max(counts.values()) < MOST
    opened = httpx.get(url, timeout=20, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text")
    assert {family.name for family in open_families(opened.text)} >= {"barwright_build_info", "barwright_machines"}
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    ours = "".join(line for line in plain.splitlines(keepends=True) if "barwright_" in line)
    done = subprocess.run([program, "check", "metrics"], input=ours, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_frozen_servers_stick_maintain_and_make_nobody_ready(system: System, kafka: Server) -> None:
    command = [sys.executable, "-P", "-m", "barwright", "health"]

    def health(role: str, *options: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"BARWRIGHT_METRICS": system.addresses[role].replace("127.0.0.1", "0.0.0.0")}
        return subprocess.run([*command, *options], env=env, capture_output=True, text=True)

    assert health("maintain").stdout == "ready\n"
    with system.frozen(kafka):
        eventually(lambda: _is(healthy(system.addresses["maintain"], "live")[0], 503), 30)
        asked = health("maintain", "--live")
        assert asked.returncode == 1
        assert asked.stdout.startswith("maintain is stuck: round (")
        # Metrics come all the same.
        assert system.said("maintain")["barwright_dependency_up", "database"] == 0
        for role in ("ingest", "serve", "feed"):
            # A busy machine, too, keeps a loop for the second that makes it stuck here; but not for long.
            eventually(partial(_lives, system.addresses[role]), 10)
            status, text = healthy(system.addresses[role])
            assert (status, '"database": "down"' in text) == (503, True)
            assert ('"kafka": "down"' in text) == (kafka.embedded and role != "serve")
    eventually(lambda: [_is(healthy(address)[0], 200) for address in system.addresses.values()], 60)
    assert healthy(system.addresses["maintain"], "live")[0] == 200


def test_health_without_anybody_to_ask(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "barwright", "health"]
    nobody = {**os.environ, "BARWRIGHT_HOME": str(tmp_path)}
    done = subprocess.run(command, env=nobody, capture_output=True, text=True)
    assert (done.returncode, "nobody to ask" in done.stderr) == (1, True)
    gone = {**nobody, "BARWRIGHT_METRICS": f"127.0.0.1:{free_port(0)}"}
    done = subprocess.run(command, env=gone, capture_output=True, text=True)
    assert (done.returncode, "no answer from 127.0.0.1:" in done.stdout) == (1, True)


def test_a_loop_that_works_for_long_is_not_stuck_while_the_database_answers() -> None:
    health = Health(Settings(stuck_after=0.02), "maintain")
    loop, up = health.loop("round"), True
    health.check("database", lambda: up, kept=0)
    assert health.live()[0]
    loop.turn("advance")
    time.sleep(0.05)
    assert health.live()[0]
    up = False
    assert health.live() == (False, {"status": "stuck", "message": "maintain is stuck: round (advance) for 0 s."})
    assert health.ready()[1]["checks"] == {"database": "down"}
    loop.rest()
    assert health.live()[0]
    up = True
    loop.turn("advance")
    time.sleep(0.45)
    assert not health.live()[0]


def test_a_taken_port_and_no_address_are_said() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        settings = Settings(metrics=f"127.0.0.1:{taken.getsockname()[1]}")
        with (
            pytest.raises(BarwrightError, match="Cannot listen on"),
            listening(settings, Health(settings, "x")),
        ):
            pass
    for wrong in ("9100", "host:", ":x"):
        settings = Settings(metrics=wrong)
        with pytest.raises(BarwrightError, match="no host:port"), listening(settings, Health(settings, "x")):
            pass
    settings = Settings(metrics="127.0.0.1:0")
    with listening(settings, Health(settings, "x")) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/nowhere").status_code == 404
        assert httpx.head(f"http://127.0.0.1:{port}/metrics").status_code == 200


@pytest.mark.parametrize(
    ("reason", "want"),
    [("price: not above zero", "price"), ("ts: in the future: 2035", "ts"), ("not JSON: x", "json"),
     ("Object missing required field `price`", "json"), ("numbered by id, but …", "rule"),
     ("symbol: not well-formed: '?'", "symbol"), ("count: says 3 bars", "mark"), ("something new", "other")],
)  # fmt: skip
def test_reasons_have_classes(reason: str, want: str) -> None:
    assert class_of(reason) == want


def test_the_page_is_current() -> None:
    assert (services.ROOT / "docs" / "metrics.md").read_text() == page(), "barwright metrics > docs/metrics.md"


def _lives(address: str) -> None:
    assert healthy(address, "live")[0] == 200


def _is(found: object, want: object) -> None:
    assert found == want


def test_a_pattern_that_is_none_leaves_the_listener_quick(database: str) -> None:
    """Who asks for the figures waits for the thread that reads them: it must end, whatever it meets."""
    overview = Overview(Settings(database_url=database, dynamic_pattern="("))
    for _ in range(2):
        began = time.monotonic()
        assert [*overview.collect()] == []
        assert time.monotonic() - began < PATIENCE
        overview._rest_until = 0.0
    overview.settings.dynamic_pattern = "^dynamic-"
    assert [*overview.collect()]
    assert overview._connection is not None
    overview._connection.close()
