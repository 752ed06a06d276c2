"""One row, and one element: the smallest inputs there are have the right gradient, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch

from gradcheck.checks.contracts.torch import directional
from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.plain_vjp import Remarked, Unsupported
from gradcheck.checks.contracts.torch.shrink_batch import cut, smaller
from gradcheck.tracebacks import one_line, user_line

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.backends.layer_view import Call
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "one-element"
MEND = "look for squeeze(), a division by the number of rows or by that number less one, and sizes that are written down"
MISSHAPEN = "returned an invalid gradient"  # what autograd says of a gradient whose shape does not fit


def broken(base: Baseline) -> str:
    """Of which inputs the gradient is wrong; '' where of none.

    Raises:
        Remarked: where the backward alone refuses them.
        Unsupported: where the forward refuses all of them, or nothing can be made smaller.
    """
    refused = list[str]()
    for name, leaves, call in _small(base, refused):
        try:
            told = _wrong(base, leaves, call)
        except Unsupported as why:
            refused.append(f"{name}: {why}")
            continue
        except Remarked as remark:
            raise Remarked(f"of {name}, which the forward takes, {remark}") from remark
        if told:
            return f"of {name} {told}"
    if refused:
        raise Unsupported(refused[0])
    return ""


def _small(base: Baseline, refused: list[str]) -> Iterator[tuple[str, list[Tensor], Call]]:
    """Smaller inputs made of the layer's own, each with a name and what calls the layer with them."""
    try:
        rows, call = cut(base, 1)
        if any(len(x) != len(row) for x, row in zip(base.inputs, rows, strict=True) if x.dim()):
            yield "a batch of one row", rows, call
    except Unsupported as why:
        refused.append(str(why))
    (shape, *others) = {tuple(x.shape) for x in (*base.inputs, *base.outputs)}
    if others or any(leaf.path.startswith("params[") for leaf in base.layer.leaves):
        return
    if any(n > 1 for n in shape):
        yield "inputs of one element", *_all(base, shape, lambda x: x[(slice(1),) * x.dim()])
    if shape and all(shape):
        yield "inputs without an axis", *_all(base, shape, lambda x: x.reshape(-1)[0])


def _all(base: Baseline, shape: tuple[int, ...], make: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], Call]:
    """All leaves made smaller, and what is of their shape beside them."""
    return smaller(base, [make(x) for x in base.inputs], lambda x: make(x) if tuple(x.shape) == shape else x, 1)


def _wrong(base: Baseline, leaves: list[Tensor], call: Call) -> str:
    try:
        outputs = call(leaves)
    except Exception as error:
        raise Unsupported(f"they are refused: {type(error).__name__}") from error
    if any(out.shape == before.shape for out, before in zip(outputs, base.outputs, strict=True) if before.numel() > 1):
        raise Unsupported("the outputs are as large as before")
    if not all(torch.isfinite(out).all() for out in outputs):
        raise Unsupported("the outputs are not finite")
    try:
        plain.pulled(outputs, leaves, [torch.ones_like(out) for out in outputs])
    except Exception as error:
        if MISSHAPEN in str(error):
            return f"the gradient has the wrong shape: {one_line(error)}"
        raise Remarked(f"the backward raises {one_line(error, 120)}{user_line(error)}") from error
    eps, names = base.layer.eps, [leaf.path for leaf in base.layer.leaves]
    here = partial(directional.slope, base.layer.call, base.inputs, eps)
    return directional.told(partial(directional.slope, call, leaves, eps), here, names)
