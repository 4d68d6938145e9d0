"""A mutant: a piece of a file's text and what is planted in its place."""

import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
LIST = Path(__file__).with_name("mutants.toml")


class Mutant(NamedTuple):
    """`text` stands once in `file` and becomes `becomes`; then `harm` is what a user suffers and `tests` are to find
    it, chosen among by further `words` of pytest's command line."""

    name: str
    file: str
    text: str
    becomes: str
    harm: str
    tests: list[str]
    words: tuple[str, ...] = ()

    def planted(self, source: str) -> str:
        """The file with the bug. ValueError where the text does not stand in it exactly once."""
        if (found := source.count(self.text)) != 1:
            raise ValueError(f"{self.name}: its text stands {found} times in {self.file}")
        if self.text == self.becomes:
            raise ValueError(f"{self.name} changes nothing")
        return source.replace(self.text, self.becomes)


def mutants() -> list[Mutant]:
    """All of them, in the order of the list."""
    found = tomllib.loads(LIST.read_text())["mutant"]
    return [Mutant(**{**one, "words": tuple(one.get("words", ()))}) for one in found]


def place_of(test: str) -> tuple[str, int]:
    """Where a test stands: the file, and where in it; some follow what those before them left. ValueError where it is
    not there."""
    path, _, name = test.partition("::")
    return path, (ROOT / path).read_text().index(f"def {name}(")
