"""What to expect where derivatives are delicate: `gradcheck run reports/expect.py` runs the cases of README's table."""

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
    """A zero among the inputs, as padding leaves them."""
    return torch.relu(x)


@case(x=array([NEAR, -NEAR, 1.0]))
def relu_near_its_kink(x: Any) -> Any:
    """A billionth to either side."""
    return torch.relu(x)


@case(x=array([0.0, 2.0]))
def abs_at_its_kink(x: Any) -> Any:
    """PyTorch's convention there is 0."""
    return torch.abs(x)


@case(x=array([1.0, 1.0, 0.5]))
def amax_at_a_tie(x: Any) -> Any:
    """PyTorch shares the gradient out among the largest."""
    return torch.amax(x)


@case(x=array([1.0, 1.0 + NEAR, 0.5]))
def amax_near_a_tie(x: Any) -> Any:
    """One of them is larger by a billionth."""
    return torch.amax(x)


@case(x=array([1.0, 1.0, 0.5]))
def sort_at_a_tie(x: Any) -> Any:
    """Either may be called the smaller."""
    return torch.sort(x).values


@case(x=array([1.0, 1.0, 1.0]))
def median_at_a_tie_of_three(x: Any) -> Any:
    """No input by itself moves the median, whatever PyTorch says it does."""
    return torch.median(x)


@case(x=array([1e-12, 1.0]))
def sqrt_near_0(x: Any) -> Any:
    """Steep, but smooth at the scale of the input."""
    return torch.sqrt(x)


@case(x=array([0.0]))
def sqrt_at_0(x: Any) -> Any:
    """The derivative is infinite, and so PyTorch says."""
    return torch.sqrt(x)


@case(x=array([0.0, 1.0]))
def sqrt_at_0_beside_others(x: Any) -> Any:
    """PyTorch multiplies the infinite derivative by the 0 that the other output's gradient is here: NaN."""
    return torch.sqrt(x)


@case(x=array([1e-12, 1.0]))
def log_near_0(x: Any) -> Any:
    """As steep as 1e12."""
    return torch.log(x)


@case(x=array([0.0, 1.0]))
def log_at_0(x: Any) -> Any:
    """The value is -inf."""
    return torch.log(x)


@case(x=normal(20))
def dropout(x: Any) -> Any:
    """The random state is replayed: it is the same mask every time."""
    return functional.dropout(x, 0.5, training=True)


@case(x=normal(6, 3))
def batch_norm_in_training(x: Any) -> Any:
    """The running statistics, made here, are no input."""
    return functional.batch_norm(x, x.new_zeros(3), x.new_ones(3), training=True)


@case(x=normal(5))
def float32_inside(x: Any) -> Any:
    """Takes float64, computes in float32: named, and as sharp as float32 allows."""
    return torch.tanh(x.float()).double()


def decay_gradient(x: Any) -> Any:
    """Of the exact solution x exp(-1)."""
    return np.exp(-1.0) * np.ones_like(x)


@case(x=array([1.0, 2.0]), jacobian=lambda x: np.diag(decay_gradient(x)), framework="numpy", options={"rtol": 1e-4})
def ode_to_1e_6(x: Any) -> Any:
    """dy/dt = -y to a tolerance of 1e-6; the derivative of the exact solution, held to 1e-4."""
    return solve_ivp(lambda _, y: -y, (0.0, 1.0), x, rtol=1e-6, atol=1e-9).y[:, -1]


@case(x=array([0.3, 1.2]))
def round_to_integers(x: Any) -> Any:
    """Constant around the inputs; PyTorch says 0."""
    return torch.round(x)


class Quantise(torch.autograd.Function):
    """Rounding that hands the gradient on: a straight-through estimator."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        """The nearest integer."""
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        """As if nothing had been rounded."""
        return g


@case(x=array([0.3, 1.2]), framework="torch", expect="fail", because="a straight-through estimator, not declared")
def straight_through(x: Any) -> Any:
    """The claim is not zero."""
    return Quantise.apply(x)


@case(x=array([0.3, 1.2]), framework="torch", options={"straight_through": True})
def straight_through_declared(x: Any) -> Any:
    """The same, declared."""
    return Quantise.apply(x)
