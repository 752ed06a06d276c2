import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gradcheck.evidence import directions

EPS64, EPS32 = 2.0**-52, 2.0**-23
values = arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e12, 1e12, allow_subnormal=False))


def displaced_exactly(x, u, t, dtype):
    """Whether x + t u is exact wherever the entry does not grow past a power of two."""
    moved = (x + t * u).astype(dtype).astype(np.float64)
    grown = np.frexp(moved)[1] > np.frexp(x)[1]
    return np.all((moved - x == t * u) | grown) and np.all(
        np.abs(moved - x - t * u) <= np.spacing(np.abs(moved).astype(dtype)) / 2
    )


@given(x=values, seed=st.integers(0, 99), power=st.integers(2, 40))
@settings(deadline=None, derandomize=True)
def test_every_step_of_the_ladder_displaces_the_primal_exactly(x, seed, power):
    u = directions.draw_dense(np.random.default_rng(seed), x, EPS64)
    assert all(displaced_exactly(x, u, t, np.float64) for t in (2.0**-power, -(2.0**-power)))


@given(
    x=arrays(np.float32, st.integers(1, 20), elements=st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)),
    seed=st.integers(0, 99),
)
@settings(deadline=None, derandomize=True)
def test_steps_displace_a_float32_primal_exactly(x, seed):
    wide = x.astype(np.float64)
    u = directions.draw_dense(np.random.default_rng(seed), wide, EPS32)
    assert all(displaced_exactly(wide, u, t, np.float32) for t in (directions.finest_step(EPS32), 2.0**-8, 0.25))


@given(values)
@settings(deadline=None, derandomize=True)
def test_the_scale_of_a_leaf_is_its_root_mean_square_or_one(x):
    expected = np.sqrt(np.mean(x**2))
    assert directions.compute_leaf_scale(x) == (pytest.approx(expected, rel=1e-12) if np.any(x) else 1.0)


def test_the_scale_of_huge_numbers_does_not_overflow():
    assert directions.compute_leaf_scale(np.array([3e300, 4e300])) == pytest.approx(np.sqrt(12.5) * 1e300)


def test_a_sparse_tangent_moves_about_the_square_root_of_the_entries():
    assert np.count_nonzero(directions.draw_sparse(np.random.default_rng(0), np.ones(10_000), EPS64)) == 100
