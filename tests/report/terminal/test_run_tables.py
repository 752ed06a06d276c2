import dataclasses

import numpy as np
import pytest

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.report.terminal import run_tables
from gradcheck.results import Contract, RunResult, Whereabouts, WrongEntry


def run_of(*results):
    return RunResult("0", {}, 0, {}, results, seconds=1.0, planned=len(results))


@pytest.fixture(scope="module")
def failing():
    def loss(first_parameter_with_a_long_name, w):
        return np.sum(first_parameter_with_a_long_name @ w)

    def gradient(x, w):
        return np.outer(np.ones(len(x)), w), 2 * x.sum(0)

    result = gradcheck.check(loss, normal(4, 3), normal(3), gradient=gradient)
    return dataclasses.replace(result, replay="gradcheck run x:y --seed 0")


@pytest.mark.parametrize("width", [80, 140])
def test_nothing_is_wider_than_the_terminal(failing, width):
    text = run_tables.render(run_of(failing), width=width, verbosity=1)
    assert max(map(len, text.splitlines())) <= width


def test_the_table_has_a_line_per_leaf_and_pair(failing):
    text = run_tables.render(run_of(failing), width=120)
    assert text.count("analytic ~ numeric") == 2
    assert "stands alone: complex-step, numeric, reverse agree" in text


def test_colour_is_never_the_only_sign(failing):
    plain, coloured = (run_tables.render(run_of(failing), color=color) for color in (False, True))
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain
    assert "FAIL" in plain
    assert "PASS" in plain


def test_quiet_is_the_summary_alone(failing):
    lines = run_tables.render(run_of(failing), verbosity=-1).splitlines()
    assert lines[0].startswith("0 passed, 1 failed; ")
    assert "seed 0" in lines[0]
    assert lines[1:] == ["explain: gradcheck explain factor", "replay: gradcheck run x:y --seed 0"]


def test_a_command_to_paste_is_one_line_however_long(failing):
    command = f"gradcheck run {'a_long_name/' * 12}x.py:y --input 'normal(4, 3)' --seed 0"
    text = run_tables.render(run_of(dataclasses.replace(failing, replay=command)), width=80)
    assert f"replay: {command}" in text.splitlines()


def test_verbose_lists_the_partial_derivatives(failing):
    text = run_tables.render(run_of(failing), width=140, verbosity=1)
    assert "output / w[2]" in text
    assert "partial derivative" not in run_tables.render(run_of(failing), width=140)


def test_an_interrupted_run_says_how_far_it_came(failing):
    run = dataclasses.replace(run_of(failing), interrupted=True, planned=3)
    assert "interrupted: 1 of 3 cases are finished" in run_tables.render(run)


def test_square_brackets_in_names_are_no_markup(failing):
    odd = dataclasses.replace(failing, case="mod:f[red]", message="[bold]x[/bold]")
    assert "mod:f[red]" in run_tables.render(run_of(odd))


def shown(result):
    """The table with each of its sentences on one line."""
    return run_tables.to_text(result, width=1000)


def squares_with_wrong_entries(at, factor=2):
    def gradient(x):
        g = 2 * x
        g[at] *= factor
        return g

    return gradcheck.check(lambda x: np.sum(x**2), np.arange(1.0, 9.0), gradient=gradient, framework="numpy")


def test_wrong_entries_are_listed_with_what_is_claimed_and_what_is_true():
    text = shown(squares_with_wrong_entries([1, 4]))
    assert "2 of 8 entries are wrong: [4] 20 for 10, [1] 8 for 4\n" in text


def test_the_same_entries_are_listed_once_for_a_claim():
    assert shown(squares_with_wrong_entries([1, 4])).count("2 of 8 entries are wrong") == 1


def told_of(where, outputs):
    entries = (WrongEntry((4,), 20.0, 10.0, 1e-9, outputs[0]), WrongEntry((1,), 8.0, 4.0, 1e-9, outputs[1]))
    result = squares_with_wrong_entries([1, 4])
    one = next(c for c in result.comparisons if c.where)
    one = dataclasses.replace(one, where=dataclasses.replace(where, entries=entries))
    return shown(dataclasses.replace(result, comparisons=(one,)))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (Whereabouts((), 3, 1.0), "3 of 8 entries are wrong: {} and 1 more"),
        (Whereabouts((), 2, 0.5), "2 of 8 entries are wrong: {}; 50 % of the leaf examined"),
        (Whereabouts((), None, 0.125), "at least 2 of 8 entries wrong: {}; 12.5 % of the leaf examined"),
        (Whereabouts((), None, 1.0), "at least 2 of 8 entries wrong: {}; 100 % of the leaf examined"),
    ],
)
def test_it_is_said_how_much_of_the_leaf_was_examined_where_more_may_be_wrong(where, words):
    text = told_of(where, ("output", "output"))
    assert "    " + words.format("[4] 20 for 10, [1] 8 for 4") + "\n" in text


@pytest.mark.parametrize(
    ("outputs", "listed"),
    [
        (("output", "output[2]"), "[4] 20 for 10, [1] 8 for 4 (output[2]) and 1 more"),
        (("combination",) * 2, "[4] 20 for 10, [1] 8 for 4 and 1 more (of a random combination of the outputs)"),
    ],
)
def test_it_is_said_which_output_the_values_are_of_where_it_is_not_the_one_above(outputs, listed):
    assert f"3 of 8 entries are wrong: {listed}\n" in told_of(Whereabouts((), 3, 1.0), outputs)


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_values_are_shown_although_the_output_above_is_another(mode):
    def jacobian(x):
        right = np.diag(2 * x)
        right[[3, 30]] *= 2
        return right

    result = gradcheck.check(lambda x: x**2, np.arange(1.0, 41.0), jacobian=jacobian, framework="numpy", mode=mode)
    comparison = next(c for c in result.comparisons if c.where and c.against == "numeric")
    assert comparison.output.startswith("output[")
    assert {w.output for w in comparison.where.entries} == {"combination"}
    values = ", ".join(f"[{w.entry[0]}] {w.claimed:.4g} for {w.estimate:.4g}" for w in comparison.where.entries)
    assert f"2 of 40 entries are wrong: {values} (of a random combination of the outputs)" in shown(result)


def test_a_contract_that_was_not_tried_is_no_pass():
    contract = Contract(
        "one-element", Verdict.PASS, "not fully tried: a batch of one row: the outputs are as large as before", is_untried=True
    )
    done = Contract("state", Verdict.PASS, "keeps nothing")
    result = dataclasses.replace(gradcheck.check(np.sin, normal(2)), contracts=(contract, done))
    text = run_tables.render(run_of(result), width=140, verbosity=1)
    assert "contract one-element: not tried in every way: a batch of one row" in text
    assert "contract state: PASS keeps nothing" in text
