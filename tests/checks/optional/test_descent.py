import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict, normal


def table_of(fn, *inputs, **arguments):
    return gradcheck.check(fn, *inputs, checks=("descent",), **arguments).checks[0]


def bowl(x):
    return ((x - 1) ** 2).sum()


def at(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def up_to(table):
    return float(re.search(r"learning rates up to ([^,;]+)", table.conclusion)[1])


def test_the_measured_change_over_the_predicted_tends_to_1():
    table = table_of(lambda x: torch.exp(x).sum(), normal(4), framework="torch")
    ratios = [row.values[2] for row in table.rows if not row.remark]
    assert table.verdict is Verdict.PASS
    assert ratios[-1] == pytest.approx(1, abs=1e-6)
    assert all(abs(b - 1) <= abs(a - 1) + 1e-6 for a, b in pairwise(ratios))


@pytest.mark.parametrize("curvature", [0.1, 1.0, 50.0])
def test_a_parabola_falls_up_to_twice_the_inverse_of_its_curvature(curvature):
    table = table_of(lambda x: 0.5 * curvature * (x**2).sum(), at(1.0, -2.0))
    assert up_to(table) == pytest.approx(2 / curvature, rel=1e-6)


@pytest.mark.parametrize(("factor", "ratio"), [(2.0, 0.5), (0.5, 2.0), (-1.0, -1.0)])
def test_a_wrong_gradient_predicts_another_change(factor, ratio):
    table = table_of(bowl, at(0.0, 2.5), gradient=lambda x: factor * 2 * (x - 1))
    assert table.verdict is Verdict.FAIL
    assert table.rows[-1].values[2] == pytest.approx(ratio, rel=1e-4)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.AdamW])
def test_an_optimiser_of_torch_takes_its_own_step(optimizer):
    table = table_of(bowl, at(0.0, 2.5), optimizer=optimizer)
    assert table.verdict is Verdict.PASS
    assert table.rows[-1].values[2] == pytest.approx(1, abs=1e-4)


def test_an_optimiser_of_torch_also_steps_numpy_arrays():
    table = table_of(lambda x: np.sum((x - 1) ** 2), np.array([0.0, 2.5]), optimizer=torch.optim.SGD)
    assert up_to(table) == pytest.approx(1.0, rel=1e-6)


def test_an_optimiser_of_the_users_own_gets_a_tuple_of_several_leaves():
    def step(parameters, gradients, rate):
        return tuple(p - rate * g for p, g in zip(parameters, gradients, strict=True))

    table = table_of(lambda x, y: (x**2).sum() + (x[0] - y) ** 2, at(1.0, 2.0), at(3.0)[0], optimizer=step)
    assert table.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda t, g, rate: t + rate * g, Reason.UPHILL),
        (lambda t, g, rate: t - 0.1 * g, Reason.NO_FIRST_ORDER),
        (lambda t, g, rate: t - math.sqrt(rate) * g, Reason.NO_FIRST_ORDER),
    ],
)
def test_a_wrong_optimiser_is_named(step, reason):
    table = table_of(bowl, at(0.0, 2.5), optimizer=step)
    assert (table.verdict, table.reason) == (Verdict.FAIL, reason)


@pytest.mark.parametrize(
    ("step", "message"),
    [(lambda t, g, rate: 3.0, "expected the new parameters"), (lambda t, g, rate: 1 / 0, "the optimizer raised")],
)
def test_an_optimiser_that_breaks_is_an_error_with_a_message(step, message):
    result = gradcheck.check(bowl, at(0.0, 2.5), checks=("descent",), optimizer=step)
    assert result.verdict is Verdict.ERROR
    assert message in result.checks[0].conclusion
    assert result.comparisons


def test_several_outputs_have_no_descent():
    table = table_of(torch.sin, normal(4))
    assert (table.verdict, table.reason) == (Verdict.INCONCLUSIVE, Reason.NOT_SCALAR)
    assert "shape (4,)" in table.conclusion
    assert gradcheck.check(torch.sin, normal(4), checks=("descent",)).ok


def test_at_a_stationary_point_there_is_no_step():
    table = table_of(bowl, at(1.0, 1.0))
    assert (table.verdict, table.reason) == (Verdict.PASS, Reason.BOTH_ZERO)
    assert not table.rows


def test_a_jump_is_reported():
    table = table_of(lambda x: (x**2).sum() + 10.0 * (x.sum() < 0), at(1.0, 2.0))
    assert up_to(table) == pytest.approx(0.5, rel=1e-6)
    assert "jumps by 10" in table.conclusion


def test_learning_rates_that_diverge_are_shown_as_not_finite():
    table = table_of(lambda x: torch.log(x).sum(), at(0.5, 1.0))
    assert "not finite" in {row.remark for row in table.rows}
    assert "beyond which it is not finite" in table.conclusion


def test_a_line_without_bottom_falls_at_every_rate():
    assert "falls at every learning rate tried" in table_of(lambda x: x.sum(), at(1.0, 2.0)).conclusion


def test_the_descent_is_not_decided_at_a_kink():
    assert table_of(lambda x: torch.abs(x).sum() + x.sum(), at(0.0, 1.0)).reason is Reason.KINK_SUBGRADIENT
