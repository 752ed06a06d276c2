"""Rules for PyTorch's operators that choose entries by their values: the floating-point values decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradcheck.backends.torch.exact import nodes
from gradcheck.backends.torch.exact.linear import Rule, flatten_axes
from gradcheck.backends.torch.exact.nodes import Operand, TracedTensor, shadow_of
from gradcheck.exact.build import node_of, subtract
from gradcheck.exact.graph import Node, NotAvailable

# The place of the axis among the arguments of an operator that selects entries, after the tensor.
SELECTION_AXES = {"sort": 0, "topk": 1, "kthvalue": 1, "median": 0, "nanmedian": 0, "mode": 0, "cummax": 0, "cummin": 0}
POOLS = ["max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool3d"]


def translate_extremum_of_two(sign: int) -> Rule:
    """Make the rule of the larger of two numbers, or with a negative sign of the smaller."""

    def rule(_o: Any, _r: Any, a: Operand, b: Operand) -> Node:
        first, second = torch.as_tensor(shadow_of(a)), torch.as_tensor(shadow_of(b))
        return nodes.choose(sign * first >= sign * second, a, b, first == second)

    return rule


def translate_clamp(_o: Any, _r: Any, x: TracedTensor, low: Any = None, high: Any = None, **kwargs: Any) -> Node:
    """Translate a limit from below, from above or both."""
    result = x
    for bound, sign in ((kwargs.get("min", low), 1), (kwargs.get("max", high), -1)):
        if bound is not None:
            shadow, limit = result.shadow, torch.as_tensor(shadow_of(bound))
            inside = sign * shadow >= sign * limit
            node = nodes.choose(inside, result, bound, shadow == limit)
            result = TracedTensor(torch.where(inside, shadow, limit), node)
    return node_of(result)


def translate_clamp_max(operator: Any, result: Any, x: TracedTensor, high: Any) -> Node:
    """Translate a limit from above."""
    return translate_clamp(operator, result, x, None, high)


def translate_relu(_o: Any, _r: Any, x: TracedTensor) -> Node:
    """Translate the positive part."""
    return nodes.choose(x.shadow > 0, x, 0, x.shadow == 0)


def translate_abs(_o: Any, _r: Any, x: TracedTensor) -> Node:
    """Translate the absolute value."""
    return nodes.choose(x.shadow > 0, x, subtract(0, x), x.shadow == 0)


def translate_where(_o: Any, _r: Any, condition: TracedTensor, a: Operand, b: Operand) -> Node:
    """Translate a choice by a condition."""
    return nodes.choose(condition.shadow.bool(), a, b)


def translate_copysign(_o: Any, result: torch.Tensor, x: TracedTensor, _sign: Operand) -> Node:
    """Translate a number with the sign of another."""
    return nodes.choose(result == x.shadow, x, subtract(0, x), x.shadow == 0)


def translate_extremum(sign: int) -> Rule:
    """Make the rule of the largest number along some axes, or with a negative sign of the smallest."""

    def rule(_o: Any, result: torch.Tensor, x: TracedTensor, dim: Any = (), keepdim: bool = False, **_: Any) -> Node:
        if x.shadow.ndim == 0:
            return node_of(x)
        dims = [dim] if isinstance(dim, int) else list(dim)
        axes = sorted({d % x.shadow.ndim for d in dims} or range(x.shadow.ndim))
        flat = sign * flatten_axes(x.shadow, axes)
        first, last = flat.argmax(-1, keepdim=True), flat.shape[-1] - 1 - flat.flip(-1).argmax(-1, keepdim=True)

        def take(index: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
            return lambda t: flatten_axes(t, axes).gather(-1, index).reshape(result.shape)

        return nodes.move(x, take(first), take(last))

    return rule


def translate_max(sign: int) -> Rule:
    """Make the rule of `max` or `min`, which take one tensor, two, or one and an axis."""
    of_one, of_two = translate_extremum(sign), translate_extremum_of_two(sign)

    def rule(operator: Any, result: Any, x: TracedTensor, dim: Any = (), keepdim: bool = False, **_: Any) -> Any:
        if isinstance(dim, TracedTensor):
            return of_two(operator, result, x, dim)
        if isinstance(result, torch.Tensor):
            return of_one(operator, result, x)
        return [of_one(operator, result[0], x, dim, keepdim), None]

    return rule


def translate_selection(name: str) -> Rule:
    """Make the rule of an operator that returns some entries along an axis, and where they were."""

    def rule(_o: Any, result: Any, x: TracedTensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(result, torch.Tensor):
            return _take_equal(result, x, name)
        indices = result[1]
        given = next((a for a in args[SELECTION_AXES[name] :] if isinstance(a, int) and not isinstance(a, bool)), -1)
        dim = kwargs.get("dim", given)
        if x.shadow.ndim == 0:
            return [node_of(x), None]
        ordered = x.shadow.sort(dim).values
        if bool((ordered.diff(dim=dim) == 0).any()):
            raise NotAvailable(f"equal numbers in {name}")
        keeps_axis = indices.ndim == x.shadow.ndim

        def take(t: torch.Tensor) -> torch.Tensor:
            return t.gather(dim, indices) if keeps_axis else t.gather(dim, indices.unsqueeze(dim)).squeeze(dim)

        return [nodes.move(x, take), None]

    return rule


def _take_equal(result: torch.Tensor, x: TracedTensor, name: str) -> Node:
    """Take the entry that a number is, such as the median of all entries."""
    places = (x.shadow.reshape(-1) == result).nonzero()
    if len(places) != 1:
        raise NotAvailable(f"equal numbers in {name}")
    return nodes.move(x, lambda t: t.reshape(-1)[int(places)])


def translate_pool(spatial: int) -> Rule:
    """Make the rule of max pooling over the last axes, at the places that it returns."""

    def rule(_o: Any, result: Any, x: TracedTensor, *_: Any, **__: Any) -> Any:
        values, indices = result

        def take(t: torch.Tensor) -> torch.Tensor:
            return t.flatten(-spatial).gather(-1, indices.flatten(-spatial)).reshape(values.shape)

        return [nodes.move(x, take), None]

    return rule
