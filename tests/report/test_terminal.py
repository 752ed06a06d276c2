import dataclasses

import numpy as np
import pytest

import gradcheck
from gradcheck import normal
from gradcheck.report import terminal
from gradcheck.results import RunResult


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
    text = terminal.render(run_of(failing), width=width, verbosity=1)
    assert max(map(len, text.splitlines())) <= width


def test_the_table_has_a_line_per_leaf_and_pair(failing):
    text = terminal.render(run_of(failing), width=120)
    assert text.count("analytic ~ numeric") == 2
    assert "stands alone: complex-step, numeric, reverse agree" in text


def test_colour_is_never_the_only_sign(failing):
    plain, coloured = (terminal.render(run_of(failing), color=color) for color in (False, True))
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain
    assert "FAIL" in plain
    assert "PASS" in plain


def test_quiet_is_the_summary_alone(failing):
    lines = terminal.render(run_of(failing), verbosity=-1).splitlines()
    assert lines[0].startswith("0 passed, 1 failed; ")
    assert "seed 0" in lines[0]
    assert lines[1:] == ["replay: gradcheck run x:y --seed 0"]


def test_verbose_lists_the_partial_derivatives(failing):
    text = terminal.render(run_of(failing), width=140, verbosity=1)
    assert "output / w[2]" in text
    assert "partial derivative" not in terminal.render(run_of(failing), width=140)


def test_an_interrupted_run_says_how_far_it_came(failing):
    run = dataclasses.replace(run_of(failing), interrupted=True, planned=3)
    assert "interrupted: 1 of 3 cases are finished" in terminal.render(run)


def test_square_brackets_in_names_are_no_markup(failing):
    odd = dataclasses.replace(failing, case="mod:f[red]", message="[bold]x[/bold]")
    assert "mod:f[red]" in terminal.render(run_of(odd))
