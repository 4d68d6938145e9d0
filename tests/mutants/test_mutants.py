"""The list of planted bugs is true of the code as it stands; `make mutants` plants them."""

import pytest

from tests.mutants.mutant import ROOT, Mutant, mutants, place_of


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_and_names_tests_that_are_there(mutant: Mutant) -> None:
    planted = mutant.planted((ROOT / mutant.file).read_text())
    if mutant.file.endswith(".py"):
        compile(planted, mutant.file, "exec")
    assert mutant.tests
    for test in mutant.tests:
        place_of(test)


def test_names_are_no_one_else_s() -> None:
    names = [mutant.name for mutant in mutants()]
    assert len(names) == len(set(names)) >= 25
