"""Functions with the same value and a derivative of zero: a fault that every checker should find."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from gradcheck.backends.torch.functional import is_differentiable


def with_zero_gradient(func: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that its derivative is zero, in both modes.

    Args:
        func: returns a tensor, or a tuple or list of tensors and other values.
    """

    @functools.wraps(func, updated=())
    def call(*inputs: Any) -> Any:
        returned = func(*inputs)
        if isinstance(returned, tuple | list):
            return tuple(map(_zero_derivative, returned))
        return _zero_derivative(returned)

    return call


def with_zero_second_derivative(func: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that its gradient is right, and the derivative of its gradient is zero."""

    @functools.wraps(func, updated=())
    def call(*inputs: Any) -> Any:
        return func(*(_ZeroSecondDerivative.apply(x) if is_differentiable(x) else x for x in inputs))  # type: ignore[no-untyped-call]

    return call


def _zero_derivative(x: Any) -> Any:
    return _ZeroDerivative.apply(x) if is_differentiable(x) else x  # type: ignore[no-untyped-call]


class _ZeroDerivative(torch.autograd.Function):
    """The identity, with a derivative of zero."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 0

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor) -> torch.Tensor:
        return tangent * 0


class _ZeroSecondDerivative(_ZeroDerivative):
    """The identity, with a right gradient, whose derivative is zero."""

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _ZeroDerivative.apply(gradient)  # type: ignore[no-any-return,no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor) -> torch.Tensor:
        return tangent.clone()
