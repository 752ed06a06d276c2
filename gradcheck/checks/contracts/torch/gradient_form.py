"""Contract `gradient-form`: the gradient that a user's backward returns has the dtype and device of its input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradcheck.backends.torch.graph import find_user_nodes, watching_methods
from gradcheck.backends.torch.tensors import dtype_name
from gradcheck.checks.contracts.torch.support.plain_vjp import Baseline, Remark, compute_vjp

NAME = "gradient-form"
FIX = ""  # This contract is never broken: a gradient of another form is a remark.
CONVERTED = "PyTorch converts it silently, at the cost of memory and time; is a constant of another dtype in the backward?"


def find_breach(base: Baseline) -> str:
    """Return '': PyTorch converts a gradient of another form.

    Raises:
        Remark: if a gradient has another form than its input.
    """
    (leaves, outputs), mismatches = base.new_call(), list[str]()
    functions = {type(node)._forward_cls for node in find_user_nodes(outputs)}

    def watch(_: Any, args: tuple[Any, ...]) -> Any:
        return lambda returned: mismatches.extend(_find_mismatches(args[0], returned))

    with watching_methods(functions, ("backward", "vjp"), watch):
        compute_vjp(outputs, leaves, base.new_cotangents())
    if mismatches:
        raise Remark("; ".join([*dict.fromkeys(mismatches), CONVERTED]))
    return ""


def _find_mismatches(node: Any, returned: Any) -> Iterator[str]:
    """Describe each gradient that a node's backward returned in another dtype or on another device than its input."""
    gradients = returned if isinstance(returned, tuple) else (returned,)
    needed = [k for k, needs_grad in enumerate(node.needs_input_grad) if needs_grad]
    # There is an edge for each tensor among the inputs, but a gradient for each input.
    edges = [edge for edge in node.next_functions if edge[0] is not None]
    for k, (following, place) in zip(needed, edges, strict=True):
        g = gradients[k]
        if g is None:
            continue
        expected = following._input_metadata[place]
        subject = f"{type(node)._forward_cls.__name__}'s backward returns a gradient"
        if g.dtype != expected.dtype and g.is_complex() == expected.dtype.is_complex:
            yield f"{subject} in {dtype_name(g.dtype)} for input {k}, which is in {dtype_name(expected.dtype)}"
        if g.device != expected.device:
            yield f"{subject} on {g.device} for input {k}, which is on {expected.device}"
