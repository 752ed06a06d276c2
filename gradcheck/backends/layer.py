"""A torch target as autograd meets it: tensors of its own dtype at the primal, and the outputs made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.backends.program import Leaf

REGISTERED = "GeneratedBackwardFor_"  # what torch.library names the backward of an operator by
OURS = "gradcheck.backends."  # where Functions of our own are, which make sparse tensors
NODES = 100_000  # of a graph that are looked through for functions of the user's own


@dataclass(frozen=True)
class Layer:
    """What contracts call.

    Attributes:
        leaves, outputs: the differentiable inputs and outputs.
        eps: relative spacing of floats in the dullest dtype among them.
        tensors: () -> new tensors of the leaves at the primal, in the layout they were given in, without gradients.
        call: tensors of the leaves -> the differentiable outputs.
        own: the autograd.Functions and registered operators of the user's own among what it calls, by name.
        random: whether it draws random numbers, which fall elsewhere in tensors of another form.
        upstream: what a model sends back to the outputs, one a leaf, None where nothing; None outside of a model.
    """

    leaves: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    eps: float
    tensors: Callable[[], list[Tensor]]
    call: Callable[[Sequence[Tensor]], list[Tensor]]
    own: tuple[str, ...]
    random: bool
    upstream: Sequence[Tensor | None] | None = None


def own_functions(outputs: Sequence[Any]) -> tuple[str, ...]:
    """Names of the autograd.Functions in the graph of some outputs that are not PyTorch's own."""
    return tuple(dict.fromkeys(type(node)._forward_cls.__name__ for node in own_nodes(outputs)))


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
    return function is not None and (not function.__module__.startswith(("torch.", OURS)) or _registered(function))


def _registered(function: type) -> bool:
    """Whether it stands for an operator of the user's own (torch.library) that was given a backward."""
    of = function.__name__.removeprefix(REGISTERED)
    return of != function.__name__ and not of.startswith(("aten_", "prims_"))


@contextmanager
def watched(functions: set[Any], names: Sequence[str], look: Callable[[Any, tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Let `look` see what some Functions' own methods of these names are given and return, before PyTorch touches it.

    Args:
        look: takes the Function, the arguments and what was returned.
    """
    saved = [(f, n, vars(f).get(n), getattr(f, n)) for f in functions for n in names if _has_own(f, n)]

    def watching(function: Any, method: Callable[..., Any]) -> Callable[..., Any]:
        def told(*args: Any, **kwargs: Any) -> Any:
            returned = method(*args, **kwargs)
            look(function, args, returned)
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
