"""Modules that make their parameters when they are first called: lazy ones of PyTorch's kind, and any other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

from gradcheck.backends.binding import take_apart
from gradcheck.backends.torch.module_state import kept
from gradcheck.backends.torch.tensors import fresh
from gradcheck.backends.user_code import call_user
from gradcheck.seeds import generator
from gradcheck.targets.framework import Kind, kind_of
from gradcheck.trees import tree_map

if TYPE_CHECKING:
    from gradcheck.targets.signature import Inputs


@contextmanager
def initialised(target: Any, inputs: Inputs, stream: str, *, surely: bool) -> Iterator[None]:
    """Call a module that is lazy once, so that its parameters are there; afterwards it is as lazy as before.

    Args:
        stream: seeds what is drawn for them.
        surely: also call one that does not look lazy.

    Raises:
        TargetError: where the module raises.
    """
    if kind_of(target) is not Kind.MODULE or not (surely or any(map(is_lazy, registered(target).values()))):
        yield
        return
    with kept(target):
        called_once(target, inputs, stream)
        yield


def called_once(module: Any, inputs: Inputs, stream: str) -> None:
    """Call a module for what it makes of itself."""
    torch.manual_seed(int(generator(0, stream, "lazy").integers(2**31)))
    args, kwargs = tree_map(_copied, (tuple(inputs.args), dict(inputs.kwargs)))
    with torch.no_grad():
        call_user("the target", module, args, kwargs, take_apart(inputs))


def grown(target: Any, known: set[str]) -> bool:
    """Whether a module has other parameters and buffers than those that were known."""
    return kind_of(target) is Kind.MODULE and known != {k for k, t in registered(target).items() if not is_lazy(t)}


def registered(module: Any) -> dict[str, torch.Tensor]:
    """A module's parameters and buffers by name, those without a shape too; tied ones under their first name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _copied(x: Any) -> Any:
    return fresh(x, wide=False) if isinstance(x, torch.Tensor) else x
