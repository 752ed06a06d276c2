"""Rules for complex tensors, each a pair of real arrays: its real parts and its imaginary parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from gradcheck.backends.torch.exact import linear
from gradcheck.backends.torch.exact.functions import translate_atan2
from gradcheck.backends.torch.exact.nodes import TracedTensor, bilinear, choose, make_constants
from gradcheck.exact import build
from gradcheck.exact.build import add, divide, log, make_scalar, multiply, node_of, power, subtract
from gradcheck.exact.formulas import FORMULAS
from gradcheck.exact.graph import Node, NotAvailable

LINEAR = frozenset((*linear.MOVES, *linear.SUMS, "mean", "constant_pad_nd", "masked_fill"))
PRODUCTS = ("mm", "bmm", "dot", "mv", "ger", "outer")
CONSTANT = frozenset(
    linear.list_names(
        "zeros_like new_zeros new_empty empty_like new_empty_strided _new_zeros_with_same_feature_meta ones_like full_like"
    )
)
# Operators that make complex numbers of real ones.
MAKING_COMPLEX = frozenset(("complex", "polar", "view_as_complex"))
MAX_POWER = 8


@dataclass(frozen=True)
class Pair:
    """The exact nodes of a complex tensor."""

    real: Node
    imaginary: Node


def pair_of(operand: Any) -> Pair:
    """Return the real and the imaginary parts of an operand; those of a real one are zero."""
    if isinstance(operand, TracedTensor) and operand.shadow.is_complex():
        assert operand.node is not None
        return split(operand.node)
    if isinstance(operand, complex):
        return Pair(make_scalar(operand.real), make_scalar(operand.imag))
    real = node_of(operand)
    return Pair(real, multiply(0, real) if real.shape else make_scalar(0))


def split(node: Node) -> Pair:
    """Split an array whose last axis holds the real and the imaginary part."""
    return Pair(build.move(node, lambda places: places[..., 0]), build.move(node, lambda places: places[..., 1]))


def join(pair: Pair) -> Node:
    """Make an array whose last axis holds the real and the imaginary part."""
    shape = np.broadcast_shapes(pair.real.shape, pair.imaginary.shape)

    def apply(arrays: Any) -> Any:
        return np.stack([np.broadcast_to(array, shape) for array in arrays], axis=-1)

    return build.linear([pair.real, pair.imaginary], apply, (*shape, 2), moves=True)


def translate_complex(operator: Any, name: str, result: Any, args: Any, kwargs: Any) -> Node:
    """Return the exact result of an operator with complex tensors; the last axis of a complex one holds its two parts.

    Raises:
        NotAvailable: if there is no rule for it.
    """
    if not isinstance(result, torch.Tensor):
        raise NotAvailable(f"no rule for the operator {name} of complex numbers")
    if name in CONSTANT:
        return make_constants(result)
    if name in RULES:
        translated = RULES[name](*args, **kwargs)
    elif name in PRODUCTS:
        translated = _multiply_by(operator, tuple(result.shape), pair_of(args[0]), pair_of(args[1]))
    elif name in LINEAR:
        translated = _apply_to_parts(operator, result, args, kwargs)
    else:
        raise NotAvailable(f"no rule for the operator {name} of complex numbers")
    if not isinstance(translated, Pair):
        node: Node = translated
        return node
    return join(translated) if result.is_complex() else translated.real


def _apply_to_parts(operator: Any, result: torch.Tensor, args: Any, kwargs: Any) -> Pair:
    """Apply an operator that is linear with real coefficients to the real and to the imaginary parts."""

    def translate_part(imaginary: bool) -> Node:
        def take(x: Any) -> Any:
            if not isinstance(x, TracedTensor) or not (x.shadow.is_complex() or x.shadow.is_floating_point()):
                return torch.float64 if isinstance(x, torch.dtype) and x.is_complex else x
            pair = pair_of(x)
            part = x.shadow.imag if imaginary and x.shadow.is_complex() else x.shadow.real
            return TracedTensor(part.to(torch.float64), pair.imaginary if imaginary else pair.real)

        a, k = pytree.tree_map(take, (args, kwargs))
        rule = linear.translate_mean if "mean" in str(operator) else linear.translate_linear
        node: Node = rule(operator, result.imag if imaginary else result.real, *a, **k)
        return node

    return Pair(translate_part(imaginary=False), translate_part(imaginary=True))


def _multiply_by(operator: Any, shape: tuple[int, ...], a: Pair, b: Pair) -> Pair:
    def product(x: Node, y: Node) -> Node:
        return bilinear(x, y, operator, shape)

    real = subtract(product(a.real, b.real), product(a.imaginary, b.imaginary))
    return Pair(real, add(product(a.real, b.imaginary), product(a.imaginary, b.real)))


def _multiply(a: Any, b: Any) -> Pair:
    x, y = (value if isinstance(value, Pair) else pair_of(value) for value in (a, b))
    real = subtract(multiply(x.real, y.real), multiply(x.imaginary, y.imaginary))
    return Pair(real, add(multiply(x.real, y.imaginary), multiply(x.imaginary, y.real)))


def _reciprocal(a: Any) -> Pair:
    x = a if isinstance(a, Pair) else pair_of(a)
    square = _square_of_size(x)
    return Pair(divide(x.real, square), divide(subtract(0, x.imaginary), square))


def _square_of_size(x: Pair) -> Node:
    return add(power(x.real, 2), power(x.imaginary, 2))


def _abs(a: Any) -> Node:
    """Make the size, whose derivative at zero is zero in PyTorch."""
    size, shadow = power(_square_of_size(pair_of(a)), Fraction(1, 2)), a.shadow
    return size if bool((shadow != 0).all()) else choose(shadow != 0, size, make_scalar(0))


def _add(a: Any, b: Any, *, alpha: Any = 1, sign: int = 1) -> Pair:
    x, y = pair_of(a), _multiply(b, alpha) if alpha != 1 else pair_of(b)
    return Pair(add(x.real, y.real, sign), add(x.imaginary, y.imaginary, sign))


def _conj(a: Any) -> Pair:
    x = pair_of(a)
    return Pair(x.real, subtract(0, x.imaginary))


def _exp(a: Any) -> Pair:
    x = pair_of(a)
    size = build.exp(x.real)
    return Pair(multiply(size, FORMULAS["cos"](x.imaginary)), multiply(size, FORMULAS["sin"](x.imaginary)))


def _log(a: Any) -> Pair:
    half = make_scalar(Fraction(1, 2))
    return Pair(multiply(half, log(_square_of_size(pair_of(a)))), _angle(a))


def _angle(a: Any) -> Node:
    x = pair_of(a)
    return translate_atan2(
        None, a.shadow.angle(), TracedTensor(a.shadow.imag, x.imaginary), TracedTensor(a.shadow.real, x.real)
    )


def _sign(a: Any) -> Pair:
    x, size = pair_of(a), _abs(a)
    return Pair(divide(x.real, size), divide(x.imaginary, size))


def _pow(a: Any, exponent: Any) -> Pair:
    if not isinstance(exponent, int | float) or exponent != round(exponent) or not 1 <= abs(exponent) <= MAX_POWER:
        raise NotAvailable(f"the power {exponent} of complex numbers")
    base, exponent = pair_of(a), round(exponent)
    result = base
    for _ in range(abs(exponent) - 1):
        result = _multiply(result, base)
    return result if exponent > 0 else _reciprocal(result)


def _polar(size: Any, angle: Any) -> Pair:
    return Pair(multiply(size, FORMULAS["cos"](angle)), multiply(size, FORMULAS["sin"](angle)))


def _choose(condition: TracedTensor, a: Any, b: Any) -> Pair:
    x, y, mask = pair_of(a), pair_of(b), condition.shadow.bool()
    return Pair(choose(mask, x.real, y.real), choose(mask, x.imaginary, y.imaginary))


def _same(a: Any, *_: Any, **__: Any) -> Pair:
    return pair_of(a)


RULES: dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": lambda a, b, *, alpha=1: _add(a, b, alpha=alpha, sign=-1),
    "rsub": lambda a, b, alpha=1: _add(b, a, alpha=alpha, sign=-1),
    "mul": _multiply,
    "div": lambda a, b: _multiply(a, _reciprocal(b)),
    "reciprocal": _reciprocal,
    "neg": lambda a: _add(0, a, sign=-1),
    "square": lambda a: _multiply(a, a),
    "pow": _pow,
    "abs": _abs,
    "angle": _angle,
    "exp": _exp,
    "log": _log,
    "sgn": _sign,
    "complex": lambda a, b: Pair(node_of(a), node_of(b)),
    "polar": _polar,
    "where": _choose,
    "real": lambda a: pair_of(a).real,
    "imag": lambda a: pair_of(a).imaginary,
    "view_as_real": lambda a: join(pair_of(a)),
    "view_as_complex": lambda a: split(node_of(a)),
    **dict.fromkeys(("_conj", "conj", "_conj_physical", "conj_physical"), _conj),
    **dict.fromkeys(("resolve_conj", "resolve_neg", "_to_copy", "convert_element_type", "clone", "detach", "alias"), _same),
    "_neg_view": lambda a: _add(0, a, sign=-1) if a.shadow.is_complex() else subtract(0, a),
    "vdot": lambda a, b: _multiply_by(torch.dot, (), _conj(a), pair_of(b)),
}
