"""The state of modules that a target can reach: saved before a check and restored after it."""

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

# The attributes in which a module registers its parameters, buffers and submodules.
REGISTRIES = ("_parameters", "_buffers", "_modules")


@contextmanager
def restoring(target: Any) -> Iterator[None]:
    """Restore on exit the parameters, buffers, attributes and training flags of every module that the target can reach.

    Registered tensors get their values back in place, as do lists, dicts, sets and tensors among the attributes.
    """
    saved = [(m, _save_state(m)) for root in find_modules(target) for m in root.modules()]
    try:
        with _without_parametrization_cache():
            yield
    finally:
        for module, state in saved:
            _restore(module, state)


@contextmanager
def _without_parametrization_cache() -> Iterator[None]:
    """Turn off `parametrize.cached()`, under which a weight would not change with its parameters."""
    saved = parametrize._cache_enabled, parametrize._cache
    parametrize._cache_enabled, parametrize._cache = 0, {}
    try:
        yield
    finally:
        parametrize._cache_enabled, parametrize._cache = saved


def find_modules(target: Any) -> list[torch.nn.Module]:
    """Return the modules that a target can reach.

    These are the target, what it is bound to or partially applied to, and modules among its closure and globals.
    """
    modules: dict[int, torch.nn.Module] = {}
    for value in _iterate_referenced(target):
        if issubclass(type(value), torch.nn.Module):  # unlike `isinstance`, it does not ask a proxy for its `__class__`
            modules[id(value)] = value
    return list(modules.values())


def _iterate_referenced(target: Any) -> Iterator[Any]:
    """Yield the target and the values that its code can refer to."""
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


def _save_state(module: torch.nn.Module) -> dict[str, Any]:
    """Return all that `_restore` needs, without submodules."""
    tensors = [t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None]
    attributes = {name: value for name, value in vars(module).items() if name not in REGISTRIES}
    return {
        "class": type(module),
        "registered": [(registry, {**registry}) for name in REGISTRIES if isinstance(registry := vars(module).get(name), dict)],
        "values": [(t, t.detach().clone()) for t in tensors if not (is_lazy(t) or t.is_meta)],
        "lazy": [(t, type(t)) for t in tensors if is_lazy(t)],
        "attributes": attributes,
        "contents": {name: _copy_contents(value) for name, value in attributes.items()},
    }


def _copy_contents(value: Any, visited: frozenset[int] = frozenset()) -> Any:
    """Copy the contents of a tensor, an array or a container; None for anything else.

    A container's contents pair each element with the copy of its own contents.
    """
    if isinstance(value, torch.Tensor):
        return None if is_lazy(value) else value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy() if value.flags.writeable else None
    if id(value) in visited:
        return None
    visited |= {id(value)}
    if type(value) in (dict, OrderedDict, defaultdict):
        return {key: (x, _copy_contents(x, visited)) for key, x in value.items()}
    if type(value) in (list, tuple):
        return [(x, _copy_contents(x, visited)) for x in value]
    return value.copy() if type(value) is set else None


def _restore(module: torch.nn.Module, state: dict[str, Any]) -> None:
    """Restore what `_save_state` saved."""
    if type(module) is not state["class"]:  # A lazy module changes its class when it is initialised.
        module.__class__ = state["class"]
    for registry, registered in state["registered"]:
        registry.clear()
        registry.update(registered)
    with torch.no_grad():
        for tensor, kind in state["lazy"]:
            if not is_lazy(tensor):
                tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
                tensor.__class__ = kind
        for tensor, value in state["values"]:
            _restore_tensor(tensor, value)
    for name in [n for n in vars(module) if n not in REGISTRIES and n not in state["attributes"]]:
        del module.__dict__[name]
    for name, value in state["attributes"].items():
        module.__dict__[name] = value
        _restore_contents(value, state["contents"][name])


def _restore_contents(value: Any, contents: Any) -> None:
    """Restore the contents of a tensor, an array or a container: the same elements, with their old contents."""
    if contents is None:
        return
    if isinstance(value, torch.Tensor):
        _restore_tensor(value.detach(), contents)
    elif isinstance(value, np.ndarray):
        np.copyto(value, contents)
    elif isinstance(value, set):
        value.clear()
        value.update(contents)
    elif isinstance(value, dict):
        value.clear()
        value.update({key: x for key, (x, _) in contents.items()})
        for x, inside in contents.values():
            _restore_contents(x, inside)
    else:
        if isinstance(value, list):
            value[:] = [x for x, _ in contents]
        for x, inside in contents:
            _restore_contents(x, inside)


def _restore_tensor(tensor: torch.Tensor, value: torch.Tensor) -> None:
    """Copy a value into a tensor unless it has that value, so that the tensor's version changes only if it must."""
    if not sparse.is_same_tensor(tensor, value):
        tensor.copy_(value)


@contextmanager
def restoring_attributes(module: Any) -> Iterator[None]:
    """Restore on exit what a module's forward assigns to itself or its submodules: counters, caches, the training flag."""
    saved = [(m, dict(m.__dict__)) for m in module.modules()]
    try:
        yield
    finally:
        for m, attributes in saved:
            m.__dict__.clear()
            m.__dict__.update(attributes)


@dataclass(frozen=True)
class TensorAttribute:
    """An attribute of a module that is a tensor, or a pytree with tensors, but no parameter or buffer.

    Attributes:
        module: that has it.
        name: of the attribute.
        path: from the outermost module: 'blocks.3.mask'.
        tensors: in it.
    """

    module: torch.nn.Module
    name: str
    path: str
    tensors: tuple[torch.Tensor, ...]


def find_tensor_attributes(module: torch.nn.Module) -> list[TensorAttribute]:
    """Find the tensor attributes of a module and its submodules."""
    attributes = []
    for path, m in module.named_modules():
        for name, value in vars(m).items():
            tensors = () if name in REGISTRIES else tuple(x for x in flatten(value).leaves if isinstance(x, torch.Tensor))
            if tensors:
                attributes.append(TensorAttribute(m, name, f"{path}.{name}".lstrip("."), tensors))
    return attributes


def replace_tensors(attribute: TensorAttribute, replacements: Mapping[int, torch.Tensor]) -> None:
    """Replace tensors in an attribute.

    Args:
        attribute: whose value changes.
        replacements: the new tensors, by the id of those that they replace.
    """
    attributes = attribute.module.__dict__
    attributes[attribute.name] = tree_map(lambda x: replacements.get(id(x), x), attributes[attribute.name])


@contextmanager
def switching_train_mode(module: Any) -> Iterator[None]:
    """Switch a module from training to evaluation or back, as its `train` method does, and restore the mode on exit."""
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    with restoring_attributes(module):
        try:
            module.train(not module.training)
            yield
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
