"""Groups of options: each has a title in the help, and its values can be written as a command line again."""

from dataclasses import fields

import pytest
from typer.testing import CliRunner

from gradcheck.cli import app
from gradcheck.cli.option_groups import command_words
from gradcheck.cli.options import (
    ExecutionOptions,
    OutputOptions,
    PassOptions,
    RunCheckOptions,
    RunTargetOptions,
    parse_check_options,
)
from gradcheck.errors import UsageError


def test_each_group_has_its_title_in_the_help():
    help_text = CliRunner().invoke(app, ["run", "--help"]).stdout
    titles = ["What to check", "How to check", "How to run", "What passes", "What to show and write"]
    assert [help_text.index(title) for title in titles] == sorted(help_text.index(title) for title in titles)
    assert "How to search" not in help_text  # a group of another command, which shares an option


def test_no_option_is_in_two_groups():
    names = [
        field.name
        for group in (RunTargetOptions, RunCheckOptions, ExecutionOptions, PassOptions, OutputOptions)
        for field in fields(group)
    ]
    assert len(names) == len(set(names))


def test_exactly_the_options_that_were_typed_are_written_again():
    assert list(command_words(RunTargetOptions())) == list(command_words(RunCheckOptions())) == []
    assert (
        " ".join(command_words(RunTargetOptions(inputs=["normal(3)", "y=0.5"], wrt=["x"])))
        == "--input normal(3) --input y=0.5 --wrt x"
    )
    check_options = RunCheckOptions(trials=3, budget="5min", contracts=False, by_layer=True, no_contract=["state"])
    assert " ".join(command_words(check_options)) == "--no-contracts --no-contract state --trials 3 --budget 5min --by-layer"


def test_only_given_options_are_parsed():
    assert parse_check_options(RunCheckOptions()) == {}
    given = parse_check_options(
        RunCheckOptions(trials=3, budget="5min", checks="laws, descent", dim=["n=2..3"], contracts=False)
    )
    assert given == {"trials": 3, "budget": 300.0, "checks": ("laws", "descent"), "dims": {"n": (2, 3)}, "contracts": False}
    with pytest.raises(UsageError, match="expected a duration"):
        parse_check_options(RunCheckOptions(budget="soon"))


def test_the_help_of_run_shows_three_examples():
    examples = CliRunner().invoke(app, ["run", "--help"]).stdout.partition("Examples:")[2]
    assert examples.count("gradcheck run ") == 3


def test_a_command_to_paste_keeps_the_options_that_were_typed(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text("import numpy as np\n\ndef f(x, y):\n    return np.sum(x * y)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    done = CliRunner().invoke(app, ["run", "net.py:f", "--input", "y=normal(4)", "--rtol", "1e-3", "--trials", "2"])
    command = "gradcheck run net.py:f --input 'y=normal(4)' --rtol 0.001 --trials 2 --input x='normal(4, 3)'"
    assert command in done.stdout  # on one line, however narrow the terminal
