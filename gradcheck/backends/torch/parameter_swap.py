"""The tensors that a module is called with replace its parameters until its gradients are computed.

Activation checkpointing inside a module computes the forward again during the backward, with the parameters that the module
has then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch

from gradcheck.backends.torch.lazy_modules import registered_tensors

_OPEN: ContextVar[ExitStack | None] = ContextVar("_OPEN", default=None)


@contextmanager
def swap_scope(*, separate: bool = False) -> Iterator[None]:
    """Let modules keep the tensors that they were called with last, until the outermost such context ends.

    Args:
        separate: whether to end them with this context even inside another one.
    """
    if _OPEN.get() is not None and not separate:
        yield
        return
    with ExitStack() as stack:
        token = _OPEN.set(stack)
        try:
            yield
        finally:
            _OPEN.reset(token)


def swap_in(module: torch.nn.Module, tensors: Mapping[str, Any]) -> None:
    """Replace a module's parameters and buffers, tied ones everywhere, until the context of `swap_scope` ends.

    Args:
        module: whose submodules are included.
        tensors: the new ones, by name; without a context nothing happens.
    """
    stack = _OPEN.get()
    if stack is None:
        return
    replacements = {id(t): tensors[name] for name, t in registered_tensors(module).items() if name in tensors}
    for submodule in module.modules():
        for registry in (submodule._parameters, submodule._buffers):
            replaced = {name: t for name, t in registry.items() if id(t) in replacements}
            stack.callback(partial(_assign, registry, replaced))
            _assign(registry, {name: replacements[id(t)] for name, t in replaced.items()})


def _assign(registry: MutableMapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """Assign the tensors one by one: the registry of a scripted module has no `update`."""
    for name, tensor in tensors.items():
        registry[name] = tensor
