"""The values of a traced PyTorch program as operands of exact graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradcheck.exact import build
from gradcheck.exact.build import node_of
from gradcheck.exact.graph import F64, Constants, Node

Number = int | float
OfTensor = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class TracedTensor:
    """A value of the traced program: as floating-point numbers, and as an exact node if it is a floating-point tensor.

    Attributes:
        shadow: the tensor.
        node: the same array exactly; that of a complex tensor has a last axis for the real and the imaginary part.
    """

    shadow: torch.Tensor
    node: Node | None = None


Operand = TracedTensor | Number


@node_of.register
def _node_of_traced(operand: TracedTensor) -> Node:
    """Return the node of a tensor; that of an integer or boolean one holds its values."""
    return operand.node if operand.node is not None else make_constants(operand.shadow)


def make_constants(values: torch.Tensor) -> Constants:
    """Read the numbers of a tensor, which may be complex, as those that were meant; infinities and NaNs become zero."""
    numbers = view_as_real(values.detach())
    return build.make_constants(floats_of(numbers), "float32" if numbers.dtype is torch.float32 else "float64")


def view_as_real(tensor: torch.Tensor) -> torch.Tensor:
    """View a complex tensor as one with a last axis for its two parts; leave a real one."""
    plain = tensor.resolve_conj().resolve_neg()
    return torch.view_as_real(plain) if tensor.is_complex() else plain


def floats_of(tensor: torch.Tensor) -> F64:
    """Return the numbers of a tensor in float64."""
    return np.asarray(tensor.detach().to(torch.float64).numpy(force=True))


def shadow_of(operand: Any) -> Any:
    """Return the floating-point value of an operand."""
    return operand.shadow if isinstance(operand, TracedTensor) else operand


def move(a: Operand | Node, place: OfTensor, place_at_ties: OfTensor | None = None) -> Node:
    """Make a node that takes its entries from another as a PyTorch function of one tensor does."""

    def on_arrays(function: OfTensor) -> build.Place:
        return lambda numbers: function(torch.from_numpy(numbers)).numpy()

    return build.move(a, on_arrays(place), place_at_ties and on_arrays(place_at_ties))


def bilinear(
    a: Operand | Node, b: Operand | Node, apply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], shape: tuple[int, ...]
) -> Node:
    """Make a bilinear map, such as a matrix product, that a PyTorch function of two tensors computes."""
    return build.bilinear(a, b, lambda x, y: np.asarray(apply(torch.from_numpy(x), torch.from_numpy(y)).numpy()), shape)


def choose(condition: torch.Tensor, a: Operand | Node, b: Operand | Node, ties: torch.Tensor | None = None) -> Node:
    """Take entries of one operand where a condition holds and of another elsewhere, and the other way round at ties."""
    mask: NDArray[np.bool_] = condition.numpy(force=True)
    return build.choose(mask, a, b, None if ties is None else ties.numpy(force=True))


def mark_undefined(node: Node, shadow: torch.Tensor) -> Node:
    """Mark the entries that are infinite or NaN in floating point."""
    return node if bool(torch.isfinite(shadow).all()) else build.mark_undefined(node, floats_of(shadow))
