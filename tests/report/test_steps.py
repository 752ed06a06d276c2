"""The steps of an estimate: the plateau, the kinks nearby, and the table and sentence that show them."""

import json
import math

import numpy as np
import pytest

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.report import steps
from gradcheck.report.terminal import run_tables
from gradcheck.results import RunResult


def run_of(*results):
    return RunResult("0", {}, 0, {}, results, seconds=1.0, planned=len(results))


def numeric(result):
    return next(c for c in result.comparisons if c.against == "numeric")


def told(function, x, gradient, **more):
    return numeric(gradcheck.check(function, np.atleast_1d(np.asarray(x, float)), gradient=gradient, stories=True, **more))


SMOOTH = {
    "sin": (np.sin, np.cos, 0.7),
    "exp": (np.exp, np.exp, -3.0),
    "a cube far off": (lambda x: x**3, lambda x: 3 * x**2, 1e5),
    "a small scale": (np.log, lambda x: 1 / x, 1e-6),
}


@pytest.mark.parametrize("factor", [1.0, 1.1])
@pytest.mark.parametrize("name", SMOOTH)
def test_the_steps_go_down_and_the_value_chosen_holds_the_truth(name, factor):
    function, derivative, x = SMOOTH[name]
    c = told(lambda x: np.sum(function(x)), x, lambda x: factor * derivative(x))
    assert c.verdict is (Verdict.PASS if factor == 1 else Verdict.FAIL)
    s = c.story
    assert all(coarse > fine > 0 for coarse, fine in zip(s.steps, s.steps[1:], strict=False))
    assert len(s.steps) == len(s.differences) == len(s.bounds) > 4
    assert s.steps[0] >= s.plateau[0] >= s.plateau[1] >= s.steps[-1]
    assert set(s.plateau) <= set(s.steps)
    assert abs(s.value - derivative(x)) <= s.bound + 4e-16 * abs(derivative(x))
    assert s.bound <= 1e-6 * abs(s.value)
    assert s.smoothness == "smooth"
    assert s.noise > 0


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_a_fail_always_has_a_story_and_a_pass_where_it_is_asked_for(mode):
    def stories(factor, **more):
        result = gradcheck.check(
            lambda x: np.sum(np.sin(x)), normal(3), gradient=lambda x: factor * np.cos(x), mode=mode, **more
        )
        return [c.story for c in result.comparisons if (c.method, c.against) == ("analytic", "numeric")]

    assert None not in stories(1.5)
    assert None not in stories(1.0, stories=True)
    assert stories(1.0) == [None]


def test_a_direction_along_which_the_input_has_a_scale_of_its_own_is_told_in_its_units():
    c = told(lambda x: np.sum(np.sin(x / 1e6)), [1e6, 2e6], lambda x: 1.5 * np.cos(x / 1e6) / 1e6)
    assert 1e4 < c.story.steps[0] < 1e7
    assert c.story.value == pytest.approx(c.estimate, rel=1e-6)


@pytest.mark.parametrize("distance", [3e-2, 1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("side", [1, -1])
def test_the_distance_of_a_kink_is_about_right(distance, side):
    c = told(lambda x: np.sum(np.abs(x - 1)), 1 + side * distance, lambda x: np.sign(x - 1))
    assert c.verdict is Verdict.PASS
    assert distance / 4 <= c.story.kink_distance <= 4 * distance
    assert c.story.value == pytest.approx(side, rel=1e-6)


def test_at_a_kink_the_distance_is_zero_and_the_slopes_are_told():
    c = told(lambda x: np.sum(np.where(x > 1, 3 * (x - 1), -(x - 1))), 1.0, np.zeros_like)
    assert c.story.kink_distance == 0
    assert c.story.one_sided == pytest.approx((-1, 3), abs=1e-6)
    assert c.story.smoothness == "kink"
    assert "one-sided slopes -1 and 3" in steps.describe_estimate(c.story)


def test_a_smooth_function_has_no_kink_to_tell_of():
    s = told(lambda x: np.sum(np.sin(x)), 0.3, np.cos).story
    assert math.isnan(s.kink_distance)
    assert all(map(math.isnan, s.one_sided))
    assert "kink" not in steps.describe_estimate(s)
    assert "smooth" in steps.describe_estimate(s)


def test_at_the_border_of_the_domain_steps_outside_it_are_told_as_such():
    c = told(lambda x: np.sum(x**1.5), 1e-3, lambda x: 2 * x**0.5)
    assert c.story.differences[-1] == pytest.approx(1.5 * 1e-3**0.5, rel=1e-3)
    text = run_tables.render(run_of(gradcheck.check(np.sqrt, np.array([0.0]), gradient=lambda x: x, stories=True)), verbosity=2)
    assert "Traceback" not in text


def test_the_table_has_a_row_a_step_and_marks_those_chosen():
    result = gradcheck.check(lambda x: np.sum(np.sin(x)), normal(3), gradient=lambda x: 1.5 * np.cos(x))
    c = numeric(result)
    text = run_tables.render(run_of(result), width=140, verbosity=2)
    assert steps.describe_estimate(c.story) in " ".join(text.split())
    rows = [line for line in text.splitlines() if f"{c.story.steps[-1]:.1e}" in line]
    assert rows
    chosen = [h for h in c.story.steps if c.story.plateau[1] <= h <= c.story.plateau[0]]
    assert text.count(" chosen") == len(chosen) * len({x.story.steps for x in result.comparisons if x.story})
    assert " chosen" not in run_tables.render(run_of(result), width=140, verbosity=1)


def test_no_story_is_wider_than_the_terminal():
    result = gradcheck.check(lambda x: np.sum(np.abs(x)), np.array([0.0, 1e-3, 1e8]), gradient=np.sign, stories=True)
    text = run_tables.render(run_of(result), width=80, verbosity=2)
    assert max(map(len, text.splitlines())) <= 80


def test_json_keeps_the_story():
    for x in (0.3, 0.0):
        result = gradcheck.check(lambda x: np.sum(np.abs(x)), np.array([x]), gradient=np.sign, stories=True)
        data = json.loads(run_of(result).to_json(), parse_constant=pytest.fail)
        again = [c.story for c in RunResult.from_dict(data).results[0].comparisons]
        assert [repr(s) for s in again] == [repr(c.story) for c in result.comparisons]
        assert again[0].steps
