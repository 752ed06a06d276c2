"""What PyTorch's checkers run, once: so that an exception of the user's code is raised as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

from gradcheck.backends.global_state import preserving
from gradcheck.backends.torch.derivatives import forward_mode_level, tangent_of
from gradcheck.backends.torch.functional import is_differentiable
from gradcheck.compat.answer import CheckCall
from gradcheck.compat.torch.call import Call, as_tuple, requires_grad
from gradcheck.compat.torch.target import record_graph
from gradcheck.trees import leaves_of


def run_as_pytorch(check: CheckCall, call: Call) -> Any:
    """Call the function, then its derivatives that a call asks for; return what the function returned.

    Raises:
        Exception: whatever one of them raises.
    """
    with preserving(), torch.enable_grad():
        returned, outputs, sources = record_graph(check)
        if outputs and call.checks_reverse:
            cotangents = [torch.ones_like(out) for out in outputs]
            for _ in range(2):  # as PyTorch does, which a backward may not survive that writes to what it saved
                torch.autograd.grad(outputs, sources, cotangents, allow_unused=True, retain_graph=True)
        if outputs and call.checks_forward:
            push_forward(check)
    return returned


def push_forward(check: CheckCall) -> list[torch.Tensor | None]:
    """Return the tangent of each floating-point output, for tangents of ones.

    Raises:
        Exception: whatever forward mode raises.
    """
    with preserving(), forward_mode_level():
        make_dual: Callable[..., Any] = forward_ad.make_dual
        duals = [make_dual(x.detach(), torch.ones_like(x)) if requires_grad(x) else x for x in check.inputs]
        return [tangent_of(out) for out in as_tuple(check.fn(*duals)) if is_differentiable(out)]


def forward_mode_is_lost(check: CheckCall) -> bool:
    """Whether forward mode runs, but no output carries a tangent.

    Raises:
        Exception: whatever forward mode raises.
    """
    tangents = push_forward(check)
    return bool(tangents) and all(tangent is None for tangent in tangents)


def has_differentiable_output(check: CheckCall) -> bool:
    """Whether any output of a function carries a gradient."""
    with preserving(), torch.enable_grad():
        return bool(record_graph(check)[1])


def has_floating_output(returned: Any) -> bool:
    """Whether a function returned any tensor of floating or complex numbers."""
    return any(map(is_differentiable, leaves_of(returned)))
