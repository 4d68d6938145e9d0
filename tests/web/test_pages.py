"""The page of symbols, the documentation, and how pages are sent."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from barwright.api.errors import ApiError
from barwright.api.pages import file, files
from tests.api.conftest import Api
from tests.api.vouched import Vouched, now
from tests.web.conftest import Open
from tests.web.story import Story

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def story(connection: Connection) -> Story:
    return Story(connection, "BTCUSD")


def row(page: Page, symbol: str) -> Any:
    return page.locator("#rows li").filter(has=page.get_by_text(symbol, exact=True))


def test_symbols_and_how_they_stand(visit: Open, story: Story, connection: Connection) -> None:
    at = now(connection).replace(second=0, microsecond=0)
    Vouched(connection, "QUIET").register(at - timedelta(days=1), "kafka", None, False)
    page = visit("/symbols")
    expect(page.locator("#connection")).to_have_text("live")
    expect(row(page, "BTCUSD").locator(".history small")).to_contain_text("missing")
    expect(row(page, "BTCUSD").locator(".gap")).to_have_count(1)
    expect(row(page, "BTCUSD").locator(".spark path")).to_have_attribute("d", re.compile(r"M0\.00.*L100\.00"))
    expect(row(page, "QUIET").locator(".newest b")).to_have_text("none yet")
    story.trade("1234.5678901")
    expect(row(page, "BTCUSD").locator(".price b")).to_have_text("1234.5678901")
    expect(row(page, "BTCUSD").locator(".newest b")).to_have_text("now")
    row(page, "BTCUSD").click()
    expect(page).to_have_title("BTCUSD 1m · Barwright")


def test_adding_a_symbol(visit: Open, connection: Connection) -> None:
    page = visit("/symbols")
    page.get_by_label("Symbol").fill("EUR/USD")
    page.get_by_label("History from").fill("2026-01-02")
    page.keyboard.press("Enter")
    expect(page.locator("#add output")).to_have_text("EUR/USD is followed; its history is on its way.")
    expect(row(page, "EUR/USD").locator(".history small")).to_contain_text("1 missing")
    [[start]] = connection.execute("select history_start from symbols where symbol = 'EUR/USD'").fetchall()
    assert start.isoformat().startswith("2026-01-02")
    connection.execute("select file_tasks('EUR/USD', null, 1)")
    connection.execute("update backfill_task set status = 'fetching' where symbol = 'EUR/USD'")
    expect(row(page, "EUR/USD").locator(".history small")).to_contain_text("to fetch")
    assert row(page, "EUR/USD").locator(".busy").count() > 0


def test_what_is_refused_is_said(visit: Open, complaints: list[str]) -> None:
    page = visit("/symbols")
    page.get_by_label("Symbol").fill("LTCUSD")
    page.get_by_label("Source").fill("simulater")
    page.get_by_role("button", name="Add symbol").click()
    expect(page.locator("#add output.wrong")).to_contain_text("Did you mean simulator?")
    expect(page.get_by_label("Source")).to_have_value("simulater")
    assert all("400" in complaint for complaint in complaints)
    complaints.clear()


def test_the_documentation_tries_an_example(visit: Open, story: Story) -> None:
    page = visit("/schema", dark=True)
    page.locator("[data-path='/v1/bars']").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table td.response-col_status:not(.col_header)").first).to_contain_text("200")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_they_fit(visit: Open, story: Story, width: int, dark: bool, shoot: Callable[[Page, str], None]) -> None:
    page = visit("/symbols", width, dark)
    expect(row(page, "BTCUSD").locator(".price b")).to_have_text(re.compile(r"\d"))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    shoot(page, f"symbols-{width}-{'dark' if dark else 'light'}")


def test_how_files_are_sent(api: Api) -> None:
    for path, kind in (("/", "text/html"), ("/symbols", "text/html"), ("/assets/chart.js", "text/javascript")):
        plain = api.get(path, {"accept-encoding": "identity"})
        packed = api.get(path, {"accept-encoding": "gzip"})
        assert plain.headers["content-type"] == f"{kind}; charset=utf-8"
        assert (packed.headers["content-encoding"], packed.text) == ("gzip", plain.text)
        assert int(packed.headers["content-length"]) < len(plain.content)
        assert api.get(path, {"if-none-match": plain.headers["etag"]}).status_code == 304
        assert "default-src 'self'" in plain.headers["content-security-policy"]
        assert "unsafe" not in plain.headers["content-security-policy"]
    assert "default-src 'self'" in api.get("/schema").headers["content-security-policy"]
    assert api.get("/assets/none.js").json()["code"] == "not_found"
    assert "TradingView, Inc." in api.get("/assets/licences.txt").text


def test_what_was_not_built_says_how(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("half of a build")
    assert files(tmp_path) == {}
    with pytest.raises(ApiError, match="not been built") as refusal:
        file(files(tmp_path), "index.html")
    assert (refusal.value.status, "make pages" in refusal.value.hint) == (503, True)
