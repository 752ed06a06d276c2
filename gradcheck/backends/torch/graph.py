"""TODO: describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

Look = Callable[[Any], None]
REGISTERED = "GeneratedBackwardFor_"  # what torch.library names the backward of an operator by
OURS = "gradcheck.backends."  # where Functions of our own are, which make sparse tensors
NODES = 100_000  # of a graph that are looked through for functions of the user's own


def of_torch(kind: type) -> bool:
    """Whether a class is PyTorch's own."""
    return kind.__module__.partition(".")[0] == "torch"


def own_functions(outputs: Sequence[Any]) -> tuple[type, ...]:
    """The autograd.Functions in the graph of some outputs that are not PyTorch's own, the last applied first."""
    return tuple(dict.fromkeys(type(node)._forward_cls for node in own_nodes(outputs)))


def own_nodes(outputs: Sequence[Any]) -> list[Any]:
    """The nodes that they left in the graph."""
    return [node for node in nodes(outputs) if _own(getattr(type(node), "_forward_cls", None))]


def nodes(outputs: Sequence[Any]) -> Iterator[Any]:
    """The graph behind some outputs, as far as NODES of it."""
    seen = set[Any]()
    waiting = [out.grad_fn for out in outputs if isinstance(out, torch.Tensor) and out.grad_fn is not None]
    while waiting and len(seen) < NODES:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions if following is not None]
            yield node


def _own(function: type | None) -> bool:
    if function is None:
        return False
    foreign = of_torch(function) or function.__module__.startswith(OURS)
    return not foreign or _registered(function)


def _registered(function: type) -> bool:
    """Whether it stands for an operator of the user's own (torch.library) that was given a backward."""
    of = function.__name__.removeprefix(REGISTERED)
    return of != function.__name__ and not of.startswith(("aten_", "prims_"))


@contextmanager
def watched(functions: set[Any], names: Sequence[str], look: Callable[[Any, tuple[Any, ...]], Look]) -> Iterator[None]:
    """Let `look` see what some Functions' own methods of these names are given and return, before PyTorch touches it.

    Args:
        look: takes the Function and the arguments before the call; what it returns takes what was returned.
    """
    saved = [(f, n, vars(f).get(n), getattr(f, n)) for f in functions for n in names if _has_own(f, n)]

    def watching(function: Any, method: Callable[..., Any]) -> Callable[..., Any]:
        def told(*args: Any, **kwargs: Any) -> Any:
            after = look(function, args)
            returned = method(*args, **kwargs)
            after(returned)
            return returned

        return told

    try:
        for function, name, _, method in saved:
            setattr(function, name, staticmethod(watching(function, method)))
        yield
    finally:
        for function, name, own, _ in saved:
            if own is None:  # inherited
                delattr(function, name)
            else:
                setattr(function, name, own)


def _has_own(function: Any, name: str) -> bool:
    return getattr(function, name) is not getattr(torch.autograd.Function, name)
