"""One forward of a module, with what each of its submodules was called with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends.modules import attributes_restored
from gradcheck.trees import tree_map

if TYPE_CHECKING:
    from gradcheck.targets.signature import Inputs

CALLS = 4  # of one module that are kept, the first ones
HOLDERS = (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)  # compute nothing of their own


@dataclass
class Captured:
    """A submodule, and the inputs of its first calls; tensors that want gradients did so in the model.

    Attributes:
        path: from the model, 'blocks.3.norm'; '' for the model itself.
        count: how often it was called in all.
    """

    path: str
    module: torch.nn.Module
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    count: int = 0


def captured(model: torch.nn.Module, inputs: Inputs) -> list[Captured]:
    """Call a model once, with gradients recorded, and keep what its submodules are given.

    A module that is reachable by several paths is named by the first. Those that were not called have no calls.
    """
    found = [Captured(path, module) for path, module in model.named_modules()]
    handles = [one.module.register_forward_pre_hook(_keeping(one), with_kwargs=True) for one in found]
    try:
        with torch.enable_grad(), attributes_restored(model):
            model(*tree_map(_wanting, inputs.args), **tree_map(_wanting, dict(inputs.kwargs)))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _keeping(one: Captured) -> Callable[..., None]:
    def keep(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        one.count += 1
        if len(one.calls) < CALLS and not isinstance(one.module, HOLDERS):
            one.calls.append((tree_map(_copied, args), tree_map(_copied, kwargs)))

    return keep


def _wanting(x: Any) -> Any:
    """A copy that wants a gradient where it can have one."""
    if not isinstance(x, torch.Tensor):
        return x
    return x.detach().clone().requires_grad_(x.is_floating_point() or x.is_complex())


def _copied(x: Any) -> Any:
    return x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x
