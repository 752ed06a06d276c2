"""What a backward of one's own returns has the dtype and device of its input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gradcheck.backends.torch.graph import own_nodes, watched
from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.plain_vjp import Remarked

if TYPE_CHECKING:
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "gradient-form"
MEND = ""
WHY = "PyTorch converts it without a word, at the cost of memory and time; is a constant of another dtype in the backward?"


def broken(base: Baseline) -> str:
    """Always '': PyTorch converts such a gradient.

    Raises:
        Remarked: with which gradient has another form than its input.
    """
    leaves, found = base.leaves(), list[str]()
    outputs = base.layer.call(leaves)
    nodes = own_nodes(outputs)
    functions = {type(node)._forward_cls for node in nodes}
    with watched(functions, ("backward", "vjp"), lambda _, args: lambda returned: found.extend(_misfits(args[0], returned))):
        plain.pulled(outputs, leaves, base.given())
    if found:
        raise Remarked("; ".join([*dict.fromkeys(found), WHY]))
    return ""


def _misfits(node: Any, returned: Any) -> Iterator[str]:
    gradients = returned if isinstance(returned, tuple) else (returned,)
    asked = [k for k, wanted in enumerate(node.needs_input_grad) if wanted]
    ahead = [edge for edge in node.next_functions if edge[0] is not None]  # of tensors alone, unlike the gradients
    for k, (following, place) in zip(asked, ahead, strict=True):
        g = gradients[k]
        if g is None:
            continue
        wanted = following._input_metadata[place]
        of = f"{type(node)._forward_cls.__name__}'s backward returns a gradient"
        if g.dtype != wanted.dtype and g.is_complex() == wanted.dtype.is_complex:
            yield f"{of} in {_plain(g.dtype)} for input {k}, which is in {_plain(wanted.dtype)}"
        if g.device != wanted.device:
            yield f"{of} on {g.device} for input {k}, which is on {wanted.device}"


def _plain(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
