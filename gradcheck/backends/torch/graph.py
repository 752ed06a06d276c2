"""The autograd graph behind outputs: which of its Functions are the user's, and what they are called with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

AfterCall = Callable[[Any], None]  # takes what a call returned
OPERATOR_BACKWARD_PREFIX = "GeneratedBackwardFor_"  # starts the name of the Function that torch.library makes for an operator
GRADCHECK_PREFIX = "gradcheck.backends."  # starts the module name of gradcheck's own Functions, which make sparse tensors
MAX_NODES = 100_000  # nodes of a graph up to which it is searched for Functions of the user


def is_torch_class(kind: type) -> bool:
    """Say whether a class is PyTorch's own."""
    return kind.__module__.partition(".")[0] == "torch"


def find_user_functions(outputs: Sequence[Any]) -> tuple[type, ...]:
    """Return the user's autograd.Functions in the graph of some outputs, the last applied first."""
    return tuple(dict.fromkeys(type(node)._forward_cls for node in find_user_nodes(outputs)))


def find_user_nodes(outputs: Sequence[Any]) -> list[Any]:
    """Return the nodes of the user's autograd.Functions in the graph of some outputs."""
    return [node for node in walk_graph(outputs) if _is_user_function(getattr(type(node), "_forward_cls", None))]


def walk_graph(outputs: Sequence[Any]) -> Iterator[Any]:
    """Yield the nodes of the graph behind some outputs, at most MAX_NODES."""
    return walk_nodes([out.grad_fn for out in outputs if isinstance(out, torch.Tensor) and out.grad_fn is not None])


def walk_nodes(nodes: Sequence[Any]) -> Iterator[Any]:
    """Yield some nodes of a graph and those behind them, at most MAX_NODES."""
    visited, waiting = set[Any](), list(nodes)
    while waiting and len(visited) < MAX_NODES:
        node = waiting.pop()
        if node not in visited:
            visited.add(node)
            waiting += [following for following, _ in node.next_functions if following is not None]
            yield node


def _is_user_function(function: type | None) -> bool:
    """Say whether a class of a node's forward is the user's; None for a node of PyTorch's own operations."""
    if function is None:
        return False
    foreign = is_torch_class(function) or function.__module__.startswith(GRADCHECK_PREFIX)
    return not foreign or is_custom_operator(function)


def is_custom_operator(function: type) -> bool:
    """Say whether a Function is the backward that the user registered for an operator with torch.library."""
    operator = function.__name__.removeprefix(OPERATOR_BACKWARD_PREFIX)
    return operator != function.__name__ and not operator.startswith(("aten_", "prims_"))


@contextmanager
def watching_methods(
    functions: set[Any], names: Sequence[str], before_call: Callable[[Any, tuple[Any, ...]], AfterCall]
) -> Iterator[None]:
    """Watch calls of methods of autograd.Functions: their arguments, and what they return before PyTorch converts it.

    Args:
        functions: classes whose methods are watched inside the context.
        names: of the methods; inherited ones of PyTorch are left out.
        before_call: takes the Function and the arguments; what it returns is called with what the method returned.
    """
    saved = [(f, n, vars(f).get(n), getattr(f, n)) for f in functions for n in names if _overrides(f, n)]

    def watch(function: Any, method: Callable[..., Any]) -> Callable[..., Any]:
        def call_method(*args: Any, **kwargs: Any) -> Any:
            after_call = before_call(function, args)
            returned = method(*args, **kwargs)
            after_call(returned)
            return returned

        return call_method

    try:
        for function, name, _, method in saved:
            setattr(function, name, staticmethod(watch(function, method)))
        yield
    finally:
        for function, name, original, _ in saved:
            if original is None:  # inherited from another class
                delattr(function, name)
            else:
                setattr(function, name, original)


def _overrides(function: Any, name: str) -> bool:
    """Say whether a Function has another method of a name than `torch.autograd.Function`."""
    return getattr(function, name) is not getattr(torch.autograd.Function, name)
