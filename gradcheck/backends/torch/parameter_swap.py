"""The tensors that a module is called with stay in it until its gradients are there.

What is checkpointed inside a module computes its forward again during the backward, with whatever the module holds then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch

from gradcheck.backends.torch.lazy_modules import registered

_OPEN: ContextVar[ExitStack | None] = ContextVar("_OPEN", default=None)


@contextmanager
def until_differentiated(*, apart: bool = False) -> Iterator[None]:
    """Within the outermost such block, or one `apart`, modules keep what they were called with last."""
    if _OPEN.get() is not None and not apart:
        yield
        return
    with ExitStack() as stack:
        token = _OPEN.set(stack)
        try:
            yield
        finally:
            _OPEN.reset(token)


def hold(module: torch.nn.Module, tensors: Mapping[str, Any]) -> None:
    """Put tensors in the place of a module's parameters and buffers, tied ones everywhere, until the block ends."""
    stack = _OPEN.get()
    if stack is None:
        return
    by = {id(t): tensors[name] for name, t in registered(module).items() if name in tensors}
    for one in module.modules():
        for registry in (one._parameters, one._buffers):
            stack.callback(partial(registry.update, dict(registry)))
            registry.update({name: by[id(t)] for name, t in registry.items() if id(t) in by})
