"""The pages that people read, and what a reader may type of them: fenced blocks, and what stands between backticks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.services import ROOT

PAGES = [ROOT / "README.md", ROOT / "docker" / "README.md", ROOT / "bench" / "README.md",
         *sorted((ROOT / "docs").glob("*.md"))]  # fmt: skip
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


class Said(NamedTuple):
    """Something that a page tells to type; `shown` in a block of its own, else within a sentence, which may leave
    something away."""

    page: str
    text: str
    shown: bool


def name(page: Path) -> str:
    """How a page is called in a test's name."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, their indentation taken away."""
    return [
        re.sub(rf"^{indentation}", "", text, flags=re.MULTILINE)
        for indentation, found, text in _FENCE.findall(page.read_text())
        if found == language
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """What stands between backticks in sentences, on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def lines(page: Path) -> Iterator[Said]:
    """Every line of a shell, without what a comment says of it."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if told := re.sub(r"(^|\s+)#.*$", "", line):
                yield Said(name(page), told, True)
    for span in spans(page):
        if re.match(r"(barwright|make|docker|psql|alembic|python|pip|curl|createdb) \S", span):
            yield Said(name(page), span, False)


def statements(page: Path) -> Iterator[Said]:
    """Every SQL statement but the cookbook's, which has a test of its own."""
    if page.name == "cookbook.md":
        return
    for block in blocks(page, "sql"):
        yield Said(name(page), block, True)
    for said in lines(page):
        for match in re.finditer(r"""psql .*?-c (["'])(.*?)\1""", said.text):
            yield Said(name(page), match[2], said.shown)
    for span in spans(page):
        if re.match(r"(select|alter|grant|create|revoke|update|insert|delete) \S+ \S", span + " "):
            yield Said(name(page), span, False)


def settings(page: Path) -> set[str]:
    """The variables that it names."""
    found = re.findall(r"\b(?:BARWRIGHT|DATABASE|KAFKA|REDIS|CRYPTOCOMPARE|SIMULATOR)_[A-Z_]+\b", page.read_text())
    return {each for each in found if not each.endswith("_")}


def links(page: Path) -> list[str]:
    """Where it leads."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """The names by which its headings are led to, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.strip().lower()).replace(" ", "-") for title in titles}
