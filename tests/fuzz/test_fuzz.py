"""The short run of `make fuzz`, and what longer ones found."""

from __future__ import annotations

import pytest

from tests.api.conftest import Api, api, dsn  # noqa: F401
from tests.fuzz import limits
from tests.fuzz.raw import endless_trailers, unread_pings
from tests.fuzz.records import Records
from tests.fuzz.requests import Requests, lines, peak, settings, sockets

SEED = 1


def test_bad_records_cost_no_good_one(database: str) -> None:
    records = Records(database, SEED)
    records.run(0, 800)
    records.check()
    records.close()


def test_bad_lines_cost_no_good_one() -> None:
    assert lines(SEED, 0, 500)["refused"] > 100


def test_rubbish_in_a_setting_is_refused_by_name_or_taken() -> None:
    assert settings(SEED, 0, 60)["refused"] > 10


def test_no_request_and_no_message_is_answered_with_500(api: Api) -> None:  # noqa: F811
    Requests(api.client, SEED).run(0, 85)
    sockets(str(api.client.base_url).rstrip("/").replace("http", "ws", 1) + "/v1/stream", SEED, 0, 50)


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [("/v1/symbols/" + "a" * 64, 0, 404), ("/v1/symbols/" + "a" * 65, 0, 400), ("/" + "a" * 8191, 0, 404),
     ("/" + "a" * 8192, 0, 414), ("/v1/bars?symbol=FUZZED&interval=1m&limit=10001", 0, 400),
     ("/v1/bars?interval=1m&symbol=" + ",".join(f"S{n}" for n in range(51)), 0, 400),
     ("/v1/symbols/FUZZED", 65_537, 413)],
)  # fmt: skip
def test_at_a_limit_and_one_beyond(path: str, size: int, status: int, api: Api) -> None:  # noqa: F811
    answer = api.client.request("PUT" if size else "GET", path, content=b" " * size)
    assert answer.status_code == status, answer.text


def test_pings_whose_pongs_nobody_reads_are_not_kept(api: Api) -> None:  # noqa: F811
    before = peak(api.process.pid)
    unread_pings(api, 100_000)
    assert peak(api.process.pid) - before < 6
    assert api.get("/health/live").status_code == 200


def test_trailers_without_end_are_refused(api: Api) -> None:  # noqa: F811
    assert endless_trailers(api, 2**20) == 431


def test_the_largest_of_everything_and_what_lies_beyond_take_no_more_memory_than_they_may(api: Api, dsn: str) -> None:  # noqa: F811
    limits.filled(dsn)
    rows = {row.limit: row for row in limits.table(api, quick=True)}
    assert [row.limit for row in rows.values() if row.largest.startswith("5") or row.beyond.startswith("5")] == []
    assert rows["WebSocket: subscriptions of one: 100"].beyond == "400 too_many"
    assert rows["REST: bytes of a URL: 8,192"].beyond == "414 url_too_long"
