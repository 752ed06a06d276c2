"""Options in groups: one title each in the help, and what was typed can be typed again."""

from dataclasses import fields

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app
from gradcheck.cli.option_groups import typed
from gradcheck.cli.options import (
    Carried,
    Gate,
    How,
    Shown,
    What,
    options_given,
)
from gradcheck.errors import UsageError


def test_each_group_has_its_title_in_the_help():
    told = CliRunner().invoke(app, ["run", "--help"]).stdout
    titles = ["What to check", "How to check", "How to run", "What passes", "What to show and write"]
    assert [told.index(title) for title in titles] == sorted(told.index(title) for title in titles)
    assert "How to search" not in told  # the group of another command that has an option in common


def test_no_option_is_in_two_groups():
    names = [field.name for group in (What, How, Carried, Gate, Shown) for field in fields(group)]
    assert len(names) == len(set(names))


def test_what_was_typed_is_told_again_and_nothing_else():
    assert list(typed(What())) == list(typed(How())) == []
    assert " ".join(typed(What(inputs=["normal(3)", "y=0.5"], wrt=["x"]))) == "--input normal(3) --input y=0.5 --wrt x"
    how = How(trials=3, budget="5min", contracts=False, by_layer=True, no_contract=["state"])
    assert " ".join(typed(how)) == "--no-contracts --no-contract state --trials 3 --budget 5min --by-layer"


def test_options_are_those_that_were_given():
    assert options_given(How()) == {}
    given = options_given(How(trials=3, budget="5min", checks="laws, descent", dim=["n=2..3"], contracts=False))
    assert given == {"trials": 3, "budget": 300.0, "checks": ("laws", "descent"), "dims": {"n": (2, 3)}, "contracts": False}
    with pytest.raises(UsageError, match="expected a duration"):
        options_given(How(budget="soon"))
