"""The cheap estimate and the noise it rests on: kinks are seen at once, a noisy output does not blur a quiet one."""

import numpy as np
import pytest

import gradcheck
from gradcheck import Reason, Verdict
from gradcheck.evidence import central, directions, noise
from gradcheck.evidence.line import Setting, choose_slack

EPS = 2.0**-52
FINEST = directions.finest_step(EPS)


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
    assert central.estimate_slopes(phi, at, central.choose_steps(at, EPS)).rough[0]


@pytest.mark.parametrize("x", [-2.0, 0.3, 1.0, 1e-3])
@pytest.mark.parametrize(
    "function", [np.sin, np.exp, np.square, np.tanh, lambda x: 3 * x], ids=["sin", "exp", "x²", "tanh", "3x"]
)
def test_a_smooth_function_is_not_rough(function, x):
    phi = line(function, x)
    at = setting(phi)
    assert not central.estimate_slopes(phi, at, central.choose_steps(at, EPS)).rough[0]


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("size", [1, 5])
def test_the_absolute_value_at_zero_is_a_kink(size, mode):
    result = gradcheck.check(lambda x: np.sum(np.abs(x)), np.zeros(size), gradient=np.sign, mode=mode)
    assert (result.verdict, result.reason) == (Verdict.PASS, Reason.KINK_SUBGRADIENT), str(result)


def test_outputs_of_one_noise_share_a_step_and_a_loud_one_gets_its_own():
    phi = lambda t: np.array([np.sin(1 + t), np.cos(1 + t)])  # noqa: E731 - the shortest way to say it
    assert len(central.choose_steps(setting(phi, [1e-16, 1e-16]), EPS)) == 1
    loud, quiet = central.choose_steps(setting(phi, [1e-6, 1e-16]), EPS)
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
