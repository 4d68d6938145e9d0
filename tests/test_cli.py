"""The command line: quick help, settings in a table, errors in a sentence."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from barwright import cli, environment, instance
from barwright.configuration import variable
from barwright.errors import BarwrightError
from barwright.instance import Instance
from barwright.settings import Settings
from tests.services import ROOT

SERVERS = {"DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "PGHOST", "PGPORT", "PGDATABASE", "SIMULATOR_URL"}
RUNNING = Instance(
    1, "postgres", "postgresql://b:p@127.0.0.1:15432/b", "127.0.0.1:19092", "redis://127.0.0.1:16379/0", 8000
)


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server is named, and the home is empty."""
    for name in SERVERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BARWRIGHT_HOME", str(tmp_path))


def barwright(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    command = [sys.executable, "-m", "barwright", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def test_help_imports_no_role_and_no_server() -> None:
    code = "import sys, barwright.cli as c\ntry: c.cli(['--help'])\nexcept SystemExit: print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"pydantic", "psycopg", "kafka", "litestar", "alembic", "sqlalchemy", "rich", "psutil"}
    assert heavy.isdisjoint(modules)


@pytest.mark.parametrize("name", ["replay", "dead-letters"])
def test_a_command_that_stands_elsewhere_is_listed_and_called(name: str) -> None:
    run = CliRunner().invoke
    assert f"  {name} " in run(cli.cli, ["--help"]).output
    help_of = run(cli.cli, [name, "--help"])
    assert help_of.exit_code == 0
    assert f" {name} [OPTIONS]" in help_of.output


def test_config_tells_every_setting_and_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@db/bars")
    shown = CliRunner(env={"COLUMNS": "250"}).invoke(cli.cli, ["config"]).output
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"BARWRIGHT_{name.upper()}" in shown or name.upper() in shown
    assert "secret" not in shown
    assert "user=me" in shown


def test_the_page_of_settings_is_current() -> None:
    page = CliRunner().invoke(cli.cli, ["config", "--markdown"]).output
    assert (ROOT / "docs" / "configuration.md").read_text() == page, "make docs"
    assert all(f"| `{variable(name)}` |" in page for name in Settings.model_fields)


def test_a_wrong_setting_is_named_with_its_value() -> None:
    done = barwright("config", BARWRIGHT_PORT="many")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("barwright: BARWRIGHT_PORT=many: ")
    assert "Traceback" not in done.stderr


def test_a_setting_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "DATABASE_URL": "postgresql://me:secret@db/bars",
        "CRYPTOCOMPARE_API_KEY": "hidden",
        "BARWRIGHT_PORT": "81",
    }
    for name, value in given.items():
        (tmp_path / name).write_text(f"{value}\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    settings = cli.settings()
    assert (settings.database_url, settings.port) == (given["DATABASE_URL"], 81)
    assert settings.cryptocompare_api_key.get_secret_value() == "hidden"
    assert "database_url" in instance.named(settings)
    shown = CliRunner(env={"COLUMNS": "400"}).invoke(cli.cli, ["config"]).output
    assert f"81 (in {tmp_path / 'BARWRIGHT_PORT'})" in shown
    assert "secret" not in shown
    assert "hidden" not in shown


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"REDIS_URL": "redis://a", "REDIS_URL_FILE": "/x"}, "REDIS_URL and REDIS_URL_FILE are both set."),
        ({"BARWRIGHT_PORT_FILE": "/no/such"}, "BARWRIGHT_PORT_FILE=/no/such: No such file or directory."),
        ({"BARWRIGHT_PORT_FILE": sys.executable}, f"BARWRIGHT_PORT_FILE={sys.executable}: it is no text."),
    ],
)
def test_a_file_that_gives_no_setting_is_named(given: dict[str, str], said: str) -> None:
    done = barwright("config", **given)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"barwright: {said}\n")


def test_a_file_gives_way_to_what_a_child_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARWRIGHT_PORT_FILE", "/port")
    monkeypatch.setenv("BARWRIGHT_KEYS_FILE", "/keys")
    given = environment.with_values({"BARWRIGHT_PORT": "82"})
    assert given["BARWRIGHT_PORT"] == "82"
    assert "BARWRIGHT_PORT_FILE" not in given
    assert given["BARWRIGHT_KEYS_FILE"] == "/keys"


def test_a_database_that_is_away_is_no_traceback() -> None:
    done = barwright("migrate", DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert "DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_env_without_an_instance_says_how_to_start_one() -> None:
    done = barwright("env")
    assert (done.returncode, done.stdout) == (1, "")
    assert "barwright run" in done.stderr


def test_env_prints_what_a_shell_evaluates(tmp_path: Path) -> None:
    script = f'eval "$({sys.executable} -m barwright env)"; echo "$DATABASE_URL $KAFKA_BOOTSTRAP_SERVERS $REDIS_URL"'
    with instance.hold(tmp_path):
        instance.write(tmp_path, RUNNING)
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == [RUNNING.database_url, RUNNING.kafka_bootstrap_servers, RUNNING.redis_url]


def test_a_command_attaches_to_what_runs_but_not_over_what_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with instance.hold(tmp_path):
        instance.write(tmp_path, RUNNING)
        attached = instance.attach(Settings())
        assert attached.database_url == RUNNING.database_url
        assert attached.kafka_bootstrap_servers == RUNNING.kafka_bootstrap_servers
        monkeypatch.setenv("PGHOST", "db")
        monkeypatch.setenv("REDIS_URL", "redis://other")
        attached = instance.attach(Settings())
        assert (attached.database_url, attached.redis_url) == ("", "redis://other")
        assert attached.kafka_bootstrap_servers == RUNNING.kafka_bootstrap_servers
    assert instance.attach(Settings()).database_url == ""


def test_the_simulated_exchange_is_attached_to_where_the_instance_has_one(tmp_path: Path) -> None:
    with instance.hold(tmp_path):
        instance.write(tmp_path, RUNNING)
        left = json.loads((tmp_path / "instance.json").read_text())
        del left["simulator_url"]  # as it was written before there was one
        (tmp_path / "instance.json").write_text(json.dumps(left))
        assert instance.attach(Settings()).simulator_url == "http://127.0.0.1:8100"
        instance.write(tmp_path, replace(RUNNING, simulator_url="http://127.0.0.1:8123"))
        assert instance.attach(Settings()).simulator_url == "http://127.0.0.1:8123"
        running = instance.read(tmp_path)
        assert running
        assert running.exports()["SIMULATOR_URL"] == "http://127.0.0.1:8123"


def test_what_a_killed_instance_left_is_not_attached_to(tmp_path: Path) -> None:
    with instance.hold(tmp_path):
        instance.write(tmp_path, RUNNING)
        left = (tmp_path / "instance.json").read_text()
    (tmp_path / "instance.json").write_text(left)
    assert instance.read(tmp_path) is None
    assert json.loads(left)["pid"] == RUNNING.pid


def test_a_home_is_held_once(tmp_path: Path) -> None:
    with instance.hold(tmp_path):
        instance.write(tmp_path, RUNNING)
        with (
            pytest.raises(BarwrightError, match=r"already runs .*process 1, API on port 8000"),
            instance.hold(tmp_path),
        ):
            pass
    with instance.hold(tmp_path):
        assert instance.read(tmp_path) is None
