"""Whether Redis answers and gives way when it is full. Without it everything works, slower."""

from __future__ import annotations

from barwright.doctor.finding import Findings, warning, well
from barwright.errors import BarwrightError
from barwright.links import redis
from barwright.settings import Settings

TIMEOUT = 2.0  # seconds


def checks(settings: Settings) -> Findings:
    """It answers, and evicts instead of refusing."""
    try:
        made = redis.client(settings, TIMEOUT)
        try:
            made.ping()
            memory = made.info("memory") if redis.address(settings.redis_url).kind != "redis+cluster" else {}
        finally:
            made.close()
    except (BarwrightError, *redis.AWAY) as error:
        yield warning(
            "redis", f"It does not answer: {getattr(error, 'message', error)}",
            "Start it, or correct REDIS_URL. Answers come from the database meanwhile, slower.",
        )  # fmt: skip
        return
    if memory.get("maxmemory") and memory.get("maxmemory_policy") == "noeviction":
        yield warning(
            "redis", "It refuses writes when it is full (maxmemory-policy noeviction).",
            "Set maxmemory-policy to allkeys-lru.",
        )  # fmt: skip
    else:
        yield well("redis", "answers")
