"""The briefest estimate knows its error, and when it should not be asked."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck.evidence import richardson
from gradcheck.evidence.line import slack_for

EPS = 2.0**-52
SMOOTH = {
    "sin": (np.sin, np.cos),
    "exp": (np.exp, np.exp),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "wave": (lambda x: np.sin(30 * x), lambda x: 30 * np.cos(30 * x)),
    "logistic": (lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
}


def asked(way, f, x):
    base = f(x)
    floor = np.array([0.5 * EPS * abs(base)])
    return way(lambda t: np.array([f(x + t) - base]), 0.0, EPS, lambda _: floor, slack_for(2))


@pytest.mark.parametrize("way", [richardson.sharp, richardson.plain])
@pytest.mark.parametrize("name", SMOOTH)
@given(x=st.floats(0.2, 3) | st.floats(-3, -0.2))
def test_the_derivative_lies_within_the_bound(way, name, x):
    f, df = SMOOTH[name]
    found = asked(way, f, x)
    assert abs(found.value[0] - df(x)) <= found.bound[0] + 4 * EPS * abs(df(x))


@pytest.mark.parametrize("name", ["sin", "exp", "logistic"])
def test_three_steps_are_sharper_than_two(name):
    f, df = SMOOTH[name]
    sharp, plain = (asked(way, f, 0.7) for way in (richardson.sharp, richardson.plain))
    assert sharp.bound[0] < plain.bound[0] / 5
    assert abs(sharp.value[0] - df(0.7)) < 1e-11


@pytest.mark.parametrize("way", [richardson.sharp, richardson.plain])
@pytest.mark.parametrize("f", [abs, lambda x: abs(x) + 1 + x, lambda x: max(x, 0.0) + 2 * x])
def test_at_a_kink_the_bound_holds_the_slopes_on_both_sides(way, f):
    found = asked(way, f, 0.0)
    for t in (2.0**-20, -(2.0**-20)):
        assert abs(found.value[0] - (f(t) - f(0.0)) / t) <= found.bound[0]
    assert found.bound[0] > 0.5


@pytest.mark.parametrize("way", [richardson.sharp, richardson.plain])
def test_at_a_jump_or_off_the_domain_nothing_is_known(way):
    assert asked(way, lambda x: np.sign(x) + x, 0.0).bound[0] > 100
    with np.errstate(all="ignore"):
        assert not np.isfinite(asked(way, lambda x: np.sqrt(x), 0.0).bound[0])


@pytest.mark.parametrize("way", [richardson.sharp, richardson.plain])
@pytest.mark.parametrize("power", [1 / 3, 1 / 2, 2 / 3])
def test_at_a_cusp_that_differences_hide_by_symmetry_little_is_known(way, power):
    found = asked(way, lambda x: np.sign(x) * abs(x) ** power, 0.0)
    assert found.bound[0] > 0.01 * abs(found.value[0])


def test_the_sharp_bound_holds_as_often_as_noise_lets_it():
    rng, beyond = np.random.default_rng(0), 0
    for _ in range(1000):
        w, x = rng.uniform(0.1, 10), rng.uniform(-5, 5)
        if abs(np.sin(w * x)) > 0.2:
            found = asked(richardson.sharp, lambda t, w=w: np.sin(w * t), x)
            beyond += abs(found.value[0] - w * np.cos(w * x)) > found.bound[0]
    assert beyond <= 2


@pytest.mark.parametrize("name", SMOOTH)
@given(x=st.floats(0.2, 3), y=st.floats(0.2, 3))
def test_a_line_like_another_is_known_by_what_that_one_showed(name, x, y):
    f, df = SMOOTH[name]
    first = asked(richardson.sharp, f, x)
    found = asked(partial(richardson.like, first), f, y)
    fifth = [abs(f(z + 0.1) - 4 * f(z + 0.05) + 6 * f(z) - 4 * f(z - 0.05) + f(z - 0.1)) for z in (x, y)]
    if fifth[1] < 16 * fifth[0]:
        assert abs(found.value[0] - df(y)) <= found.bound[0] + 4 * EPS * abs(df(y))


def test_a_kink_within_reach_of_three_steps_leaves_it_to_two():
    found = asked(richardson.sharp, lambda x: max(x - 2.0**-12, 0.0) + np.sin(x), 0.0)
    assert abs(found.value[0] - 1) <= found.bound[0] < 1e-9


def test_noise_widens_the_bound():
    rng = np.random.default_rng(0)
    found = asked(richardson.plain, lambda x: np.sin(x) + 1e-10 * rng.standard_normal(), 0.7)
    assert 1e-11 < found.noise[0] < 1e-9
    assert abs(found.value[0] - np.cos(0.7)) <= found.bound[0]
