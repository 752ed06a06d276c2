"""A target as the contracts of a custom layer call it.

The contracts need more than a `Program` offers: tensors of the target's own dtype, and the outputs with their graph. This file
imports no framework, so that a `Program` can refer to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from gradcheck.backends.flat import Leaf
    from gradcheck.targets.location import Location

LayerFunction = Callable[[Sequence["Tensor"]], "list[Any]"]  # from tensors of the leaves to outputs
Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]  # from a function to one that wraps it, such as torch.compile


@dataclass(frozen=True)
class Layer:
    """A target as contracts call it.

    Attributes:
        leaves: the differentiable inputs.
        outputs: the differentiable outputs.
        eps: relative spacing of floats in the coarsest dtype among them.
        make_tensors: () -> new tensors of the leaves at the primal, in the user's memory layout, without gradients.
        call: tensors of the leaves -> the differentiable outputs.
        call_for_all_outputs: tensors of the leaves -> every leaf of what is returned.
        wrap: wrapper -> `call` with the target's function or module wrapped.
        with_changed_constants: function of one tensor -> `call` with that function applied to the tensors among the arguments
            that are not differentiated, such as labels and masks.
        index_buffers: integer buffers of the module, which may point at rows of the inputs.
        user_functions: names of the user's autograd.Functions and registered operators in the graph of the outputs.
        uses_triton: whether one of them is defined in a file that uses Triton.
        module: the target, if it is or contains a module whose class is not PyTorch's; None otherwise.
        draws_random: whether the target draws random numbers: tensors of another shape then get other numbers.
        describe_carried_state: () -> notes on buffers that a call changes and the next one reads.
        upstream: cotangents that a model sends to the outputs: one per output, None for an output that gets none. None if
            the target is not called inside a model.
        backward_location: file and line of the backward of the first of `user_functions`.
    """

    leaves: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    eps: float
    make_tensors: Callable[[], list[Tensor]]
    call: LayerFunction
    call_for_all_outputs: LayerFunction
    wrap: Callable[[Wrapper], LayerFunction]
    with_changed_constants: Callable[[Callable[[Tensor], Tensor]], LayerFunction]
    index_buffers: tuple[Tensor, ...]
    user_functions: tuple[str, ...]
    uses_triton: bool
    module: Module | None
    draws_random: bool
    describe_carried_state: Callable[[], tuple[str, ...]]
    upstream: Sequence[Tensor | None] | None = None
    backward_location: Location | None = None
