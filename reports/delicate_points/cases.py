"""Cases at points where derivatives are delicate: `gradcheck run reports/delicate_points/cases.py` runs README's table."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch.nn import functional

from gradcheck import array, case, normal

NEAR = 1e-9


@case(x=array([0.0, 1.0, -1.0]))
def relu_at_its_kink(x: Any) -> Any:
    """Apply relu to a zero, as padding leaves them."""
    return torch.relu(x)


@case(x=array([NEAR, -NEAR, 1.0]))
def relu_near_its_kink(x: Any) -> Any:
    """Apply relu a billionth to either side of zero."""
    return torch.relu(x)


@case(x=array([0.0, 2.0]))
def abs_at_its_kink(x: Any) -> Any:
    """Apply abs to zero, where PyTorch's convention for the derivative is 0."""
    return torch.abs(x)


@case(x=array([1.0, 1.0, 0.5]))
def amax_at_a_tie(x: Any) -> Any:
    """Take a maximum at a tie, where PyTorch shares the gradient out among the largest."""
    return torch.amax(x)


@case(x=array([1.0, 1.0 + NEAR, 0.5]))
def amax_near_a_tie(x: Any) -> Any:
    """Take a maximum of two numbers that differ by a billionth."""
    return torch.amax(x)


@case(x=array([1.0, 1.0, 0.5]))
def sort_at_a_tie(x: Any) -> Any:
    """Sort two equal numbers, either of which may be called the smaller."""
    return torch.sort(x).values


@case(x=array([1.0, 1.0, 1.0]))
def median_at_a_tie_of_three(x: Any) -> Any:
    """Take the median of three equal numbers, which no single input moves, whatever PyTorch's derivative says."""
    return torch.median(x)


@case(x=array([1e-12, 1.0]))
def sqrt_near_0(x: Any) -> Any:
    """Take a square root that is steep, but smooth at the scale of the input."""
    return torch.sqrt(x)


@case(x=array([0.0]))
def sqrt_at_0(x: Any) -> Any:
    """Take the square root of 0, whose derivative is infinite, as PyTorch says."""
    return torch.sqrt(x)


@case(x=array([0.0, 1.0]))
def sqrt_at_0_beside_others(x: Any) -> Any:
    """Take square roots of 0 and 1: PyTorch multiplies the infinite derivative by the other output's 0, which gives NaN."""
    return torch.sqrt(x)


@case(x=array([1e-12, 1.0]))
def log_near_0(x: Any) -> Any:
    """Take a logarithm where its slope is 1e12."""
    return torch.log(x)


@case(x=array([0.0, 1.0]))
def log_at_0(x: Any) -> Any:
    """Take the logarithm of 0, which is -inf."""
    return torch.log(x)


@case(x=normal(20))
def dropout(x: Any) -> Any:
    """Drop out entries; the random state is replayed, so that the mask is the same every time."""
    return functional.dropout(x, 0.5, training=True)


@case(x=normal(6, 3))
def batch_norm_in_training(x: Any) -> Any:
    """Normalise a batch with running statistics that are no input."""
    return functional.batch_norm(x, x.new_zeros(3), x.new_ones(3), training=True)


@case(x=normal(5))
def float32_inside(x: Any) -> Any:
    """Compute in float32 from float64 inputs: the report names it, and its resolution is that of float32."""
    return torch.tanh(x.float()).double()


def decay_gradient(x: Any) -> Any:
    """Compute the derivative of the exact solution x exp(-1)."""
    return np.exp(-1.0) * np.ones_like(x)


@case(x=array([1.0, 2.0]), jacobian=lambda x: np.diag(decay_gradient(x)), framework="numpy", options={"rtol": 1e-4})
def ode_to_1e_6(x: Any) -> Any:
    """Solve dy/dt = -y to a tolerance of 1e-6; the derivative is that of the exact solution, checked to 1e-4."""
    return solve_ivp(lambda _, y: -y, (0.0, 1.0), x, rtol=1e-6, atol=1e-9).y[:, -1]


@case(x=array([0.3, 1.2]))
def round_to_integers(x: Any) -> Any:
    """Round, which is constant around the inputs; PyTorch's derivative is 0."""
    return torch.round(x)


class Quantise(torch.autograd.Function):
    """Rounding that hands the gradient on: a straight-through estimator."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        """Round to the nearest integer."""
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        """Hand the gradient on, as if nothing had been rounded."""
        return g


@case(x=array([0.3, 1.2]), framework="torch", expect="fail", because="a straight-through estimator, not declared")
def straight_through(x: Any) -> Any:
    """Round with a claimed derivative that is not zero."""
    return Quantise.apply(x)


@case(x=array([0.3, 1.2]), framework="torch", options={"straight_through": True})
def straight_through_declared(x: Any) -> Any:
    """Round with a straight-through estimator that is declared."""
    return Quantise.apply(x)
