"""The rules of differentiation, with one function for each, whose hand-written derivative applies the rule.

All but the last act entry by entry on x of shape (N,), so that their vector-Jacobian product is the cotangent times f'(x).

Sources: G. Strang, Calculus (1991), chapters 2, 4 and 13; M. P. Deisenroth, A. A. Faisal, C. S. Ong, Mathematics for Machine
Learning (2020), sections 5.1.2 and 5.2.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import normal, positive, uniform

F64 = NDArray[np.float64]
OPTIONS = {"dims": {"N": (5, 8)}}


def u(x: F64) -> F64:
    """The function u = sin x."""
    return np.sin(x)


def du(x: F64) -> F64:
    """The derivative u' = cos x."""
    return np.cos(x)


def v(x: F64) -> F64:
    """The function v = x² + 1."""
    return x**2 + 1


def dv(x: F64) -> F64:
    """The derivative v' = 2 x."""
    return 2 * x


def constant_vjp(cotangent: F64, x: F64, c: F64) -> F64:
    """(c)' = 0."""
    return cotangent * np.zeros_like(x)


@case(x=normal("N"), c=normal(), vjp=constant_vjp, wrt="x", options=OPTIONS)
def constant(x: F64, c: F64) -> F64:
    """f(x) = c for every x; the term 0 x gives it the shape of x, and automatic differentiation something to differentiate."""
    return 0 * x + c


@twin_of(constant)
def torch_constant(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """f(x) = c for every x."""
    return 0 * x + c


def variable_vjp(cotangent: F64, x: F64) -> F64:
    """(x)' = 1."""
    return cotangent * np.ones_like(x)


@case(x=normal("N"), vjp=variable_vjp, wrt="x", options=OPTIONS)
def variable(x: F64) -> F64:
    """f(x) = x."""
    return x


@twin_of(variable)
def torch_variable(x: torch.Tensor) -> torch.Tensor:
    """f(x) = x."""
    return x


def sum_rule_vjp(cotangent: F64, x: F64) -> F64:
    """(u + v)' = u' + v'."""
    return cotangent * (du(x) + dv(x))


@case(x=normal("N"), vjp=sum_rule_vjp, wrt="x", options=OPTIONS)
def sum_rule(x: F64) -> F64:
    """f(x) = u(x) + v(x) = sin x + (x² + 1)."""
    return u(x) + v(x)


@twin_of(sum_rule)
def torch_sum_rule(x: torch.Tensor) -> torch.Tensor:
    """f(x) = sin x + (x² + 1)."""
    return torch.sin(x) + (x**2 + 1)


def difference_rule_vjp(cotangent: F64, x: F64) -> F64:
    """(u - v)' = u' - v'."""
    return cotangent * (du(x) - dv(x))


@case(x=normal("N"), vjp=difference_rule_vjp, wrt="x", options=OPTIONS)
def difference_rule(x: F64) -> F64:
    """f(x) = u(x) - v(x) = sin x - (x² + 1)."""
    return u(x) - v(x)


@twin_of(difference_rule)
def torch_difference_rule(x: torch.Tensor) -> torch.Tensor:
    """f(x) = sin x - (x² + 1)."""
    return torch.sin(x) - (x**2 + 1)


def product_rule_vjp(cotangent: F64, x: F64) -> F64:
    """(u v)' = u' v + u v'."""
    return cotangent * (du(x) * v(x) + u(x) * dv(x))


@case(x=normal("N"), vjp=product_rule_vjp, wrt="x", options=OPTIONS)
def product_rule(x: F64) -> F64:
    """f(x) = u(x) v(x) = sin x (x² + 1)."""
    return u(x) * v(x)


@twin_of(product_rule)
def torch_product_rule(x: torch.Tensor) -> torch.Tensor:
    """f(x) = sin x (x² + 1)."""
    return torch.sin(x) * (x**2 + 1)


def quotient_rule_vjp(cotangent: F64, x: F64) -> F64:
    """(u / v)' = (u' v - u v') / v²."""
    return cotangent * (du(x) * v(x) - u(x) * dv(x)) / v(x) ** 2


@case(x=normal("N"), vjp=quotient_rule_vjp, wrt="x", options=OPTIONS)
def quotient_rule(x: F64) -> F64:
    """f(x) = u(x) / v(x) = sin x / (x² + 1)."""
    return u(x) / v(x)


@twin_of(quotient_rule)
def torch_quotient_rule(x: torch.Tensor) -> torch.Tensor:
    """f(x) = sin x / (x² + 1)."""
    return torch.sin(x) / (x**2 + 1)


def power_rule_vjp(cotangent: F64, x: F64, n: F64) -> F64:
    """(xⁿ)' = n xⁿ⁻¹."""
    return cotangent * n * x ** (n - 1)


@case(x=positive("N"), n=uniform(-3, 3), vjp=power_rule_vjp, wrt="x", options=OPTIONS)
def power_rule(x: F64, n: F64) -> F64:
    """f(x) = xⁿ, for positive x and any real n."""
    return x**n


@twin_of(power_rule)
def torch_power_rule(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    """f(x) = xⁿ."""
    return x**n


def f(y: F64) -> F64:
    """The outer function f = ln y."""
    return np.log(y)


def df(y: F64) -> F64:
    """The derivative f' = 1 / y."""
    return 1 / y


def g(x: F64) -> F64:
    """The inner function g = 1 + eˣ."""
    return 1 + np.exp(x)


def dg(x: F64) -> F64:
    """The derivative g' = eˣ."""
    return np.exp(x)


def chain_rule_vjp(cotangent: F64, x: F64) -> F64:
    """f(g(x))' = f'(g(x)) g'(x)."""
    return cotangent * df(g(x)) * dg(x)


@case(x=normal("N"), vjp=chain_rule_vjp, wrt="x", options=OPTIONS)
def chain_rule(x: F64) -> F64:
    """f(g(x)) = ln(1 + eˣ)."""
    return f(g(x))


@twin_of(chain_rule)
def torch_chain_rule(x: torch.Tensor) -> torch.Tensor:
    """f(g(x)) = ln(1 + eˣ)."""
    return torch.log(1 + torch.exp(x))


def multivariate_chain_rule_gradient(y: F64, A: F64) -> F64:
    """∂f/∂y_j = Σᵢ ∂f/∂xᵢ ∂xᵢ/∂y_j: the row ∂f/∂x times the matrix ∂x/∂y.

    ∂f/∂xᵢ = e^xᵢ / Σₖ e^xₖ and ∂xᵢ/∂y_j = cos(Σₖ Aᵢₖ yₖ) Aᵢⱼ.
    """
    x = np.sin(A @ y)
    df_dx: F64 = np.exp(x) / np.sum(np.exp(x))
    dx_dy = np.cos(A @ y)[:, None] * A
    return df_dx @ dx_dy


@case(y=normal(3), A=normal(3, 3), gradient=multivariate_chain_rule_gradient, wrt="y")
def multivariate_chain_rule(y: F64, A: F64) -> Any:
    """f(x₁, …, xₙ) = ln Σᵢ e^xᵢ of xᵢ(y₁, …, yₘ) = sin(Σⱼ Aᵢⱼ yⱼ)."""
    x = np.sin(A @ y)
    return np.log(np.sum(np.exp(x)))


@twin_of(multivariate_chain_rule)
def torch_multivariate_chain_rule(y: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    """f(x₁, …, xₙ) = ln Σᵢ e^xᵢ of xᵢ(y₁, …, yₘ) = sin(Σⱼ Aᵢⱼ yⱼ)."""
    return torch.logsumexp(torch.sin(A @ y), 0)
