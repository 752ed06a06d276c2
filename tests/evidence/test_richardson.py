"""Extrapolated differences know their own errors: they show when they do not apply, and a noisy output does not blur others."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradcheck
from gradcheck import Reason, Verdict
from gradcheck.evidence import directions, noise, richardson
from gradcheck.evidence.line import Setting, choose_slack

EPS = 2.0**-52
FINEST = directions.finest_step(EPS)
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


def setting(phi, deviation=None):
    base = phi(0.0)
    measured = noise.measure_noise(phi, base, FINEST, EPS) if deviation is None else np.asarray(deviation, float)
    return Setting(base, measured, EPS, None, FINEST, choose_slack(100))


def line(function, x):
    return lambda t: np.atleast_1d(function(np.float64(x) + t))


@pytest.mark.parametrize(
    "function", [np.abs, lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 2 * x, 0.5 * x)], ids=["abs", "relu", "leaky"]
)
def test_the_cheap_steps_already_see_that_a_kink_is_rough(function):
    phi = line(function, 0.0)
    at = setting(phi)
    assert richardson.estimate_slopes(phi, at, richardson.choose_steps(at, EPS)).rough[0]


@pytest.mark.parametrize("x", [-2.0, 0.3, 1.0, 1e-3])
@pytest.mark.parametrize(
    "function", [np.sin, np.exp, np.square, np.tanh, lambda x: 3 * x], ids=["sin", "exp", "x²", "tanh", "3x"]
)
def test_a_smooth_function_is_not_rough(function, x):
    phi = line(function, x)
    at = setting(phi)
    assert not richardson.estimate_slopes(phi, at, richardson.choose_steps(at, EPS)).rough[0]


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("size", [1, 5])
def test_the_absolute_value_at_zero_is_a_kink(size, mode):
    result = gradcheck.check(lambda x: np.sum(np.abs(x)), np.zeros(size), gradient=np.sign, mode=mode)
    assert (result.verdict, result.reason) == (Verdict.PASS, Reason.KINK_SUBGRADIENT), str(result)


def test_outputs_of_one_noise_share_a_step_and_a_loud_one_gets_its_own():
    phi = lambda t: np.array([np.sin(1 + t), np.cos(1 + t)])  # noqa: E731 - the shortest way to say it
    assert len(richardson.choose_steps(setting(phi, [1e-16, 1e-16]), EPS)) == 1
    loud, quiet = richardson.choose_steps(setting(phi, [1e-6, 1e-16]), EPS)
    assert loud >= 8 * quiet >= 8 * FINEST


def smooth_and_noisy(x):
    return np.stack([np.sum(np.sin(x)), np.sum(np.sin(x)) + 1e-6 * np.sin(1e12 * np.sum(x))])


def sines(x):
    return np.stack([np.cos(x), np.cos(x)])


def test_a_noisy_output_does_not_widen_the_bounds_of_a_smooth_one():
    x = np.linspace(0.1, 1.0, 4)
    result = gradcheck.check(smooth_and_noisy, x, jacobian=sines, mode="full")
    assert result.verdict is not Verdict.FAIL, str(result)
    bounds = {p.output_entry: [] for p in result.partials}
    for p in result.partials:
        bounds[p.output_entry].append(p.bound)
    assert max(bounds[(0,)]) < 1e-9
    assert max(bounds[(0,)]) < 1e-3 * min(bounds[(1,)])


def test_a_small_error_in_a_smooth_output_is_found_next_to_a_noisy_one():
    x = np.linspace(0.1, 1.0, 4)

    def off(x):
        j = sines(x)
        j[0, 2] *= 1 + 1e-6
        return j

    assert gradcheck.check(smooth_and_noisy, x, jacobian=off, mode="full").verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("function", "x", "derivative"),
    [
        (lambda x: np.exp(x) - 1, -0.001019008956426641, np.exp),
        (lambda x: np.sqrt(x**2 + 1) - x, 21.351190295242034, lambda x: x / np.sqrt(x**2 + 1) - 1),
    ],
    ids=["exp(x) - 1", "sqrt(x² + 1) - x"],
)
def test_rounding_that_does_not_show_at_one_spacing_is_measured_at_others(function, x, derivative):
    right = gradcheck.check(lambda x: np.sum(function(x)), np.array([x]), gradient=derivative)
    assert right.verdict is Verdict.PASS, str(right)
    phi = line(function, x)
    actual = abs(float(function(np.longdouble(x))) - float(function(np.float64(x))))
    assert setting(phi).noise[0] >= actual / 32


@pytest.mark.parametrize("seed", range(4))
def test_a_kink_at_a_distance_is_not_taken_for_one_at_the_inputs(seed):
    x = np.array([2.796667844101318])
    kink = x[0] - 9.5e-4 * np.sign(np.random.default_rng(seed).standard_normal())

    def function(x):
        return np.sum(np.maximum(-(x - kink), 0.0))

    def right(x):
        return np.where(x < kink, -1.0, 0.0)

    assert gradcheck.check(function, x, gradient=right, seed=seed).verdict is Verdict.PASS
    wrong = gradcheck.check(function, x, gradient=lambda x: -1.0 - right(x), seed=seed)
    assert wrong.verdict is Verdict.FAIL, str(wrong)
