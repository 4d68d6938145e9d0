"""The short run of `make fuzz`, and what longer ones found."""

from __future__ import annotations

from tests.fuzz.records import Records
from tests.fuzz.requests import lines, settings

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
