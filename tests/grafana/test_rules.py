"""The alert rules by promtool: each fires for what it is meant for and for nothing else; none while all is well."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from barwright import cli
from tests.services import ROOT

FOLDER = ROOT / "docker" / "prometheus"
RULES = {rule["alert"]: rule for rule in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"][0]["rules"]}
LATENCY = 'barwright_http_request_duration_seconds_bucket{{route="/v1/bars",format="json",le="{}"}}'
ANSWERS = 'barwright_http_request_duration_seconds_count{{status="{}"}}'
# A value a minute for an hour, in promtool's notation.
WELL = {
    'barwright_build_info{role="feed"}': "1x60",
    'barwright_build_info{role="ingest"}': "1x60",
    'barwright_build_info{role="maintain"}': "1x60",
    'barwright_build_info{role="serve"}': "1x60",
    'barwright_leader{instance="a"}': "1x60",
    'barwright_leader{instance="b"}': "0x60",
    'barwright_loop_age_seconds{service="ingest",loop="fixed"}': "0.2x60",
    'barwright_dependency_up{service="ingest",dependency="kafka"}': "1x60",
    'barwright_consumer_lag_messages{topics="fixed"}': "100x60",
    "barwright_newest_trade_timestamp_seconds": "0+60x60",
    'barwright_watermark_overdue_seconds{level="1m"}': "1x60",
    "barwright_watermark_ahead_seconds": "-2x60",
    "barwright_late_range_oldest_age_seconds": "0x60",
    "barwright_gap_oldest_age_seconds": "0x60",
    "barwright_backfill_failing_tasks": "0x60",
    "barwright_audit_findings_total": "3x60",
    "barwright_audit_findings_open": "0x60",
    'barwright_dead_letters_total{reason="price"}': "5x60",
    'barwright_position_skipped{topics="fixed"}': "7x60",
    'barwright_feed_delivery_failures_total{topics="fixed"}': "2x60",
    'barwright_reads_from{server="primary"}': "0x60",
    'barwright_reads_from{server="standby"}': "1x60",
    ANSWERS.format("2xx"): "0+6000x60",
    ANSWERS.format("5xx"): "0+6x60",
    LATENCY.format("0.1"): "0+6000x60",
    LATENCY.format("10"): "0+6000x60",
    LATENCY.format("+Inf"): "0+6000x60",
}
ILL = {
    "RoleAbsent": {'barwright_build_info{role="ingest"}': "1x5 stale"},
    "LoopStuck": {'barwright_loop_age_seconds{service="ingest",loop="fixed"}': "0+60x60"},
    "DependencyDown": {'barwright_dependency_up{service="ingest",dependency="kafka"}': "0x60"},
    "NoLeader": {'barwright_leader{instance="b"}': "1x60"},
    "ConsumerLag": {'barwright_consumer_lag_messages{topics="fixed"}': "0+20000x60"},
    "TicksBehind": {"barwright_newest_trade_timestamp_seconds": "60x60"},
    "WatermarkOverdue": {'barwright_watermark_overdue_seconds{level="1m"}': "0+60x60"},
    "WatermarkAhead": {"barwright_watermark_ahead_seconds": "90x60"},
    "LateTicksWait": {"barwright_late_range_oldest_age_seconds": "0+60x60"},
    "GapOpen": {"barwright_gap_oldest_age_seconds": "0+60x60"},
    "BackfillFails": {"barwright_backfill_failing_tasks": "2x60"},
    "AuditFinding": {"barwright_audit_findings_total": "3x10 4x50"},
    "DeadLetters": {'barwright_dead_letters_total{reason="price"}': "5x25 9x35"},
    "RecordsLost": {'barwright_position_skipped{topics="fixed"}': "7x25 900x35"},
    "DeliveryFails": {'barwright_feed_delivery_failures_total{topics="fixed"}': "0+6x60"},
    "ReplicaNotRead": {'barwright_reads_from{server="standby"}': "0x60"},
    "ApiErrors": {ANSWERS.format("5xx"): "0+600x60"},
    "ApiSlow": {LATENCY.format("0.1"): "0+60x60"},
}


@pytest.fixture(scope="module")
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool on this machine: sudo apt-get install --no-install-recommends prometheus")
    return program


def test_files_are_valid(promtool: str) -> None:
    for what, name in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        done = subprocess.run([promtool, "check", what, name], cwd=FOLDER, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_for_its_reason_only(promtool: str, tmp_path: Path) -> None:
    assert ILL.keys() == RULES.keys()
    cases = [case(fires, {**WELL, **ILL.get(fires, {})}) for fires in ("", *RULES)]
    text = yaml.safe_dump({"rule_files": [str(FOLDER / "rules.yml")], "evaluation_interval": "1m", "tests": cases})
    (tmp_path / "rules_test.yml").write_text(text)
    done = subprocess.run([promtool, "test", "rules", "rules_test.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def case(fires: str, series: dict[str, str]) -> dict[str, object]:
    """After half an hour of such series this alert fires, and no other."""
    expected = [{"labels": f'{{alertname="{fires}"}}', "value": 1}] if fires else []
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": "30m", "exp_samples": expected}
        ],
    }


def test_each_alert_has_a_section_that_says_what_to_do() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n((?:(?!^#).*\n?)*)", text, re.MULTILINE))
    for name, rule in RULES.items():
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert {"severity"} == rule["labels"].keys()
        assert "barwright " in sections[name], name


def test_every_command_of_the_page_is_there() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    shown = {match[1] for match in re.finditer(r"`?barwright ([a-z-]+)", text)}
    assert len(shown) >= 12
    assert shown <= {*cli.cli.commands, *cli.Commands.elsewhere}
    for page in re.findall(r"\]\(([\w./]+\.(?:md|yml))\)", text):
        assert (ROOT / "docs" / page).exists(), page
