"""`barwright dead-letters`: what it lists, and that what is sent again lands once."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner, Result

from barwright.embedded.ports import free_port
from barwright.errors import BarwrightError
from barwright.ingest.dead_letters import command
from tests.ingest.conftest import World, eventually
from tests.ingest.messages import TOPIC_ID, bar, encode, trade


def ask(world: World, *arguments: str, **options: Any) -> Result:
    """The command with this test's settings; a terminal wide enough for one line a letter."""
    settings = world.settings.model_copy(update=options)
    return CliRunner(env={"COLUMNS": "300"}).invoke(command, arguments, obj=lambda: settings)


def listed(world: World, *arguments: str) -> list[dict[str, Any]]:
    """What `--json` tells."""
    done = ask(world, "--json", *arguments)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def keep(world: World, *letters: tuple[str, bytes], topic: str = "t") -> None:
    """Put letters (reason, raw) into the table, each a second newer than the one before."""
    for offset, (reason, raw) in enumerate(letters):
        world.query(
            """insert into dead_letter (topic_id, partition, "offset", item, topic, received_at, reason, raw)
            values (%s, 3, %s, 0, %s, '2023-03-01'::timestamptz + %s * interval '1 s', %s, %s) returning 1""",
            TOPIC_ID, offset, topic, offset, reason, raw,
        )  # fmt: skip


def test_no_letters(world: World) -> None:
    assert ask(world).stdout == "no dead letters\n"
    assert listed(world) == []
    # Nothing to send needs no broker.
    done = ask(world, "--resend", kafka_bootstrap_servers=f"127.0.0.1:{free_port(0)}")
    assert done.stdout == "0 messages sent again\n"


def test_letters_are_listed_newest_first_with_their_bytes(world: World) -> None:
    keep(world, ("price: NaN", b'{"a": [1]}'), ("not JSON", b"\xff\x00"), ("not JSON", b""), ("side", b"\0"))
    found = listed(world)
    assert [letter["offset"] for letter in found] == [3, 2, 1, 0]
    assert base64.b64decode(found[2]["base64"]) == b"\xff\x00"
    assert [letter.get("message") for letter in found] == ["\0", "", None, '{"a": [1]}']
    del found[3]["received_at"]
    assert found[3] == {
        "topic_id": str(TOPIC_ID), "topic": "t", "partition": 3, "offset": 0, "item": 0, "reason": "price: NaN",
        "resent_at": None, "message": '{"a": [1]}',
    }  # fmt: skip


def test_the_table_shows_the_same_and_nothing_a_terminal_obeys(world: World) -> None:
    keep(world, ("price: [bold]NaN[/bold]", b'{"a": [1]}'), ("bad \x1b]0;title\x07", b"\x1b[31m\xffred\r\n"))
    done = ask(world)
    assert done.exit_code == 0, done.output
    assert not set("\x1b\x07\r").intersection(done.stdout)
    newest, oldest = [line for line in done.stdout.splitlines() if "t/3" in line]
    for part in ("2023-03-01 00:00:00", "price: [bold]NaN[/bold]", '{"a": [1]}'):
        assert part in oldest
    for part in (r"bad \x1b]0;title\x07", r"\x1b[31m\xffred\r\n"):
        assert part in newest


def test_letters_are_chosen_by_reason_topic_and_number(world: World) -> None:
    keep(world, *((f"Price: {n}% of _", b"x") for n in range(25)))
    world.query("update dead_letter set topic = 'u' where \"offset\" < 3 returning 1")
    assert [letter["offset"] for letter in listed(world)] == list(range(24, 4, -1))
    assert len(listed(world, "--limit", "100")) == 25
    assert [letter["offset"] for letter in listed(world, "--limit", "2")] == [24, 23]
    assert [letter["offset"] for letter in listed(world, "--topic", "u")] == [2, 1, 0]
    assert [letter["offset"] for letter in listed(world, "--topic", "u", "--reason", "price: 1")] == [1]
    assert [letter["offset"] for letter in listed(world, "--reason", "7% of _")] == [17, 7]
    assert listed(world, "--reason", "%x") == []
    assert ask(world, "--limit", "0").exit_code == 2


def test_what_is_acceptable_by_now_lands_once_when_sent_again(world: World) -> None:
    """Trades of a clock ahead of ours are refused; once that is allowed, they are sent again, and land."""
    topic = world.topic()
    ahead = datetime.fromtimestamp(time.time() + 600, UTC).isoformat()
    good = [trade(n, symbol=f"S{n % 3}", ts=ahead) for n in range(1, 8)]
    hopeless = trade(9, price="NaN")
    world.start()
    world.send([*good[:3], trade(100), hopeless], *good[3:])
    eventually(lambda: world.one("select count(*) from dead_letter"), 8)
    assert world.one("select count(*) from ticks") == 1
    world.stop()

    # Ingest is stopped whenever the command runs: its log lines would be among what the command says.
    world.settings.future_skew = 3600
    done = ask(world, "--resend", "--reason", "FUTURE", "--topic", topic)
    assert (done.exit_code, done.stdout) == (0, "7 messages sent again\n"), done.output
    assert world.one("select count(*) from dead_letter where resent_at is not null") == 7
    assert ask(world, "--resend", "--reason", "future").stdout == "0 messages sent again\n"
    assert [letter["reason"].split(":")[0] for letter in listed(world) if not letter["resent_at"]] == ["price"]
    lines = [line.split("│") for line in ask(world).stdout.splitlines() if topic in line]
    assert sorted(bool(cells[-2].strip()) for cells in lines) == [False, *[True] * 7]
    # What is bad for good is refused again, as a new letter.
    assert ask(world, "--resend").stdout == "1 message sent again\n"
    # Sent once more by its producer, a trade is still the same one.
    world.send(good[0], trade(200))
    world.start()
    eventually(lambda: world.one("select count(*) from ticks"), 9)
    eventually(lambda: world.one("select count(*) from dead_letter"), 9)
    world.stop()
    assert [row["seq"] for row in world.query("select seq from ticks order by seq")] == [*range(1, 8), 100, 200]
    assert [letter["reason"].split(":")[0] for letter in listed(world) if not letter["resent_at"]] == ["price"]


def test_the_newest_are_sent_oldest_first_to_the_partition_of_their_symbol(world: World) -> None:
    topic = world.topic(partitions=4)
    keep(world, *(("future", encode(trade(n, symbol="EUR/USD"))) for n in range(1, 9)), topic=topic)
    done = ask(world, "--resend", "--limit", "5")
    assert done.stdout == "5 messages sent again\n"
    world.producer().send(topic, key=b"EUR/USD", value=encode(trade(50, symbol="EUR/USD"))).get(30)
    world.start()
    eventually(lambda: world.one("select count(*) from ticks"), 6)
    assert [row["seq"] for row in world.query("select seq from ticks order by seq")] == [4, 5, 6, 7, 8, 50]
    assert world.one("select count(*) from ingest_offset where next_offset > 0") == 1
    world.stop()
    assert ask(world, "--resend").stdout == "3 messages sent again\n"


def test_a_topic_that_is_gone_keeps_no_other_from_being_sent(world: World) -> None:
    topic, history = world.topic(), world.topic(f"{world.dynamic}S", 1)
    keep(world, *(("future", encode(trade(n))) for n in range(4)))
    for offset, name in enumerate((topic, "gone", history, "gone")):
        world.query('update dead_letter set topic = %s where "offset" = %s returning 1', name, offset)
    world.query("update dead_letter set raw = %s where topic = %s returning 1", encode(bar(symbol="S")), history)
    began = time.monotonic()
    done = ask(world, "--resend")
    assert time.monotonic() - began < 20
    assert done.stdout == "2 messages sent again\n"
    assert isinstance(done.exception, BarwrightError)
    assert "gone: " in done.exception.message
    assert topic not in done.exception.message
    assert [letter["topic"] for letter in listed(world) if not letter["resent_at"]] == ["gone", "gone"]
    world.start()
    eventually(lambda: world.one("select count(*) from ticks"), 2)


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/none"}, [], "barwright: The database: "),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, ["--resend"], "barwright: No Kafka broker answers at 127.0.0.1:"),
    ],
)
def test_what_is_away_is_said_in_a_sentence(
    world: World, variables: dict[str, str], arguments: list[str], said: str
) -> None:
    keep(world, ("future", encode(trade())))
    environment = os.environ | {"DATABASE_URL": world.settings.database_url} | variables
    done = subprocess.run(
        [sys.executable, "-m", "barwright", "dead-letters", *arguments],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert world.one("select resent_at from dead_letter") is None
