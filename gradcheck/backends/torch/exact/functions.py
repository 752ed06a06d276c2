"""Rules for PyTorch's arithmetic and its functions of single numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from gradcheck.backends.torch.exact import nodes
from gradcheck.backends.torch.exact.linear import Rule
from gradcheck.backends.torch.exact.nodes import Operand, TracedTensor, make_constants, shadow_of
from gradcheck.exact.build import add, divide, exp, linear, make_scalar, multiply, node_of, power, raise_to, subtract
from gradcheck.exact.constants import read_constant
from gradcheck.exact.formulas import HALF_PI, Formula, atan, polygamma
from gradcheck.exact.graph import Node


def _scale(b: Operand, alpha: float) -> Operand | Node:
    return b if alpha == 1 else multiply(b, alpha)


def translate_add(_o: Any, _r: Any, a: Operand, b: Operand, *, alpha: float = 1) -> Node:
    """Translate `a + alpha * b`."""
    return add(a, _scale(b, alpha))


def translate_sub(_o: Any, _r: Any, a: Operand, b: Operand, *, alpha: float = 1) -> Node:
    """Translate `a - alpha * b`."""
    return subtract(a, _scale(b, alpha))


def translate_rsub(_o: Any, _r: Any, a: Operand, b: Operand, alpha: float = 1) -> Node:
    """Translate `b - alpha * a`."""
    return subtract(b, _scale(a, alpha))


def translate_mul(_o: Any, _r: Any, a: Operand, b: Operand) -> Node:
    """Translate a product."""
    return multiply(a, b)


def translate_div(_o: Any, result: torch.Tensor, a: Operand, b: Operand, *, rounding_mode: str | None = None) -> Node:
    """Translate a quotient; one that is rounded is constant between its jumps."""
    return divide(a, b) if rounding_mode is None else make_constants(result)


def translate_remainder(_o: Any, result: torch.Tensor, a: Operand, b: Operand) -> Node:
    """Translate the remainder of a division."""
    quotient = torch.round((shadow_of(a) - result) / shadow_of(b))
    return subtract(a, multiply(b, make_constants(quotient)))


def translate_fraction(_o: Any, result: torch.Tensor, x: TracedTensor) -> Node:
    """Translate the part of a number behind the point."""
    return subtract(x, make_constants(torch.round(x.shadow - result)))


def translate_pow(_o: Any, _r: Any, a: Operand, b: Operand) -> Node:
    """Translate a power."""
    return raise_to(a, b)


def translate_step(_o: Any, result: torch.Tensor, *_: Any, **__: Any) -> Node:
    """Translate a function that is constant between its jumps."""
    return make_constants(result)


def translate_dropout(_o: Any, result: Any, x: TracedTensor, p: float, train: bool | None = True) -> list[Node | None]:
    """Translate dropout, whose mask is known."""
    if not train:
        return [node_of(x), None]
    scale = 1 / (1 - read_constant(p).rational) if p < 1 else Fraction(1)
    mask = make_constants(result[1].to(torch.float64))
    return [multiply(x, multiply(mask, make_scalar(scale))), None]


def translate_exp(base: int) -> Rule:
    """Make the rule of an exponential to an integer base; 0 stands for e."""

    def rule(_o: Any, _r: Any, x: TracedTensor) -> Node:
        vanishes = torch.isneginf(x.shadow)
        return exp(x, base, vanishes.numpy(force=True) if bool(vanishes.any()) else None)

    return rule


def translate_atan2(_o: Any, result: torch.Tensor, a: Operand, b: Operand) -> Node:
    """Translate the angle of a point, which is an arc tangent but for half turns."""
    half_turns = torch.round((result - torch.atan(torch.as_tensor(shadow_of(a) / shadow_of(b)))) / torch.pi)
    return add(atan(divide(a, b)), multiply(make_constants(half_turns * 2), HALF_PI))


def translate_hypot(_o: Any, _r: Any, a: Operand, b: Operand) -> Node:
    """Translate the length of a vector of two numbers."""
    return power(add(power(a, 2), power(b, 2)), Fraction(1, 2))


def _insert_axes(x: TracedTensor, axes: list[int]) -> Node:
    shape = list(x.shadow.shape)
    for axis in axes:
        shape.insert(axis, 1)
    return nodes.move(x, lambda t: t.reshape(shape))


def translate_trilinear(_o: Any, result: torch.Tensor, *args: Any) -> Node:
    """Translate the sum of products of three tensors, each expanded along axes of its own."""
    factors, axes, summed = args[:3], args[3:6], args[6]
    product = node_of(1)
    for factor, dims in zip(factors, axes, strict=True):
        product = multiply(product, _insert_axes(factor, sorted(dims)))
    axes_summed = tuple(summed)
    return linear([product], lambda arrays: arrays[0].sum(axes_summed), tuple(result.shape))


def translate_polygamma(_o: Any, _r: Any, first: Any, second: Any) -> Node:
    """Translate a derivative of digamma, whose order comes first or second."""
    return polygamma(first, second) if isinstance(first, int) else polygamma(int(shadow_of(second)), first)


def make_rule(formula: Formula) -> Rule:
    """Make the rule of a function of one number."""
    return lambda _o, _r, x, *_, **__: formula(x)
