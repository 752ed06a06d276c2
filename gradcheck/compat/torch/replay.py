"""What PyTorch's checkers run, once: so that an exception of the user's code is raised as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad

from gradcheck.backends.global_state import preserving
from gradcheck.backends.torch.derivatives import forward_mode_level, tangent_of
from gradcheck.backends.torch.functional import is_differentiable
from gradcheck.compat.torch.call import as_tuple, requires_grad
from gradcheck.compat.torch.target import copy_inputs, differentiable_outputs, make_target
from gradcheck.trees import leaves_of

if TYPE_CHECKING:
    from gradcheck.compat.torch.call import Call


def run_as_pytorch(call: Call) -> Any:
    """Call the function, then its derivatives that are checked; return what the function returned.

    Raises:
        Exception: whatever one of them raises.
    """
    with preserving(), torch.enable_grad():
        fn, inputs = make_target(call)
        inputs = copy_inputs(inputs)
        returned = fn(*inputs)
        outputs = differentiable_outputs(returned)
        if outputs and call.checks_reverse:
            sources = [x for x in inputs if requires_grad(x)]
            torch.autograd.grad(outputs, sources, [torch.ones_like(out) for out in outputs], allow_unused=True)
        if outputs and call.checks_forward:
            push_forward(call)
    return returned


def push_forward(call: Call) -> list[torch.Tensor | None]:
    """Return the tangent of each floating-point output, for tangents of ones.

    Raises:
        Exception: whatever forward mode raises.
    """
    fn, inputs = make_target(call)
    with preserving(), forward_mode_level():
        duals = [_make_dual(x) if requires_grad(x) else x for x in inputs]
        return [tangent_of(out) for out in as_tuple(fn(*duals)) if is_differentiable(out)]


def _make_dual(x: torch.Tensor) -> torch.Tensor:
    return forward_ad.make_dual(x.detach(), torch.ones_like(x))  # type: ignore[no-untyped-call,no-any-return]


def forward_mode_is_lost(call: Call) -> bool:
    """Whether forward mode runs, but no output carries a tangent.

    Raises:
        Exception: whatever forward mode raises.
    """
    tangents = push_forward(call)
    return bool(tangents) and all(tangent is None for tangent in tangents)


def has_floating_output(returned: Any) -> bool:
    """Whether a function returned any tensor of floating or complex numbers."""
    return any(map(is_differentiable, leaves_of(returned)))
