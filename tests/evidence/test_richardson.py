"""The estimates from two and three steps know their own errors, and show when they do not apply."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck.evidence import richardson
from gradcheck.evidence.line import choose_slack

EPS = 2.0**-52
SMOOTH = {
    "sin": (np.sin, np.cos),
    "exp": (np.exp, np.exp),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "wave": (lambda x: np.sin(30 * x), lambda x: 30 * np.cos(30 * x)),
    "logistic": (lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
}


def run_estimator(estimator, f, x):
    base = f(x)
    floor = np.array([0.5 * EPS * abs(base)])
    return estimator(lambda t: np.array([f(x + t) - base]), 0.0, EPS, lambda _: floor, choose_slack(2))


@pytest.mark.parametrize("estimator", [richardson.estimate_from_three_steps, richardson.estimate_from_two_steps])
@pytest.mark.parametrize("name", SMOOTH)
@given(x=st.floats(0.2, 3) | st.floats(-3, -0.2))
def test_the_derivative_lies_within_the_bound(estimator, name, x):
    f, df = SMOOTH[name]
    estimate = run_estimator(estimator, f, x)
    assert abs(estimate.value[0] - df(x)) <= estimate.bound[0] + 4 * EPS * abs(df(x))


@pytest.mark.parametrize("name", ["sin", "exp", "logistic"])
def test_three_steps_are_sharper_than_two(name):
    f, df = SMOOTH[name]
    from_three, from_two = (
        run_estimator(estimator, f, 0.7)
        for estimator in (richardson.estimate_from_three_steps, richardson.estimate_from_two_steps)
    )
    assert from_three.bound[0] < from_two.bound[0] / 5
    assert abs(from_three.value[0] - df(0.7)) < 1e-11


@pytest.mark.parametrize("estimator", [richardson.estimate_from_three_steps, richardson.estimate_from_two_steps])
@pytest.mark.parametrize("f", [abs, lambda x: abs(x) + 1 + x, lambda x: max(x, 0.0) + 2 * x])
def test_at_a_kink_the_bound_holds_the_slopes_on_both_sides(estimator, f):
    estimate = run_estimator(estimator, f, 0.0)
    for t in (2.0**-20, -(2.0**-20)):
        assert abs(estimate.value[0] - (f(t) - f(0.0)) / t) <= estimate.bound[0]
    assert estimate.bound[0] > 0.5


@pytest.mark.parametrize("estimator", [richardson.estimate_from_three_steps, richardson.estimate_from_two_steps])
def test_at_a_jump_or_off_the_domain_the_bound_is_useless(estimator):
    assert run_estimator(estimator, lambda x: np.sign(x) + x, 0.0).bound[0] > 100
    with np.errstate(all="ignore"):
        assert not np.isfinite(run_estimator(estimator, lambda x: np.sqrt(x), 0.0).bound[0])


@pytest.mark.parametrize("estimator", [richardson.estimate_from_three_steps, richardson.estimate_from_two_steps])
@pytest.mark.parametrize("power", [1 / 3, 1 / 2, 2 / 3])
def test_at_a_cusp_that_symmetry_hides_the_bound_is_wide(estimator, power):
    estimate = run_estimator(estimator, lambda x: np.sign(x) * abs(x) ** power, 0.0)
    assert estimate.bound[0] > 0.01 * abs(estimate.value[0])


def test_the_bound_from_three_steps_holds_as_often_as_noise_allows():
    rng, beyond = np.random.default_rng(0), 0
    for _ in range(1000):
        w, x = rng.uniform(0.1, 10), rng.uniform(-5, 5)
        if abs(np.sin(w * x)) > 0.2:
            estimate = run_estimator(richardson.estimate_from_three_steps, lambda t, w=w: np.sin(w * t), x)
            beyond += abs(estimate.value[0] - w * np.cos(w * x)) > estimate.bound[0]
    assert beyond <= 2


@pytest.mark.parametrize("name", SMOOTH)
@given(x=st.floats(0.2, 3), y=st.floats(0.2, 3))
def test_a_similar_line_is_estimated_with_the_h4_term_of_the_first(name, x, y):
    f, df = SMOOTH[name]
    first = run_estimator(richardson.estimate_from_three_steps, f, x)
    estimate = run_estimator(partial(richardson.estimate_from_similar_line, first), f, y)
    fifth = [abs(f(z + 0.1) - 4 * f(z + 0.05) + 6 * f(z) - 4 * f(z - 0.05) + f(z - 0.1)) for z in (x, y)]
    if fifth[1] < 16 * fifth[0]:
        assert abs(estimate.value[0] - df(y)) <= estimate.bound[0] + 4 * EPS * abs(df(y))


def test_a_kink_within_reach_of_three_steps_leaves_the_estimate_to_two():
    estimate = run_estimator(richardson.estimate_from_three_steps, lambda x: max(x - 2.0**-12, 0.0) + np.sin(x), 0.0)
    assert abs(estimate.value[0] - 1) <= estimate.bound[0] < 1e-9


def test_noise_widens_the_bound():
    rng = np.random.default_rng(0)
    estimate = run_estimator(richardson.estimate_from_two_steps, lambda x: np.sin(x) + 1e-10 * rng.standard_normal(), 0.7)
    assert 1e-11 < estimate.noise[0] < 1e-9
    assert abs(estimate.value[0] - np.cos(0.7)) <= estimate.bound[0]
