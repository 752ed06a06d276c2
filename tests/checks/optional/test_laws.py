import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import InputError, Reason, Verdict, normal


def table_of(fn, *inputs, **arguments):
    return gradcheck.check(fn, *inputs, checks=("laws",), **arguments).checks[0]


def remarks(table):
    return {row.label: row.remark for row in table.rows}


LAWS = {"linearity", "product rule", "chain rule", "vjp is linear", "adjoint test"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("fn", [torch.tanh, lambda x: torch.softmax(x, -1), lambda x: (x @ x.T).sum()])
def test_right_claims_keep_every_law_to_rounding(fn, dtype):
    table = table_of(fn, normal(4, 3), framework="torch", dtype=dtype)
    assert table.verdict is Verdict.PASS
    assert set(remarks(table)) == LAWS
    assert max(row.values[2] for row in table.rows) < (1e-12 if dtype == "float64" else 1e-4)


class Squared(torch.autograd.Function):
    """Right, as long as it is called once."""

    @staticmethod
    def forward(ctx, x):
        Squared.saved = x.detach()
        return x**2

    @staticmethod
    def backward(ctx, g):
        return 2 * Squared.saved * g


class Total(torch.autograd.Function):
    """Right for the cotangent 1 only."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x**2).sum()

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0]


def test_a_backward_that_remembers_only_its_last_call_breaks_the_product_rule():
    table = table_of(Squared, normal(4))
    assert (table.verdict, table.reason) == (Verdict.FAIL, Reason.LAW_BROKEN)
    assert remarks(table)["product rule"] == "FAIL"
    assert "product rule" in table.conclusion


def test_a_backward_that_ignores_its_cotangent_is_not_linear():
    assert remarks(table_of(Total, normal(4)))["vjp is linear"] == "FAIL"


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.0, 1 + 1e-6])
def test_a_wrong_derivative_by_hand_breaks_the_rules(factor):
    table = table_of(np.sin, normal(4), vjp=lambda v, x: factor * v * np.cos(x))
    assert {"linearity", "product rule", "chain rule", "adjoint test"} <= {k for k, v in remarks(table).items() if v == "FAIL"}


def test_code_that_cannot_be_traced_is_combined_by_the_complex_step():
    def f(x):
        return np.sum(x * np.vectorize(lambda t: t * t)(x))

    table = table_of(f, normal(4), gradient=lambda x: 3 * x**2, framework="numpy")
    assert table.verdict is Verdict.PASS
    assert set(remarks(table).values()) == {""}


def test_code_that_can_be_neither_traced_nor_made_complex_is_reported():
    def f(x):
        return float(np.sum(np.vectorize(float)(x) ** 2))

    table = table_of(f, normal(4), gradient=lambda x: 2 * x, framework="numpy")
    assert (table.verdict, table.reason) == (Verdict.INCONCLUSIVE, Reason.NOTHING_CLAIMED)
    assert "not available" in table.conclusion


def test_a_derivative_that_the_check_has_set_aside_breaks_no_law():
    def f(x):
        return np.sum(np.abs(x)) + float(np.sum(x[:1] ** 2))

    table = table_of(f, normal(4), gradient=lambda x: np.sign(x) + 2 * x * np.eye(4)[0], framework="numpy")
    assert table.verdict is not Verdict.FAIL


def test_a_random_partner_is_replayed():
    table = table_of(torch.tanh, normal(6), partners=(torch.nn.Dropout(0.5),))
    assert table.verdict is Verdict.PASS


def test_a_partner_in_training_is_left_as_it_was():
    norm = torch.nn.BatchNorm1d(3).double()
    table_of(torch.tanh, normal(6, 3), partners=(norm,))
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(3).double())


def test_laws_with_a_coarse_bound_are_not_counted():
    table = table_of(torch.tanh, torch.randn(6, generator=torch.manual_seed(0)).to(torch.bfloat16))
    assert any(row.remark == "too coarse to tell" for row in table.rows) or table.verdict is not Verdict.PASS


def cubed_gradient(x):
    return 3 * x**2


@gradcheck.case(x=normal(3), gradient=cubed_gradient)
def cubed(x):
    return np.sum(x**3)


@gradcheck.case(x=normal(3), gradient=lambda x: 2 * x**2)
def cubed_wrongly(x):
    return np.sum(x**3)


def test_two_functions_of_the_users_keep_the_laws_together():
    table = table_of(lambda x: np.sum(np.exp(x)), normal(3), gradient=np.exp, framework="numpy", partners=(cubed,))
    assert table.verdict is Verdict.PASS
    assert "product rule with cubed" in remarks(table)


def test_a_partner_declared_with_a_wrong_derivative_breaks_them():
    table = table_of(lambda x: np.sum(np.exp(x)), normal(3), gradient=np.exp, framework="numpy", partners=(cubed_wrongly,))
    assert remarks(table)["product rule with cubed_wrongly"] == "FAIL"
    assert remarks(table)["chain rule"] == ""


def test_a_partner_of_a_module_takes_its_inputs_and_leaves_its_parameters_alone():
    table = table_of(torch.nn.Linear(3, 3), normal(2, 3), partners=(torch.tanh,))
    assert table.verdict is Verdict.PASS


def test_a_partner_with_another_output_shape_is_a_usage_error():
    with pytest.raises(InputError, match="expected those of the target's outputs"):
        table_of(torch.sin, normal(3), partners=(lambda x: x.sum(),))


def test_only_the_linear_laws_are_checked_for_complex_outputs():
    table = table_of(lambda x: x * x.conj() + x, normal(3, dtype="complex128"), framework="torch")
    assert table.verdict is Verdict.PASS
    assert "product rule" not in remarks(table)


def test_a_constant_keeps_every_law():
    assert table_of(lambda x: 0 * x + 3, normal(3), framework="torch").verdict is Verdict.PASS


def test_a_function_that_is_undefined_at_other_inputs_is_its_own_partner_at_the_inputs():
    x = torch.tensor([1.1, 1.5], dtype=torch.float64)
    assert table_of(lambda x: torch.sqrt(x - 1), x).verdict is Verdict.PASS
