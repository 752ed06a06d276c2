"""Derivatives that are right to single precision: a PASS with a remark, unless `rtol` asks for more."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import gradcheck
from gradcheck import Reason, Verdict

SINGLE = float(np.float32(0.2))
X = np.array([-1.3, 0.4, -0.2, 2.0])


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def claimed(slope):
    return lambda v, x: np.where(x > 0, v, slope * v)


def test_a_constant_in_single_precision_is_named():
    result = gradcheck.check(leaky, X, vjp=claimed(SINGLE))
    assert result.verdict is Verdict.PASS
    assert {c.reason for c in result.comparisons if c.method == "analytic"} == {Reason.SMALL_DIFFERENCE}
    (note,) = [note for note in result.notes if "single precision" in note]
    assert "analytic 0.200000003, numeric 0.2." in note
    assert "such as 0.1 or 0.2" in note


@pytest.mark.parametrize(("slope", "options"), [(SINGLE, {"rtol": 1e-9}), (0.2 * (1 + 4e-7), {})])
def test_more_than_rtol_fails(slope, options):
    assert gradcheck.check(leaky, X, vjp=claimed(slope), **options).verdict is Verdict.FAIL


def test_torch_functions_with_such_constants_pass():
    result = gradcheck.check(functional.hardsigmoid, torch.tensor([0.5, -0.7, 1.0, 4.0], dtype=torch.float64))
    assert result.verdict is Verdict.PASS
    assert any("1/3 or 1/6" in note for note in result.notes)


@pytest.mark.parametrize(("rtol", "verdict"), [(None, Verdict.FAIL), (1e-9, Verdict.FAIL), (1e-3, Verdict.PASS)])
def test_an_entry_below_the_rtol_of_a_user_counts_by_its_leaf(rtol, verdict):
    """A solver that stops at a tolerance claims exactly zero where the derivative is 2e-8 beside 1."""
    result = gradcheck.check(
        lambda x: np.array([np.sin(x[0]) + 2e-8 * x[1], x[1]]),
        np.array([0.3, 0.7]),
        jacobian=lambda x: np.array([[np.cos(x[0]), 0], [0, 1]]),
        rtol=rtol,
    )
    assert result.verdict is verdict, str(result)


def test_no_pass_states_a_resolution_coarser_than_a_hundredth():
    x = 1e-4 * torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    result = gradcheck.check(lambda v: -0.5 * (1 + v - v.exp()).sum(), x)
    assert result.verdict is Verdict.PASS
    assert all(not c.resolution > 1e-2 for c in result.comparisons)
