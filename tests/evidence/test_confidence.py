import numpy as np
import pytest

from gradcheck.evidence.confidence import MIN_EQUAL, bound_mean, is_representative


@pytest.mark.parametrize("draw", [lambda rng, n: rng.standard_normal(n), lambda rng, n: rng.exponential(size=n) - 1])
def test_the_bound_holds_at_every_number_of_draws_at_once(draw):
    values = np.stack([draw(np.random.default_rng(seed), 4096) for seed in range(400)])
    ever = np.zeros(len(values), dtype=bool)
    for n in range(256, 4097, 64):
        ever |= np.abs(values[:, :n].mean(axis=1)) > bound_mean(values[:, :n], 0.05)
    assert ever.mean() < 0.05


def test_the_bound_shrinks_and_is_a_few_standard_errors_wide():
    values = np.resize([-1.0, 1.0], (1, 2**16))
    widths = [bound_mean(values[:, :n], 1e-6)[0] * np.sqrt(n) for n in (256, 1024, 2**16)]
    assert all(5 < width < 9 for width in widths)


def test_few_rare_events_are_not_enough():
    rare = np.zeros(1000)
    rare[:10] = 1
    assert not is_representative(rare)
    rare[:200] = 1
    assert is_representative(rare)


def test_equal_values_take_many_draws():
    assert not is_representative(np.full(MIN_EQUAL - 1, 0.3))
    assert is_representative(np.full(MIN_EQUAL, 0.3))
