"""What a backward of one's own returns has the dtype and device of its input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradcheck.backends.layer import own_nodes
from gradcheck.checks.contracts import baseline as plain
from gradcheck.checks.contracts.baseline import Remarked

if TYPE_CHECKING:
    from gradcheck.checks.contracts.baseline import Baseline

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
    with _watched(functions, lambda node, gradients: found.extend(_misfits(node, gradients))):
        plain.pulled(outputs, leaves, base.given())
    if found:
        raise Remarked("; ".join([*dict.fromkeys(found), WHY]))
    return ""


@contextmanager
def _watched(functions: set[Any], look: Callable[[Any, tuple[Any, ...]], None]) -> Iterator[None]:
    """Let `look` see what the backwards of some Functions return, before PyTorch converts it."""
    owners = {
        owner for function in functions for owner in function.__mro__ if not owner.__module__.startswith("torch.autograd")
    }
    saved = [(owner, name, vars(owner)[name]) for owner in owners for name in ("backward", "vjp") if name in vars(owner)]

    def watching(backward: Callable[..., Any]) -> Callable[..., Any]:
        def watched(ctx: Any, *cotangents: Any) -> Any:
            found = backward(ctx, *cotangents)
            look(ctx, found if isinstance(found, tuple) else (found,))
            return found

        return watched

    try:
        for function, name, _ in saved:
            setattr(function, name, staticmethod(watching(getattr(function, name))))
        yield
    finally:
        for function, name, own in saved:
            setattr(function, name, own)


def _misfits(node: Any, gradients: tuple[Any, ...]) -> Iterator[str]:
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
