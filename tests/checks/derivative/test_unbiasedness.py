"""expect="unbiased": the mean of the claims over draws is compared with the derivative of the mean."""

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict, array
from gradcheck.checks.derivative import unbiasedness
from gradcheck.errors import InputError, UsageError

SAMPLES = 64  # averaged inside each function, so that few draws decide


def check(fn, *inputs, **options):
    given = {"expect": "unbiased", "because": "a stochastic gradient", "budget": 60, "contracts": False, "rtol": 0.3}
    return gradcheck.check(fn, *inputs, **{**given, **options})


class Coins:
    """A mean cost of coins that fall with a probability of sigmoid(x), and estimates of its gradient."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def sample(self, x):
        p = 1 / (1 + np.exp(-x))
        coins = self.rng.uniform(size=(SAMPLES, x.size)) < p
        return p, coins, np.sum((coins - 0.2) ** 2, axis=1)

    def cost(self, x):
        return np.mean(self.sample(x)[2])

    def score(self, x):
        p, coins, costs = self.sample(x)
        return np.mean((costs[:, None] - 0.4) * (coins - p), axis=0)

    def leaky_baseline(self, x):
        p, coins, costs = self.sample(x)
        return np.mean((costs - costs * 0.5)[:, None] * (coins - p), axis=0)

    def straight_through(self, x):
        p, coins, _ = self.sample(x)
        return np.mean(2 * (coins - 0.2) * p * (1 - p), axis=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_score_function_estimator_is_unbiased_and_a_draw_of_it_is_not_the_derivative(seed):
    coins = Coins(seed)
    result = check(coins.cost, array([0.3, -0.4]), gradient=coins.score)
    assert (result.verdict, result.reason.code, result.ok) == (Verdict.PASS, "unbiased", True)
    assert 0 < result.resolution <= 0.3
    assert result.mode == "draws"
    assert "expected: a stochastic gradient" in str(result)
    assert gradcheck.check(coins.cost, array([0.3, -0.4]), gradient=coins.score).verdict is not Verdict.PASS


@pytest.mark.parametrize("kind", ["leaky_baseline", "straight_through"])
def test_a_bias_fails_with_its_size_and_the_draws(kind):
    coins = Coins()
    result = check(coins.cost, array([0.3, -0.4]), gradient=getattr(coins, kind), rtol=None)
    assert (result.verdict, result.reason.code) == (Verdict.FAIL, "biased")
    (row,) = result.comparisons
    assert row.abs_err > row.bound
    assert any("draws: " in note and "bias" in note for note in result.notes)


def rounded(scale, offset=0.0):
    rng = np.random.default_rng(0)

    def fn(x):
        return np.mean(np.floor(x + offset * x + rng.uniform(size=(SAMPLES, 3))))

    return fn, lambda x: np.full(3, scale / 3)


def test_stochastic_rounding_is_unbiased_and_a_slope_of_a_wrong_size_is_not():
    fn, gradient = rounded(1.0)
    assert check(fn, array([0.3, 1.2, -0.7]), gradient=gradient).reason.code == "unbiased"
    fn, gradient = rounded(1.0, offset=1.0)
    assert check(fn, array([0.3, 1.2, -0.7]), gradient=gradient).reason.code == "biased"


def dropout(x):
    return (torch.nn.functional.dropout(x, 0.5) ** 2).sum()


def hard_gumbel(x):
    sample = torch.nn.functional.gumbel_softmax(x.expand(SAMPLES, 3), hard=True)
    return (sample * torch.tensor([1.0, 2.0, 4.0], dtype=x.dtype)).sum(1).square().mean()


def test_gradients_that_are_right_at_every_draw_are_unbiased_and_known_sharply():
    result = check(dropout, array([0.5, -1.0, 2.0]), framework="torch", rtol=None)
    assert result.reason.code == "unbiased"
    assert result.resolution < 1e-9


def test_a_straight_through_gumbel_softmax_is_biased():
    assert check(hard_gumbel, array([0.5, -0.2, 0.4]), framework="torch", rtol=None).reason.code == "biased"


def test_too_few_draws_are_inconclusive_with_how_many_more(monkeypatch):
    monkeypatch.setattr(unbiasedness, "JUDGED_AFTER", [64])
    coins = Coins()
    result = check(coins.cost, array([0.3, -0.4]), gradient=coins.score, rtol=0.001)
    assert (result.verdict, result.reason.code) == (Verdict.INCONCLUSIVE, "few-draws")
    assert any("more draws would decide: raise --budget" in note for note in result.notes)


def test_the_draws_follow_from_the_seed_and_are_left_as_they_were():
    coins = Coins(3)
    before = coins.rng.bit_generator.state
    notes = [check(coins.cost, array([0.3, -0.4]), gradient=coins.score).notes for _ in range(2)]
    assert notes[0] == notes[1]
    assert coins.rng.bit_generator.state == before


def test_bad_uses_are_refused():
    with pytest.raises(InputError, match="draws nothing"):
        check(lambda x: np.sum(x**2), array([1.0]), gradient=lambda x: 2 * x)
    with pytest.raises(InputError, match="order=2"):
        check(dropout, array([1.0]), framework="torch", order=2)
    with pytest.raises(UsageError, match="'unbiased'"):
        check(dropout, array([1.0]), expect="fair")
