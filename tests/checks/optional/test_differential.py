import math

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict, normal


def table_of(fn, *inputs, **arguments):
    result = gradcheck.check(fn, *inputs, checks=("differential",), **arguments)
    return next(t for t in result.checks if t.check == "differential")


def column(table, k):
    return [row.values[k] for row in table.rows if not row.remark and not math.isnan(row.values[k])]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("fn", [torch.exp, torch.tanh, lambda x: (x**3).sum(), lambda x: x @ torch.sin(x)])
def test_the_remainder_of_a_right_claim_falls_with_slope_2_and_its_odd_form_with_3(fn, dtype):
    table = table_of(fn, normal(5), framework="torch", dtype=dtype)
    assert table.verdict is Verdict.PASS
    assert column(table, 1)[-1] == pytest.approx(2, abs=0.1)
    assert column(table, 3)[0] == pytest.approx(3, abs=0.2)
    assert "slope 2.0" in table.conclusion


FAULTS = {
    "factor 2": lambda g: 2 * g,
    "sign": lambda g: -g,
    "zero": lambda g: 0 * g,
    "one entry": lambda g: g * np.array([1, 1, 1, 1 + 1e-4]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_remainder_of_a_wrong_claim_falls_no_faster_than_the_step(fault):
    table = table_of(lambda x: np.sum(np.exp(x)), normal(4), gradient=lambda x: FAULTS[fault](np.exp(x)), framework="numpy")
    assert table.verdict is Verdict.FAIL
    assert table.reason is Reason.DISAGREES
    assert column(table, 1)[-1] == pytest.approx(1, abs=0.1)
    assert "no faster than the step" in table.conclusion
    assert "is not the differential" in table.conclusion


def test_an_error_too_small_for_the_slope_to_show_is_caught_all_the_same():
    table = table_of(lambda x: np.sum(np.exp(x)), normal(4), gradient=lambda x: (1 + 2e-7) * np.exp(x), framework="numpy")
    assert table.verdict is Verdict.FAIL
    assert "no faster than the step" not in table.conclusion


def test_a_linear_function_leaves_no_remainder():
    table = table_of(lambda x: 3 * x.sum(), normal(5), framework="torch")
    assert table.verdict is Verdict.PASS
    assert "linear along this line" in table.conclusion


def test_a_kink_has_no_differential_though_it_has_subgradients():
    table = table_of(torch.abs, torch.zeros(1, dtype=torch.float64))
    assert (table.verdict, table.reason) == (Verdict.INCONCLUSIVE, Reason.KINK_SUBGRADIENT)
    assert "slope 1.00" in table.conclusion


def test_near_the_border_of_the_domain_steps_beyond_it_are_left_out():
    table = table_of(lambda x: torch.log(x).sum(), torch.tensor([1e-3, 1.0], dtype=torch.float64))
    assert table.verdict is Verdict.PASS


def test_it_moves_every_leaf_at_once():
    model = torch.nn.Linear(3, 2)
    result = gradcheck.check(model, normal(4, 3), checks=("differential",))
    assert result.ok
    assert len(result.checks) == 1


def test_a_wrong_leaf_lowers_the_verdict_of_the_case():
    result = gradcheck.check(
        lambda x, w: np.sum(x * w),
        normal(3),
        normal(3),
        gradient=lambda x, w: (w, -x),
        framework="numpy",
        checks=("differential",),
    )
    assert result.checks[0].verdict is Verdict.FAIL
    assert result.verdict is Verdict.FAIL
