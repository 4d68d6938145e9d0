"""Kafka by SASL_SSL: a real broker with certificates made here; trades on their way from a file to bars."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from barwright.embedded.kafka import Kafka
from barwright.errors import BarwrightError
from barwright.ingest import kafka as clients
from barwright.ingest.bootstrap import UnreachableError
from barwright.links.kafka import options
from barwright.settings import Settings
from tests.links.certificates import Authority


@pytest.fixture
def environment(safe_kafka: Kafka, authority: Authority, database: str, tmp_path: Path) -> dict[str, str]:
    """How an operator would set it."""
    names = {
        "DATABASE_URL": database, "KAFKA_BOOTSTRAP_SERVERS": safe_kafka.url, "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "barwright", "KAFKA_SASL_PASSWORD": "secret",
        "KAFKA_SSL_CA": str(authority.ca), "BARWRIGHT_HOME": str(tmp_path), "BARWRIGHT_LOG_FORMAT": "json",
        "BARWRIGHT_TICK_TOPIC": f"ticks-{tmp_path.name}", "BARWRIGHT_GROUP": f"group-{tmp_path.name}",
    }  # fmt: skip
    return {**os.environ, **names}


def settings_of(environment: dict[str, str], **changed: Any) -> Settings:
    """The settings of that environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return Settings().model_copy(update=changed)


def trades(folder: Path) -> Path:
    """A file of two trades of this moment: what lies below the seal would wait for maintain."""
    now, file = int(time.time() * 1000), folder / "trades.csv"
    file.write_text(f"ts_ms,trade_id,side,price,size\n{now},1,buy,10,1\n{now},2,sell,12.5,2\n")
    return file


def replay(environment: dict[str, str], file: Path) -> subprocess.CompletedProcess[str]:
    """`barwright replay` of a file."""
    command = [sys.executable, "-m", "barwright", "replay", str(file), "--symbol", "BTCUSD"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_trades_reach_the_database(environment: dict[str, str], tmp_path: Path, client: str) -> None:
    environment["KAFKA_CLIENT"] = client
    with (tmp_path / "ingest.log").open("wb") as log:
        ingest = subprocess.Popen([sys.executable, "-m", "barwright", "ingest"], env=environment, stderr=log)
    try:
        done = replay(environment, trades(tmp_path))
        assert done.returncode == 0, done.stderr
        deadline, bars = time.monotonic() + 30, []
        with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:
            while not bars and time.monotonic() < deadline:
                bars = connection.execute("select open, close, volume from barwright.ohlcv_1m").fetchall()
                time.sleep(0.05)
        assert [[str(number.normalize()) for number in bar] for bar in bars] == [["1E+1", "12.5", "3"]]
    finally:
        ingest.terminate()
        assert ingest.wait(30) == 0


@pytest.mark.slow
def test_a_wrong_password_is_one_clear_error(environment: dict[str, str], tmp_path: Path) -> None:
    done = replay({**environment, "KAFKA_SASL_PASSWORD": "wrong"}, trades(tmp_path))
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if not line.startswith("replay ")]
    assert said == [
        f"barwright: Kafka at {environment['KAFKA_BOOTSTRAP_SERVERS']} does not let user 'barwright' in by PLAIN.",
        "Check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM, and KAFKA_SECURITY_PROTOCOL.",
    ]


@pytest.mark.slow
def test_what_is_wrong_is_said(environment: dict[str, str], stranger: Authority) -> None:
    """Each takes the 5 s that a broker has to answer."""
    plain = {"kafka_ssl_ca": "", "kafka_sasl_mechanism": "", "kafka_sasl_username": ""}
    for changed, said in (
        ({"kafka_ssl_ca": str(stranger.ca)}, "does not pass: self-signed certificate"),
        ({"kafka_security_protocol": "PLAINTEXT", **plain}, "No Kafka broker answers"),
        ({"kafka_bootstrap_servers": "127.0.0.1:1"}, "No Kafka broker answers"),
    ):
        with pytest.raises(UnreachableError, match=said):
            clients.ensure_topic(settings_of(environment, **changed), "x", 1)
        confluent = settings_of(environment, **changed, kafka_client="confluent")
        with pytest.raises(UnreachableError, match=said):
            clients.member(confluent, clients.Membership("group", ["x"], None, set().update, set().update))


@pytest.mark.slow
def test_scram_and_a_name_that_is_not_the_certificates(environment: dict[str, str], authority: Authority) -> None:
    settings = settings_of(environment)
    admin = KafkaAdminClient(**options(settings))
    admin.alter_user_scram_credentials([
        UserScramCredentialUpsertion("scram", ScramMechanism.SCRAM_SHA_512, "hidden")
    ])  # fmt: skip
    admin.close()
    user = {"kafka_sasl_mechanism": "SCRAM-SHA-512", "kafka_sasl_username": "scram"}
    known = settings.model_copy(update={**user, "kafka_sasl_password": type(settings.kafka_sasl_password)("hidden")})
    clients.ensure_topic(known, "by-scram", 1)
    assert not clients.ensure_topic(known, "by-scram", 1)
    held: set[clients.Partition] = set()
    member = clients.member(
        known.model_copy(update={"kafka_client": "confluent"}),
        clients.Membership("group", ["by-scram"], None, held.update, held.difference_update),
    )
    deadline = time.monotonic() + 30
    while not held and time.monotonic() < deadline:
        member.poll(0.1)
    assert held == {clients.Partition("by-scram", 0)}
    member.close()
    elsewhere = {"kafka_bootstrap_servers": settings.kafka_bootstrap_servers.replace("127.0.0.1", "127.0.0.2")}
    with pytest.raises(UnreachableError):
        clients.ensure_topic(settings.model_copy(update=elsewhere), "x", 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kafka_sasl_username": "u"}, "KAFKA_SASL_… is set, but KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"kafka_ssl_ca": "/nowhere"}, "KAFKA_SSL_… is set, but KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"kafka_security_protocol": "SASL_SSL"}, "asks for a user"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_ca": "/nowhere"}, "KAFKA_SSL_CA=/nowhere cannot be read"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_ca": __file__}, "holds no certificate"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_key": __file__}, "without KAFKA_SSL_CERTIFICATE"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_certificate": __file__}, "are not usable"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BarwrightError, match=said):
        options(Settings(**given))
