"""Where the graph is cut between the loss and a parameter that receives no gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradcheck.training_step.outputs import hooking
from gradcheck.trees import flatten


@dataclass
class Trace:
    """The calls of the modules in one forward, and what the loss depends on.

    Attributes:
        calls: by the path of a module, the nodes of the graph that its outputs come from; None for an output without one.
        reached: the nodes that the loss depends on.
        is_routed: whether places of the largest or smallest of some numbers were taken, as a router does.
    """

    calls: dict[str, list[Any]] = field(default_factory=dict)
    reached: set[Any] = field(default_factory=set)
    is_routed: bool = False

    def is_reached(self, path: str) -> bool:
        """Whether the loss depends on an output of a module through the graph."""
        return any(node in self.reached for node in self.calls[path] if node is not None)

    def follow(self, loss: Tensor) -> None:
        """Collect the nodes of the graph that the loss depends on."""
        pending = [loss.grad_fn]
        while pending:
            node = pending.pop()
            if node is not None and node not in self.reached:
                self.reached.add(node)
                pending += [before for before, _ in node.next_functions]


@contextmanager
def tracing(model: torch.nn.Module) -> Iterator[Trace]:
    """Record the calls of a model's modules."""
    trace = Trace()

    def record(path: str, _module: torch.nn.Module, returned: Any) -> None:
        tensors = [x for x in flatten(returned).leaves if isinstance(x, Tensor) and x.is_floating_point()]
        trace.calls.setdefault(path, []).extend(x.grad_fn for x in tensors)

    with hooking(model, record):
        yield trace


def explain_missing_gradient(trace: Trace, model: torch.nn.Module, name: str) -> str:
    """Say where the graph is cut for a parameter without a gradient."""
    path = name.rpartition(".")[0]
    chain = list(_list_ancestors(path))  # from the module that holds the parameter to the model
    called = [p for p in chain if p in trace.calls]
    if not called:
        return f"{_name(path)} is never called"
    if path not in trace.calls and list(model.get_submodule(path).children()):
        return f"{_name(path)} is never called itself; {_name(called[0])} uses it without this parameter"
    if path not in trace.calls:
        return f"{_name(path)} is not called by {_name(called[0])}, or its weights are read there through .data or detach()"
    without = [p for p in called if all(node is None for node in trace.calls[p])]
    if without and without[0] == path:
        return f"the output of {_name(path)} requires no gradient: look for no_grad(), detach() or .data around its forward"
    unreached = [p for p in called if not trace.is_reached(p)]
    if not unreached:
        return f"the forward of {_name(path)} does not use it, or uses .data or a detached copy of it"
    outermost = unreached[-1]
    if outermost == "":
        return "the loss does not depend on the model's output through the graph: look for detach(), .item() or no_grad() there"
    user = _name(outermost.rpartition(".")[0])
    advice = f"look for detach(), .data or no_grad() in the forward of {user}"
    return f"the loss does not reach the output of {_name(outermost)}: {advice}"


def _list_ancestors(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _name(path: str) -> str:
    return path or "the model"
