"""Whether the settings go together, and this machine has what Barwright needs."""

from __future__ import annotations

import importlib.util
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from barwright.api.access.policy import required
from barwright.doctor.finding import Findings, problem, warning, well
from barwright.errors import BarwrightError
from barwright.settings import Settings

DAY: Final = 86_400
ROOM: Final = 5e9  # bytes that the servers of `barwright run` should have left


def checks(settings: Settings) -> Findings:
    """All of them."""
    yield from consistency(settings)
    yield from packages(settings)
    yield from disk(settings)


def consistency(settings: Settings) -> Findings:
    """No setting works against another."""
    found = [*_contradictions(settings)]
    yield from found or [well("settings", "go together")]


def _contradictions(settings: Settings) -> Findings:
    if settings.page_ttl >= settings.revision_days * DAY:
        yield problem(
            "settings", f"BARWRIGHT_PAGE_TTL={settings.page_ttl} keeps pages longer than "
            f"BARWRIGHT_REVISION_DAYS={settings.revision_days:g} what outdates them.",
            "Keep pages for less time than revisions.",
        )  # fmt: skip
    if settings.seal_lag < settings.live_margin:
        yield warning(
            "settings", f"BARWRIGHT_SEAL_LAG={settings.seal_lag:g} is less than "
            f"BARWRIGHT_LIVE_MARGIN={settings.live_margin:g}: many trades will be late.",
            "Seal later than the disorder of the feed.",
        )  # fmt: skip
    try:
        if required(settings) and "*" in settings.cors_origins.split(","):
            yield warning(
                "settings", "BARWRIGHT_CORS_ORIGINS=* lets any page use a browser's key.", "Name the origins."
            )
    except BarwrightError as error:
        yield problem("settings", error.message, error.hint)


def packages(settings: Settings) -> Findings:
    """The packages that are quick only when they were built right, and the client that ingest consumes with."""
    if importlib.util.find_spec("crc32c") is None:
        yield problem("packages", "crc32c is missing: Kafka's client runs at a quarter of its speed.",
                      "Install kafka-python[crc32c].")  # fmt: skip
    if tuple(int(part) for part in version("kafka-python").split(".")[:3]) < (3, 0, 12):
        yield problem("packages", f"kafka-python {version('kafka-python')} stops fetching after rebalances.",
                      "Install kafka-python 3.0.12 or newer.")  # fmt: skip
    package = {"confluent": "confluent-kafka"}.get(settings.kafka_client, settings.kafka_client)
    try:
        yield well("packages", f"ingest consumes by {package} {version(package)}")
    except PackageNotFoundError:
        yield problem("packages", f"KAFKA_CLIENT={settings.kafka_client}, but {package} is not installed.",
                      "pip install 'barwright[fast]'")  # fmt: skip


def disk(settings: Settings) -> Findings:
    """The disk of `barwright run`'s own servers has room."""
    if not settings.home.exists():
        return
    total, _, free = shutil.disk_usage(settings.home)
    said = f"{free / 1e9:,.1f} of {total / 1e9:,.1f} GB are free for {settings.home}"
    if free < min(total / 10, ROOM):
        yield problem("disk", f"{said}.", "Make room: PostgreSQL and Kafka stop when it is full.")
    else:
        yield well("disk", said)
