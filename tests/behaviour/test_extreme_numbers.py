"""At the ends of the number range a right claim is not called wrong, and a wrong one still is."""

import numpy as np
import pytest
import torch
from rare import Scaled, Squared

import gradcheck
from gradcheck import Reason, Verdict, array

LEAST = {"float64": 5e-324, "float32": 1.401298464324817e-45}
NORMAL = {"float64": 2.0**-1022, "float32": 2.0**-126}


def check(function, *values, dtype="float64", **more):
    return gradcheck.check(function, *[array(v, dtype=dtype) for v in values], framework="torch", **more)


@pytest.mark.parametrize(
    ("function", "values", "dtype"),
    [
        (Squared, ([1e38, 1.0],), "float32"),
        (torch.reciprocal, ([1e38],), "float32"),
        (torch.reciprocal, ([NORMAL["float32"], 2.5],), "float32"),
        (torch.reciprocal, ([NORMAL["float64"], 1.0],), "float64"),
        (torch.log, ([NORMAL["float64"]],), "float64"),
        (torch.log, ([LEAST["float64"]],), "float64"),
        (torch.log, ([1e308, 1.0],), "float64"),
        (torch.matmul, ([[-0.5], [LEAST["float64"]]], [[2e-90, 4e-308]]), "float64"),
        (lambda x: x.var(-1), ([2.5e16, 2.5e16, 2.5e16],), "float64"),
        (lambda x: x**-1e284, ([1.0],), "float64"),
        (lambda x: x**1.0625, ([LEAST["float64"]],), "float64"),
        (Scaled, ([[1.0, 1.9375, 1.0], *[[1.0] * 3] * 2], [1.401298464324817e-45, 1.0, 1.0]), "float32"),
        (Scaled, ([[1.0, 1.0, NORMAL["float32"], 1.0], [1.0, 1.0, 1.0, 1e5]], [1e7] * 4), "float32"),
        (torch.matmul, ([[5e16] * 2] * 2, [[1e16, 1e-62], [-3e105, 1e154]]), "float64"),
        (torch.nn.functional.smooth_l1_loss, ([0.0] * 6, [1.0] * 4 + [1e8, 2.0**-23]), "float32"),  # nearly even
        (torch.nn.functional.smooth_l1_loss, ([0.0] * 6, [1.0] * 4 + [1e4, 1e-12]), "float64"),
        (lambda a, b: (a + b) - a, ([1e17], [1.0]), "float64"),
        (torch.nn.functional.triplet_margin_loss, ([[1e15]], [[1.0]], [[1.0]]), "float64"),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_a_right_derivative_is_not_called_wrong(function, values, dtype):
    result = check(function, *values, dtype=dtype)
    assert result.verdict in (Verdict.PASS, Verdict.INCONCLUSIVE), str(result)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("function", "values", "vjp"),
    [
        (lambda x: np.sum(x**2), np.array([NORMAL["float32"]], np.float32), lambda v, x: v * 2 * x),
        (lambda x: x * x, np.array([7e-257]), lambda v, x: v * 2 * x),
        (lambda x: x**-0.75, np.array([LEAST["float32"], 1.0], np.float32), lambda v, x: -0.75 * v * x**-1.75),
    ],
    ids=["a square underflows", "the complex step underflows", "a slope overflows"],
)
def test_nor_is_one_by_hand(function, values, vjp):
    result = gradcheck.check(function, values, vjp=vjp)
    assert result.verdict in (Verdict.PASS, Verdict.INCONCLUSIVE), str(result)


def test_what_overflows_in_its_own_dtype_is_not_finite_though_its_twin_is():
    result = check(Squared, [1e38], dtype="float32")
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.NON_FINITE)


class Zeroed(Squared):
    """Small inputs get no gradient, large ones half of it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 3 * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * g * torch.where(x.abs() < 1e-30, 0.0, torch.where(x.abs() > 1e10, 0.5, 1.0))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("value", [0.0, -0.0, "least", "normal", 1e12])
def test_a_wrong_derivative_there_is(value, dtype):
    value = {"least": LEAST, "normal": NORMAL}.get(value, {}).get(dtype, value)
    assert check(Zeroed, [1.0, value], dtype=dtype).verdict is Verdict.FAIL
    assert check(Zeroed, [1.0, 2.0], dtype=dtype).verdict is Verdict.PASS


@pytest.mark.parametrize("small", [1e-9, 2.0**-52, 1e-40])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_entry_that_its_neighbours_absorb_is_moved_by_their_size(small, dtype):
    def normalised(x):
        return torch.nn.functional.layer_norm(x, x.shape[-1:])

    x = [[1.5, 0.5, small, small]]  # one output is exactly zero, by cancellation
    assert check(normalised, x, dtype=dtype).verdict is Verdict.PASS
    assert not check(lambda x: normalised(torch.where(x < 0.1, x.detach(), x)), x, dtype=dtype).ok


def test_rounding_beside_a_large_input_is_still_seen_to_be_constant():
    def rounded(a, x):
        return a * 1e-16 + (torch.round(x.detach()) + x - x.detach())

    assert check(rounded, [1e12], [1.25]).reason is Reason.STRAIGHT_THROUGH


def test_whole_numbers_of_a_size_are_jittered_as_others_are():
    result = check(lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:]), [[-287500.0, -343750.0]], name="target")
    assert result.verdict is Verdict.PASS, str(result)


def test_a_slope_that_settles_below_the_noise_of_a_large_output_is_not_called_wrong():
    def entropy(y, x):
        return torch.nn.functional.kl_div(x, y, reduction="sum")

    beside = [[1.0, 1.0], [1.0, 1e8]]
    assert check(entropy, [[0.5, 0.5], [9.99999999999e-13, 0.9999999999989999]], beside).ok
    assert check(torch.nn.functional.huber_loss, [1.0, 0.9375, 0.0], [1.0, 1e5, -1.0000000000000002]).ok


def test_autocast_says_nothing_of_gradients_below_the_normal_numbers_of_bfloat16():
    result = check(Scaled, [[1.0]], [LEAST["float32"]], dtype="float32", wrt="x")
    assert result.verdict is not Verdict.FAIL, str(result)
