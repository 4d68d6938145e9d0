"""Chromium, and pages that must not complain, load nothing from other hosts, and hold up nobody."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.api.conftest import Api, api, connection, dsn, eras, new

__all__ = ["api", "connection", "dsn", "eras", "new"]
Open = Callable[..., Page]
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system; a module's own, for its event loop must not outlive it."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None and "CI" not in os.environ:
        pytest.skip("no Chromium on this machine: sudo apt-get install --no-install-recommends chromium")
    assert program, "CI must have Chromium: .ci/run installs it"
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What pages have complained of; a test that provokes some clears it."""
    return []


@pytest.fixture
def visit(browser: Browser, api: Api, complaints: list[str]) -> Iterator[Open]:
    """Opens pages: `visit("/symbols", width=360, dark=True, timezone_id=…)`; `socket` answers in the stream's stead."""
    contexts = []

    def visit(
        path: str, width: int = 1440, dark: bool = False, base: str = "", socket: Any = None, **options: Any
    ) -> Page:
        base = base or str(api.client.base_url)
        context = browser.new_context(
            base_url=base, viewport={"width": width, "height": 900 if width > 720 else 740},
            color_scheme="dark" if dark else "light", **options,
        )  # fmt: skip
        contexts.append(context)
        if socket:
            context.route_web_socket("**/v1/stream", socket)
        page = context.new_page()
        page.on("console", lambda message: _heard(message, complaints))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _foreign(request.url, base, complaints))
        page.goto(path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def _heard(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type in ("error", "warning") and "willReadFrequently" not in message.text:  # that is what tests do
        complaints.append(message.text)


def _foreign(url: str, base: str, complaints: list[str]) -> None:
    if not url.startswith((base, "data:")):
        complaints.append(f"a request to {url}")


@pytest.fixture
def shoot(tmp_path: Path) -> Callable[[Page, str], None]:
    """Keeps a screenshot for eyes, in BARWRIGHT_SCREENSHOTS or among pytest's temporary files."""
    folder = Path(os.environ.get("BARWRIGHT_SCREENSHOTS", tmp_path))

    def shoot(page: Page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png")

    return shoot


class Work:
    """What the pages' main threads did while it was watched."""

    busiest = 0.0  # ms of its processor time that the longest task took; other programs do not count


@contextmanager
def watched(browser: Browser, page: Page) -> Iterator[Work]:
    """Watch a page's main thread."""
    work = Work()
    browser.start_tracing(page=page, categories=["toplevel"])
    yield work
    events = json.loads(browser.stop_tracing())["traceEvents"]
    threads = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [event for event in events if (event["pid"], event["tid"]) in threads and event["name"].endswith("RunTask")]
    assert tasks, "the browser traces its tasks by another name"
    work.busiest = max(task.get("tdur", 0) for task in tasks) / 1000
