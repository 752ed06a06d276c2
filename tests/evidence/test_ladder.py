"""The engine on functions whose derivatives are known: the true error lies inside the bound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradcheck
from gradcheck.evidence import directions, ladder, noise, richardson
from gradcheck.evidence.line import Setting, choose_slack
from gradcheck.results import Reason

EPS = {np.float64: 2.0**-52, np.float32: 2.0**-23}

SMOOTH = {
    "sin": (np.sin, np.cos),
    "exp(5x)": (lambda x: np.exp(5 * x), lambda x: 5 * np.exp(5 * x)),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "1/(1+x²)": (lambda x: 1 / (1 + x**2), lambda x: -2 * x / (1 + x**2) ** 2),
    "x³": (lambda x: x**3, lambda x: 3 * x**2),
    "1e8 + x": (lambda x: 1e8 + x, lambda x: np.ones_like(x)),
    "1e-9 x": (lambda x: 1e-9 * x, lambda x: np.full_like(x, 1e-9)),
}
HARD = {
    "sin(2e6 x)": (lambda x: np.sin(2e6 * x), lambda x: 2e6 * np.cos(2e6 * x), 1.0),
    "1/x near its pole": (lambda x: 1 / x, lambda x: -1 / x**2, 1e-6),
    "log near 0": (np.log, lambda x: 1 / x, 1e-9),
    "a kink at distance 1e-7": (lambda x: np.abs(x - 1), np.ones_like, 1 + 1e-7),
    "a kink at distance 1e-3": (lambda x: np.abs(x - 1), np.ones_like, 1 + 1e-3),
    "x log x": (lambda x: x * np.log(np.maximum(x, 0)), lambda x: np.log(x) + 1, 1e-3),
    "relu off its kink": (lambda x: np.maximum(x, 0), np.zeros_like, -1e-2),
    "hardtanh beyond both its kinks": (lambda x: np.clip(x, -0.1, 0.1) * 1.0, np.zeros_like, 0.15),
    "round": (np.round, np.zeros_like, 1.3),
    "values rounded to 1e-6": (lambda x: np.round(np.sin(x), 6), np.cos, 1.0),
    "float32 inside": (lambda x: np.sin(x.astype(np.float32)).astype(np.float64), np.cos, 1.0),
    "1e14 + x": (lambda x: 1e14 + x, np.ones_like, 1.0),
}


def lines(function, x, dtype=np.float64):
    """A line through x, its setting, and the tangent."""
    x = np.atleast_1d(np.asarray(x, dtype=dtype).astype(np.float64))
    eps = EPS[dtype]
    tangent = directions.round_tangent(
        np.random.default_rng(0).standard_normal(x.shape) * directions.compute_leaf_scale(x), x, eps
    )

    def along(u):
        return lambda t: np.atleast_1d(function((x + t * u).astype(dtype))).astype(np.float64)

    base = along(tangent)(0.0)
    jolt = np.random.default_rng(1).standard_normal(x.shape) * directions.compute_leaf_scale(x)
    finest = directions.finest_step(eps)
    measured = noise.measure_noise(along(jolt), base, finest, eps)
    return along(tangent), Setting(base, measured, eps, None, finest, choose_slack(100)), tangent, eps


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", SMOOTH)
@given(x=st.floats(-2, 2).filter(lambda x: abs(x) > 1e-3))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_the_true_error_of_a_smooth_derivative_lies_inside_the_bound(name, dtype, x):
    function, derivative = SMOOTH[name]
    x = np.float64(dtype(x))
    phi, setting, u, eps = lines(function, x, dtype)
    true = derivative(np.atleast_1d(x)) * u
    for slope in (
        richardson.estimate_slopes(phi, setting, richardson.choose_steps(setting, eps)),
        ladder.estimate_slopes_by_ladder(phi, setting),
    ):
        assert np.abs(slope.value - true) <= slope.bound + 4 * 2.0**-52 * np.abs(true)


@pytest.mark.parametrize("name", HARD)
def test_the_ladder_encloses_the_derivative_of_a_difficult_function(name):
    function, derivative, x = HARD[name]
    phi, setting, u, _ = lines(function, x)
    slope = ladder.estimate_slopes_by_ladder(phi, setting)
    assert np.abs(slope.value - derivative(np.atleast_1d(x)) * u) <= slope.bound + 1e-15
    assert slope.reason[0] in (None, Reason.DULL)


@pytest.mark.parametrize("name", ["sin", "tanh", "exp(5x)"])
def test_the_ladder_is_sharp_where_the_function_is_smooth(name):
    function, derivative = SMOOTH[name]
    phi, setting, u, _ = lines(function, 0.7)
    slope = ladder.estimate_slopes_by_ladder(phi, setting)
    assert slope.bound[0] <= 1e-10 * abs(derivative(0.7) * u[0])


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [(np.abs, -1, 1), (lambda x: np.maximum(x, 0), 0, 1), (lambda x: np.where(x > 0, 3 * x, x), 1, 3)],
)
def test_a_kink_is_recognised_with_its_one_sided_slopes(function, low, high):
    phi, setting, u, _ = lines(function, 0.0)
    slope = ladder.estimate_slopes_by_ladder(phi, setting)
    ends = sorted((low * u[0], high * u[0]))
    assert slope.reason[0] is Reason.KINK_SUBGRADIENT
    assert slope.low[0] == pytest.approx(ends[0], abs=1e-6)
    assert slope.high[0] == pytest.approx(ends[1], abs=1e-6)


@pytest.mark.parametrize(
    ("function", "x", "reason"),
    [
        (np.sqrt, 0.0, Reason.SINGULAR),
        (lambda x: np.where(x >= 1, 1e3, 0.0) + x, 1.0, Reason.JUMP),
        (np.cbrt, 0.0, Reason.SINGULAR),
        (lambda x: np.sign(x) * np.abs(x) ** 0.1, 0.0, Reason.SINGULAR),
    ],
    ids=["border of the domain", "jump", "singular power", "nearly a jump"],
)
def test_no_derivative_is_estimated_at_points_without_one(function, x, reason):
    phi, setting, *_ = lines(function, x)
    slope = ladder.estimate_slopes_by_ladder(phi, setting)
    assert not np.isfinite(slope.bound[0]) or slope.bound[0] > 1e-2 * abs(slope.value[0])
    assert slope.reason[0] is reason


def test_added_noise_is_measured_and_counted_in_the_bound():
    rng = np.random.default_rng(2)
    for size in (1e-10, 1e-7, 1e-4):
        phi, setting, u, _ = lines(lambda x, s=size: np.sin(x) + s * rng.standard_normal(), 1.0)
        slope = ladder.estimate_slopes_by_ladder(phi, setting)
        assert size / 5 <= setting.noise[0] <= 5 * size
        assert np.abs(slope.value[0] - np.cos(1.0) * u[0]) <= slope.bound[0]


def test_an_output_that_never_moves_has_no_slope_and_hardly_a_bound():
    phi, setting, *_ = lines(lambda x: np.full_like(x, 5.0), 1.0)
    slope = ladder.estimate_slopes_by_ladder(phi, setting)
    assert slope.value[0] == 0
    assert slope.bound[0] <= 1e-13


def test_one_output_that_is_not_finite_does_not_affect_the_others():
    phi, setting, u, _ = lines(lambda x: np.concatenate([np.sin(x), np.sqrt(x - 1)]), 1.0)
    slope = ladder.estimate_slopes_by_ladder(phi, setting)
    assert slope.value[0] == pytest.approx(np.cos(1.0) * u[0], rel=1e-9)
    assert not slope.bound[1] < 1


def test_noise_is_found_though_one_spacing_lies_on_the_grid_of_the_values():
    small = 10.0 ** np.random.default_rng(0).uniform(-7, 0, 500)

    def phi(t):
        return np.log(1 + small * np.exp(t))  # the sum is rounded to multiples of 2^-52

    measured = noise.measure_noise(phi, phi(0.0), directions.finest_step(2.0**-52), 2.0**-52)
    assert np.all(measured > 2.0**-52 / 32)
    assert np.all(measured < 4 * 2.0**-52)


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("factor", [1.0, 1.02, 1.5])
def test_steepness_far_away_does_not_hide_a_wrong_slope(mode, factor):
    x = np.linspace(0.3, 1.2, 5)

    def steep(x):
        return np.sum(np.exp(500 * (x - 1)))

    def gradient(x):
        return factor * 500 * np.exp(500 * (x - 1))

    result = gradcheck.check(steep, x, gradient=gradient, mode=mode, methods=("analytic", "numeric"))
    assert result.verdict.value == ("PASS" if factor == 1.0 else "FAIL")
