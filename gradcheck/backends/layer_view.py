"""TODO: describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends.flat import Leaf

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.targets.location import Place

Call = Callable[[Sequence["Tensor"]], "list[Any]"]
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]  # as torch.compile


@dataclass(frozen=True)
class Layer:
    """What contracts call.

    Attributes:
        leaves, outputs: the differentiable inputs and outputs.
        eps: relative spacing of floats in the dullest dtype among them.
        tensors: () -> new tensors of the leaves at the primal, in the layout they were given in, without gradients.
        call: tensors of the leaves -> the differentiable outputs.
        returned: tensors of the leaves -> everything that is returned, however much that is.
        wrapped: from what wraps a function to `call`, with the target's function or module wrapped.
        beside: from what makes a tensor another to `call`, with the tensors that stand beside the leaves, as labels and masks
            do, made so.
        indices: integers that the module holds in its buffers, which may point at rows of the inputs.
        own: the autograd.Functions and registered operators of the user's own among what it calls, by name; `place`: file and
            line of the backward of the first.
        triton: whether one of them stands in a file that uses Triton.
        module: the target, where it is a module of a class of the user's own, or holds one.
        random: whether it draws random numbers, which fall elsewhere in tensors of another form.
        carried: () -> what is to be said of buffers that a call changes and the next one reads.
        upstream: what a model sends back to the outputs, one a leaf, None where nothing; None outside of a model.
    """

    leaves: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    eps: float
    tensors: Callable[[], list[Tensor]]
    call: Call
    returned: Call
    wrapped: Callable[[Wrap], Call]
    beside: Callable[[Callable[[Tensor], Tensor]], Call]
    indices: tuple[Tensor, ...]
    own: tuple[str, ...]
    triton: bool
    module: torch.nn.Module | None
    random: bool
    carried: Callable[[], tuple[str, ...]]
    upstream: Sequence[Tensor | None] | None = None
    place: Place | None = None
