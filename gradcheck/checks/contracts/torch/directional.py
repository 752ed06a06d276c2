"""A gradient held against differences of the function itself, along a random direction: where no other check has looked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from gradcheck.backends.torch.tensors import flat_of
from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.plain_vjp import Remarked, Unsupported
from gradcheck.evidence import directions, richardson
from gradcheck.evidence.line import slack_for
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.backends.layer_view import Call
    from gradcheck.evidence.line import F64

OFF = 1e-2  # of the terms' size, besides the evidence's own error: what counts as wrong
SOME = 8  # leaves that are looked at by themselves, to name one
DULL = 0.25  # of the same: differences that are no sharper tell nothing


@dataclass(frozen=True)
class Slope:
    """A derivative along a random direction.

    Attributes:
        claimed: by the gradient.
        value, bound: by differences, and what their error is at most.
        size: root sum of squares of the claim's terms, or the value where that is larger.
        least: a slope that is as good as none beside the outputs.
    """

    claimed: float
    value: float
    bound: float
    size: float
    least: float

    @property
    def off(self) -> bool:
        """Whether the claim is not what differences give; NaN is."""
        return math.isfinite(self.value) and not abs(self.claimed - self.value) <= self.bound + OFF * self.size

    @property
    def wrong(self) -> bool:
        """Whether it is so beyond doubt."""
        return self.off and (not math.isfinite(self.claimed) or self.bound <= DULL * self.size)

    @property
    def dull(self) -> bool:
        """Whether differences tell nothing."""
        return not self.bound <= max(DULL * self.size, self.least)


class Asks(Protocol):
    """Asks for a slope along one of the random directions, or along its part in one leaf."""

    def __call__(self, which: int, only: int | None = None, /) -> Slope:
        """The slope there."""


def told(there: Asks, here: Asks, names: Sequence[str]) -> str:
    """How a gradient is wrong along two random directions, in words; '' where it is not.

    Args:
        there: asks where the gradient is in question.
        here: asks at the target's own inputs and in its own mode; where that is off, another check tells.
        names: of the leaves.

    Raises:
        Remarked: where the function stands still there, as a straight-through estimator does.
        Unsupported: where differences tell nothing.
    """
    first = there(0)
    if not (first.off or first.dull):
        return ""
    if not (first.wrong and there(1).wrong):
        raise Unsupported("differences are too coarse to tell")
    if any(slope.off or slope.dull for slope in (here(0), here(1))):
        raise Unsupported("at the inputs themselves the gradient differs from differences, too, or these are too coarse")
    if first.value == 0 and math.isfinite(first.claimed):
        raise Remarked("the function is constant there, but its gradient is not zero: a straight-through estimator?")
    apiece = ((name, there(0, k)) for k, name in enumerate(names[:SOME]) if len(names) > 1)
    of, worst = next(((f" of {name}", slope) for name, slope in apiece if slope.wrong), ("", first))
    return f"the derivative along a random direction{of} is {worst.claimed:.6g} in place of {worst.value:.6g}"


def slope(call: Call, inputs: Sequence[Tensor], eps: float, which: int, only: int | None = None) -> Slope:
    """Ask for the gradient of a random combination of what a call returns, and for its differences.

    Args:
        call: tensors -> outputs, of which those that carry a gradient count; what raises off the primal, or has another form
            there, is a NaN.
        eps: relative spacing of floats in the dullest dtype among them.
        which: of the random directions.
        only: the leaf that alone moves; None: all of them.
    """
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    outputs = call(leaves)
    weights = [random_like(out, np.ones_like, which, "weight", k) if carries(out) else None for k, out in enumerate(outputs)]
    tangents = [random_like(x, np.asarray, which, "tangent", k) for k, x in enumerate(leaves)]
    tangents = [u if only in (None, k) else torch.zeros_like(u) for k, u in enumerate(tangents)]
    read = [(k, flat_of(v), flat_of(outputs[k])) for k, v in enumerate(weights) if v is not None]
    sums = [_sums(g, u) for g, u in zip(plain.pulled(outputs, leaves, weights), tangents, strict=True) if g is not None]

    def change(t: float) -> F64:
        moved = [(x.detach() + t * u).requires_grad_() for x, u in zip(leaves, tangents, strict=True)]
        try:
            found = call(moved)
            return np.array([sum(float(v @ (flat_of(found[k]) - was)) for k, v, was in read)])
        except Exception:
            return np.array([np.nan])

    outputs_size = math.sqrt(sum(float(was @ was) for _, _, was in read))
    noise = np.array([eps * outputs_size + sum(_quantum(outputs[k]) * was.size for k, _, was in read)])
    near = richardson.sharp(change, 0.0, eps, lambda _: noise, slack_for(1))
    lost = sum(_quantum(x) * float(u.abs().sum()) for x, u in zip(leaves, tangents, strict=True))
    value, bound = float(near.value[0]), float(near.bound[0]) + lost
    size = np.fmax(math.sqrt(sum(square for _, square in sums)), abs(value))
    return Slope(sum(total for total, _ in sums), value, bound, float(size), eps**0.5 * outputs_size)


def _quantum(x: Tensor) -> float:
    """The smallest number above 0 of a tensor's dtype, which is how far apart all small ones are."""
    limits = torch.finfo(x.dtype)
    return limits.tiny * limits.eps


def _sums(gradient: Tensor, tangent: Tensor) -> tuple[float, float]:
    """Of the terms of one leaf, and of their squares; a module's may be large, all of them at once."""
    terms = flat_of(gradient) * flat_of(tangent)
    return float(np.sum(terms)), float(terms @ terms)


def carries(output: Any) -> bool:
    """Whether an output is a floating or complex tensor with a gradient."""
    return isinstance(output, torch.Tensor) and output.requires_grad


def random_like(x: Tensor, about: Callable[[F64], F64], *stream: object) -> Tensor:
    """Random numbers of either sign in the form of a tensor, each at least half as large as what suits its entry.

    Args:
        about: the entries, as numbers -> the sizes that suit them.
    """
    numbers = about(flat_of(x))
    drawn = np.empty_like(numbers)
    directions.even(generator(0, "direction", *stream), numbers, drawn)
    made = torch.from_numpy(drawn)
    return (torch.view_as_complex(made.view(*x.shape, 2)) if x.is_complex() else made.view(x.shape)).to(x.device, x.dtype)
