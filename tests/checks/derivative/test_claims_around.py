"""Claims at ties: compared with the claims around them, alone and in sums with other ties and kinks."""

import numpy as np
import pytest
import torch
from elementwise import with_backward

import gradcheck
from gradcheck import Verdict
from gradcheck.checks.derivative.claims_around import find_weights

MODES = ("full", "probe")


def quantised(count, seed, levels=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, levels, (count,), generator=generator).double() / 2


def ranks(x):
    return torch.arange(1.0, x.numel() + 1, dtype=x.dtype)


def pick(share, index=torch.argmax):
    """Return a maximum whose gradient goes to one of the largest entries, times `share`."""
    return with_backward(lambda x: x.max(), lambda g, x: torch.zeros_like(x).scatter_(0, index(x)[None], share) * g)


def spread(share):
    """Return a maximum whose gradient gives each of the largest entries the same, `share` in all."""
    return with_backward(lambda x: x.max(), lambda g, x: share * g * (x == x.max()).double() / (x == x.max()).sum())


def gradient_of_quantile(x, p):
    order, place = np.argsort(x, kind="stable"), p * (x.size - 1)
    low, weight = int(place), place % 1
    gradient = np.zeros(x.size)
    gradient[order[low]] += 1 - weight
    gradient[order[min(low + 1, x.size - 1)]] += weight
    return gradient


@pytest.mark.parametrize(("p", "mode"), [(0.3, "probe"), (0.5, "full")])
def test_the_quantile_of_quantised_numbers_is_right(mode, p):
    x = quantised(30, 1)
    by_torch = gradcheck.check(lambda x: torch.quantile(x, p), x, mode=mode, contracts=False)
    assert by_torch.verdict is Verdict.PASS, str(by_torch)
    by_hand = gradcheck.check(
        lambda x: np.quantile(x, p), x.numpy(), gradient=lambda x: gradient_of_quantile(x, p), mode=mode, contracts=False
    )
    assert by_hand.comparisons[0].verdict is Verdict.PASS, str(by_hand)
    double = gradcheck.check(
        lambda x: np.quantile(x, p), x.numpy(), gradient=lambda x: 2 * gradient_of_quantile(x, p), mode=mode, contracts=False
    )
    assert double.verdict is Verdict.FAIL, str(double)


RIGHT = {
    "median": torch.median,
    "two largest": lambda x: torch.topk(x, 2).values @ torch.tensor([1.0, 3.0], dtype=x.dtype),
    "clamp of zeros and ones": lambda x: (x.clamp(0, 1) * ranks(x)).sum(),
    "sorted, weighted": lambda x: (torch.sort(x).values * ranks(x)).sum(),
    "maximum and sorted": lambda x: torch.cat([pick(1.0)(x)[None], torch.sort(x).values]),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_at_many_ties_passes(mode, name):
    result = gradcheck.check(RIGHT[name], quantised(30, 1), mode=mode, contracts=False)
    assert result.verdict is Verdict.PASS, str(result)


HALF = {"one": pick(0.5), "each": spread(0.5)}
BESIDE = {
    "middle": lambda x: torch.sort(x).values[x.numel() // 2],
    "sum": lambda x: torch.sort(x).values.sum(),
    "weighted": lambda x: (torch.sort(x).values * ranks(x)).sum(),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("beside", BESIDE)
def test_half_of_a_maximum_does_not_pass_beside_a_sort(mode, half, beside):
    function = HALF[half]
    result = gradcheck.check(lambda x: function(x) + BESIDE[beside](x), quantised(30, 1), mode=mode, contracts=False)
    assert result.verdict is not Verdict.PASS, str(result)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("share", [0.5, 2.0])
def test_a_wrong_share_of_a_maximum_is_wrong_beside_a_relu(mode, share):
    x = quantised(30, 1)
    result = gradcheck.check(lambda x: pick(share)(x) + torch.relu(x - 1).sum(), x, mode=mode, contracts=False)
    assert result.verdict is Verdict.FAIL, str(result)
    every = with_backward(lambda x: x.max(), lambda g, x: g * (x == x.max()))
    result = gradcheck.check(lambda x: every(x) + torch.relu(x - 1).sum(), x, mode=mode, contracts=False)
    assert result.verdict is Verdict.FAIL, str(result)


def test_the_hull_of_some_corners():
    corners = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    inside = find_weights(corners, np.array([0.5, 1.0]))
    np.testing.assert_allclose(inside, [0.25, 0.25, 0.5], atol=1e-12)
    outside = find_weights(corners, np.array([3.0, 3.0]))
    assert np.all(outside >= 0)
    assert np.linalg.norm(outside @ corners - 3.0) > 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", [1.02, 1.5])
def test_a_gradient_that_is_wrong_at_one_point_of_a_steep_function_is_no_tie(mode, error):
    """The derivative of 1 / (x - 0.999) changes by 3 % on the way from the claims around, and does not jump."""

    def backward(g, x):
        return -g * torch.where(x == 1, error, 1.0) / (x - 0.999) ** 2

    steep = with_backward(lambda x: 1 / (x - 0.999), backward)
    x = torch.tensor([1.0, 1.0, 1.001, 0.998], dtype=torch.float64)
    result = gradcheck.check(steep, x, mode=mode, contracts=False)
    assert result.verdict is Verdict.FAIL, str(result)


def test_two_methods_may_choose_other_entries_of_a_tie_in_probe_mode():
    """The claim passes near the kink in smaller blocks, and the row still says that there is a kink."""

    def gradient(x):
        return np.eye(x.size)[x.argmax()] - np.eye(x.size)[x.argmin()]

    x = np.array([0.5, 1.5, 0, 0, 1.5, 0.5, 1.5, 0.5, 1.5])
    for seed in range(3):
        result = gradcheck.check(np.ptp, x, gradient=gradient, mode="probe", seed=seed, contracts=False)
        assert result.verdict is Verdict.PASS, str(result)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_forward_mode_is_confirmed_by_reverse_mode_at_a_kink_in_half_precision(dtype):
    x = torch.tensor([0.0, 1.0, -1.0, 0.5], dtype=dtype)
    right = gradcheck.check(torch.relu, x, mode="probe", contracts=False)
    assert right.verdict is Verdict.PASS, str(right)
    wrong = with_backward(torch.relu, lambda g, x: g * torch.where(x == 0, 3.0, (x > 0).to(x.dtype)))
    assert gradcheck.check(wrong, x, mode="probe", contracts=False).verdict is Verdict.FAIL


def extremes(share_of_max, share_of_min):
    def gradient(x):
        return share_of_max * np.eye(x.size)[x.argmax()] + share_of_min * np.eye(x.size)[x.argmin()]

    return gradient


@pytest.mark.parametrize(
    ("shares", "verdict"), [((1, 1), Verdict.INCONCLUSIVE), ((2, 1), Verdict.FAIL), ((1, 0), Verdict.FAIL)]
)
def test_two_functions_of_one_tie_may_choose_the_same_entry(shares, verdict):
    """`max + min` of two equal numbers is smooth, and both parts of the gradient go to the first one."""
    result = gradcheck.check(lambda x: x.max() + x.min(), np.full(2, 2.0), gradient=extremes(*shares), contracts=False)
    assert result.comparisons[0].verdict is verdict, str(result)


@pytest.mark.parametrize("weights", [(1, 2, 3, 1), (5, 3, 2, 1), (0, 0, 10, 0.1)])
@pytest.mark.parametrize(("share", "verdict"), [(1.0, Verdict.INCONCLUSIVE), (1.01, Verdict.FAIL)])
def test_a_maximum_beside_a_sort_that_weighs_ties_the_other_way(weights, share, verdict):
    """The largest counts less in the sum than the second. Each part of the claim is right, and their sum outside the hull."""
    weights = torch.tensor(weights, dtype=torch.float64)
    x = torch.tensor([1.0, 2.0, 2.0, 0.5], dtype=torch.float64)
    function = pick(share)
    result = gradcheck.check(lambda x: weights @ x.sort().values + 10 * function(x), x, contracts=False)
    assert result.verdict is verdict, str(result)
