"""Modules that a target can reach: their state is put back when a check is over."""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from gradcheck.backends.torch import sparse
from gradcheck.trees import flatten, tree_map

OWN = ("_parameters", "_buffers", "_modules")


@contextmanager
def kept(target: Any) -> Iterator[None]:
    """Put back parameters, buffers, attributes and training flags of every module that the target is, holds or names.

    Registered tensors get their values back in place; so do lists, dicts, sets and tensors among the attributes.
    """
    saved = [(m, _state(m)) for root in reachable(target) for m in root.modules()]
    try:
        with _uncached():
            yield
    finally:
        for module, state in saved:
            _restore(module, state)


@contextmanager
def _uncached() -> Iterator[None]:
    """Within parametrize.cached() a weight would stay what it was, wherever its parameters are moved."""
    saved = parametrize._cache_enabled, parametrize._cache
    parametrize._cache_enabled, parametrize._cache = 0, {}
    try:
        yield
    finally:
        parametrize._cache_enabled, parametrize._cache = saved


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
    tensors = [t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None]
    attributes = {name: value for name, value in vars(module).items() if name not in OWN}
    return {
        "class": type(module),
        "registered": [(held, {**held}) for name in OWN if isinstance(held := vars(module).get(name), dict)],
        "values": [(t, t.detach().clone()) for t in tensors if not (is_lazy(t) or t.is_meta)],
        "lazy": [(t, type(t)) for t in tensors if is_lazy(t)],
        "attributes": attributes,
        "contents": {name: _contents(value) for name, value in attributes.items()},
    }


def _contents(value: Any, seen: frozenset[int] = frozenset()) -> Any:
    """A copy of what a tensor, an array or a container holds, each element of it beside its own; None for anything else."""
    if isinstance(value, torch.Tensor):
        return None if is_lazy(value) else value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy() if value.flags.writeable else None
    if id(value) in seen:
        return None
    seen |= {id(value)}
    if type(value) in (dict, OrderedDict, defaultdict):
        return {key: (x, _contents(x, seen)) for key, x in value.items()}
    if type(value) in (list, tuple):
        return [(x, _contents(x, seen)) for x in value]
    return value.copy() if type(value) is set else None


def _restore(module: torch.nn.Module, state: dict[str, Any]) -> None:
    if type(module) is not state["class"]:  # a lazy module is of another class once it is initialised
        module.__class__ = state["class"]
    for held, registered in state["registered"]:
        held.clear()
        held.update(registered)
    with torch.no_grad():
        for tensor, kind in state["lazy"]:
            if not is_lazy(tensor):
                tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
                tensor.__class__ = kind
        for tensor, value in state["values"]:
            _set(tensor, value)
    for name in [n for n in vars(module) if n not in OWN and n not in state["attributes"]]:
        del module.__dict__[name]
    for name, value in state["attributes"].items():
        module.__dict__[name] = value
        _refill(value, state["contents"][name])


def _refill(value: Any, contents: Any) -> None:
    """Put back what was held: the same elements, as they were."""
    if contents is None:
        return
    if isinstance(value, torch.Tensor):
        _set(value.detach(), contents)
    elif isinstance(value, np.ndarray):
        np.copyto(value, contents)
    elif isinstance(value, set):
        value.clear()
        value.update(contents)
    elif isinstance(value, dict):
        value.clear()
        value.update({key: x for key, (x, _) in contents.items()})
        for x, inside in contents.values():
            _refill(x, inside)
    else:
        if isinstance(value, list):
            value[:] = [x for x, _ in contents]
        for x, inside in contents:
            _refill(x, inside)


def _set(tensor: torch.Tensor, value: torch.Tensor) -> None:
    if not sparse.same(tensor, value):
        tensor.copy_(value)


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


@dataclass(frozen=True)
class Plain:
    """An attribute of a module that is a tensor, or a pytree with tensors, and no parameter or buffer."""

    module: torch.nn.Module
    name: str
    path: str
    tensors: tuple[torch.Tensor, ...]


def plain_attributes(module: torch.nn.Module) -> list[Plain]:
    """Those of a module and all that are in it."""
    found = []
    for path, m in module.named_modules():
        for name, value in vars(m).items():
            tensors = () if name in OWN else tuple(x for x in flatten(value).leaves if isinstance(x, torch.Tensor))
            if tensors:
                found.append(Plain(m, name, f"{path}.{name}".lstrip("."), tensors))
    return found


def exchange(plain: Plain, by: Mapping[int, torch.Tensor]) -> None:
    """Put other tensors in the place of some, which are told by their id."""
    held = plain.module.__dict__
    held[plain.name] = tree_map(lambda x: by.get(id(x), x), held[plain.name])


@contextmanager
def in_the_other_mode(module: Any) -> Iterator[None]:
    """Switch a module from training to evaluation or back, as its own `train` does, and put back all that this changes."""
    wanted = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    with attributes_restored(module):
        try:
            module.train(not module.training)
            yield
        finally:
            for parameter, flag in wanted:
                parameter.requires_grad_(flag)
