"""What goes wrong, and for how long: each fault is one call, chosen and measured by a seeded random generator."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from random import Random

from barwright.ingest import kafka
from barwright.settings import Settings
from tests.chaos.system import System

CUT = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and random() < %s
"""
Fault = Callable[[System, Random], str]


def exchange(kind: str, least: float, most: float, **options: object) -> Fault:
    """A fault of the exchange, on for a random time."""

    def fault(system: System, random: Random) -> str:
        seconds = round(random.uniform(least, most), 1)
        chosen = {name: value(random) if callable(value) else value for name, value in options.items()}
        system.fault(kind=kind, seconds=seconds, seed=random.randrange(10**6), **chosen)
        return f"exchange: {kind} {seconds} s {chosen or ''}"

    return fault


def killed(system: System, random: Random) -> str:
    """kill -9 of a role; it is started again at once."""
    role = random.choice(system.roles)
    role.send(signal.SIGKILL)
    return f"kill -9 {role.name}"


def frozen(system: System, random: Random) -> str:
    """A role stands still for a while: what it believes to hold may be another's by then."""
    role = random.choice([role for role in system.roles if role.name != "simulator"])
    seconds = random.uniform(1, 9)
    role.send(signal.SIGSTOP)
    time.sleep(seconds)
    role.send(signal.SIGCONT)
    return f"froze {role.name} for {seconds:.1f} s"


def server_stopped(system: System, random: Random) -> str:
    """A server is killed, or stopped in order, and comes back after some seconds."""
    service = random.choice(list(system.services.values()))
    seconds = random.uniform(0.5, 4)
    (service.kill if random.random() < 0.5 else service.stop)()
    time.sleep(seconds)
    service.start()
    return f"{service.name} away for {seconds:.1f} s"


def connections_cut(system: System, random: Random) -> str:
    """Every connection to the database, or half of them, is cut by the server."""
    share = random.choice((0.5, 1.0))
    try:
        with system.connect() as connection:
            connection.execute(CUT, (share,))
    except Exception as error:
        return f"connections stay: {error}"
    return f"cut {share:.0%} of the database's connections"


def backed_up(system: System) -> None:
    """Keep a copy of the database as it is now."""
    _standing_still(system, lambda data, copy: subprocess.run(["cp", "-a", data, copy], check=True))


def restored(system: System) -> None:
    """The database is what it was when it was backed up; Kafka, the exchange and everybody else have gone on."""

    def put_back(data: Path, copy: Path) -> None:
        shutil.rmtree(data)
        copy.rename(data)

    _standing_still(system, put_back)


def forget_backup(system: System) -> None:
    """Throw the copy away."""
    postgres = system.services["postgres"]
    shutil.rmtree(postgres.directory.with_name("postgres-backup"))


def _standing_still(system: System, work: Callable[[Path, Path], object]) -> None:
    postgres = system.services["postgres"]
    postgres.stop()
    work(postgres.directory, postgres.directory.with_name("postgres-backup"))
    postgres.start()


def topic_deleted(system: System, random: Random) -> str:
    """A symbol's dynamic topic is gone, with all it holds; it is made again when it is needed."""
    settings = Settings(kafka_bootstrap_servers=system.services["kafka"].url)
    admin = kafka.KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers.split(","))
    try:
        topics = sorted(topic for topic in admin.list_topics() if topic.startswith("dynamic-"))
        if not topics:
            return "no topic to delete"
        topic = random.choice(topics)
        admin.delete_topics([topic])
    finally:
        admin.close()
    return f"deleted {topic}"


def revised(symbols: list[str], start: datetime, end: datetime) -> Fault:
    """The exchange corrects a share of the minutes of a symbol's history before this run began."""

    def fault(system: System, random: Random) -> str:
        symbol, share = random.choice(symbols), random.choice((0.05, 0.3))
        system.fault(kind="revise", symbol=symbol, start=start.isoformat(), end=end.isoformat(), share=share)
        return f"exchange: revised {share:.0%} of {symbol}"

    return fault


def choices(symbols: list[str], start: datetime, end: datetime) -> list[Fault]:
    """Every fault, the frequent ones more than once."""
    share = {"share": lambda random: round(random.uniform(0.05, 0.5), 2)}
    return [
        *[killed] * 6,
        *[frozen] * 2,
        *[server_stopped] * 3,
        connections_cut,
        topic_deleted,
        exchange("cut", 0, 3, announce=lambda random: random.random() < 0.3),
        exchange("cut", 0, 0),
        exchange("silent", 3, 9),
        exchange("error", 1, 6, status=lambda random: random.choice((429, 500, 503)), **share),
        exchange("garbage", 1, 6, **share),
        exchange("truncated", 1, 6, **share),
        exchange("slow", 1, 6, **share),
        exchange("lose", 2, 8, **share),
        exchange("repeat", 2, 8, **share),
        exchange("delay", 2, 8, delay=lambda random: random.choice((3, 20, 3600)), **share),
        exchange("reorder", 2, 8, **share),
        revised(symbols, start, end),
    ]
