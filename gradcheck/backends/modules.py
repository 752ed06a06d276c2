"""Modules that a target can reach: their state is put back when a check is over."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

OWN = ("_parameters", "_buffers", "_modules")


@contextmanager
def kept(target: Any) -> Iterator[None]:
    """Put back parameters, buffers, attributes and training flags of every module that the target is, holds or names.

    Registered tensors get their values back in place; so do lists, dicts, sets and tensors among the attributes.
    """
    saved = [(m, _state(m)) for root in reachable(target) for m in root.modules()]
    try:
        yield
    finally:
        for module, state in saved:
            _restore(module, state)


def reachable(target: Any) -> list[torch.nn.Module]:
    """The target itself, what it is bound to or partially applied to, and modules among its closure and globals."""
    found: dict[int, torch.nn.Module] = {}
    for value in _named(target):
        if isinstance(value, torch.nn.Module):
            found[id(value)] = value
    return list(found.values())


def _named(target: Any) -> Iterator[Any]:
    yield target
    while isinstance(target, functools.partial):
        yield from (*target.args, *target.keywords.values())
        target = target.func
        yield target
    yield getattr(target, "__self__", None)
    function = getattr(target, "__func__", target)
    if inspect.isfunction(function):
        try:
            variables = inspect.getclosurevars(function)
        except (TypeError, ValueError):
            return
        yield from (*variables.nonlocals.values(), *variables.globals.values())


def _state(module: torch.nn.Module) -> dict[str, Any]:
    tensors = {**module._parameters, **module._buffers}
    values = {name: t.detach().clone() for name, t in tensors.items() if t is not None}
    attributes = {name: value for name, value in vars(module).items() if name not in OWN}
    return {"values": values, "attributes": attributes, "contents": {n: _contents(v) for n, v in attributes.items()}}


def _contents(value: Any) -> Any:
    """A copy of what a container or tensor holds; None for anything else, and for what cannot be copied."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if type(value) in (list, dict, set):
        try:
            return copy.deepcopy(value)
        except Exception:
            return copy.copy(value)
    return None


def _restore(module: torch.nn.Module, state: dict[str, Any]) -> None:
    with torch.no_grad():
        for name, value in state["values"].items():
            tensor = module._parameters.get(name, module._buffers.get(name))
            if tensor is not None and not torch.equal(tensor, value):
                tensor.copy_(value)
        for name in [n for n in vars(module) if n not in OWN and n not in state["attributes"]]:
            del module.__dict__[name]
        for name, value in state["attributes"].items():
            module.__dict__[name] = value
            contents = state["contents"][name]
            if contents is not None:
                _refill(value, contents)


def _refill(value: Any, contents: Any) -> None:
    refill: Callable[[], Any] | None = None
    if isinstance(value, torch.Tensor):
        refill = None if torch.equal(value.detach(), contents) else lambda: value.detach().copy_(contents)
    elif isinstance(value, list):
        refill = lambda: value.__setitem__(slice(None), contents)  # noqa: E731 - the three kinds side by side
    elif isinstance(value, dict | set):
        refill = lambda: (value.clear(), value.update(contents))  # noqa: E731
    if refill is not None:
        refill()


@contextmanager
def attributes_restored(module: Any) -> Iterator[None]:
    """Put back what a module's forward assigns to itself or its submodules (counters, caches, the training flag)."""
    saved = [(m, dict(m.__dict__)) for m in module.modules()]
    try:
        yield
    finally:
        for m, attributes in saved:
            m.__dict__.clear()
            m.__dict__.update(attributes)
