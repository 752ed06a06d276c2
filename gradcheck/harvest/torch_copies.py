"""Signatures of calls on tensors, and copies of tensors and modules that share nothing with the program's."""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gradcheck.backends.torch.tensors import match_layout
from gradcheck.trees import flatten, tree_map

# Values of these types are kept as they are: nobody can change them.
PLAIN = (bool, int, float, complex, str, bytes, range, slice, enum.Enum, torch.dtype, torch.device, type(...), type(None))
# Values of these types tell calls apart. A float does not: it may be the number of a step.
TELLING = (bool, int, str, torch.dtype, type(None))
ARRAYS = (torch.Tensor, np.ndarray)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class NotCopiedError(Exception):
    """The arguments of a call cannot be copied; the message says why."""


def describe(value: Any) -> Any:
    """Describe a value by what tells calls apart: dtype, shape, layout, device, and whether it requires a gradient."""
    kind = type(value)
    if kind is torch.Tensor or kind is torch.nn.Parameter:  # a class of the user's may run code of its own for each of these
        try:
            return value.shape, value.stride(), value.dtype, value.requires_grad, value.get_device()
        except RuntimeError:  # a sparse tensor has no strides, and a nested one no shape
            return str(value.layout), value.numel(), value.dtype, value.requires_grad, value.get_device()
    if isinstance(value, TELLING):
        return value if kind is not bool else (bool, value)  # as 1 == True
    if isinstance(value, (tuple, list)):
        return tuple(map(describe, value))
    if isinstance(value, dict):
        return tuple((key, describe(item)) for key, item in value.items())
    return kind


def list_tensors(tree: Any) -> list[torch.Tensor]:
    """Return the tensors among the leaves of arguments.

    Raises:
        NotCopiedError: if there is a leaf that can be neither copied nor kept.
    """
    tensors = []
    for leaf in flatten(tree).leaves:
        if isinstance(leaf, torch.Tensor):
            if type(leaf) not in (torch.Tensor, torch.nn.Parameter):
                raise NotCopiedError(f"an argument is a {type(leaf).__name__}, a tensor of its own kind")
            tensors.append(leaf)
        elif not isinstance(leaf, PLAIN):
            raise NotCopiedError(f"an argument is a {type(leaf).__name__}, which may change")
    return tensors


def count_bytes(arrays: list[Any]) -> int:
    """Count the bytes of copies of some arrays."""
    return sum(x.nbytes if isinstance(x, np.ndarray) else x.numel() * x.element_size() for x in arrays)


def copy_arguments(tree: Any) -> Any:
    """Copy arguments; a tensor keeps its layout, its device, and whether it requires a gradient."""
    with torch.inference_mode(False), torch.no_grad():
        return tree_map(lambda x: _copy_tensor(x) if isinstance(x, torch.Tensor) else x, tree)


def _copy_tensor(x: torch.Tensor) -> torch.Tensor:
    values = x.detach().clone()
    return match_layout(values, x.detach()).requires_grad_(x.requires_grad)


def convert_floats(tree: Any, dtype: torch.dtype | None) -> Any:
    """Convert the floating tensors of copied arguments to a dtype; None leaves them."""

    def convert(x: Any) -> Any:
        is_float = isinstance(x, torch.Tensor) and x.is_floating_point()
        return x.detach().to(dtype).requires_grad_(x.requires_grad) if is_float and dtype is not None else x

    return tree_map(convert, tree)


class _Copies(dict[int, Any]):
    """What `copy.deepcopy` has copied, by the id of the original; arrays that were not reserved yet are."""

    def __init__(self, reserved: list[Any], reserve: Callable[[int], None]) -> None:
        super().__init__()
        self._reserved = set(map(id, reserved))
        self._reserve = reserve

    def __setitem__(self, key: int, value: Any) -> None:
        if isinstance(value, ARRAYS) and key not in self._reserved and key not in self:
            self._reserve(_count_stored(value))
        super().__setitem__(key, value)


def list_attributes(module: torch.nn.Module) -> list[Any]:
    """Return the arrays among the attributes of a module that are neither parameters nor buffers."""
    return [value for part in module.modules() for value in vars(part).values() if isinstance(value, ARRAYS)]


def _count_stored(array: Any) -> int:
    """Count the bytes that a copy of an array holds, which may show a part of them alone."""
    is_view = isinstance(array, torch.Tensor) and array.layout is torch.strided
    return array.untyped_storage().nbytes() if is_view else count_bytes([array])


def copy_module(module: torch.nn.Module, reserved: list[Any], reserve: Callable[[int], None]) -> torch.nn.Module:
    """Copy a module with its parameters. Hooks of the user's are left out: they may write to what the program still uses.

    Args:
        reserved: arrays of the module whose bytes are reserved.
        reserve: called with the bytes of each other array that the module refers to; it may raise NotCopiedError.

    Raises:
        NotCopiedError: if it cannot be copied.
    """
    try:
        with torch.inference_mode(False):
            copied = copy.deepcopy(module, _Copies(reserved, reserve))
    except NotCopiedError:
        raise
    except Exception as error:
        raise NotCopiedError(f"the module cannot be copied: {type(error).__name__}: {error}") from None
    for part in copied.modules():
        for name in HOOKS:
            hooks = getattr(part, name)
            for key in [key for key, hook in hooks.items() if not _is_from_torch(hook)]:
                del hooks[key]
    return copied


def _is_from_torch(hook: Any) -> bool:
    """Say whether a hook is PyTorch's own, such as that of `weight_norm`, which computes the weight."""
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return module.partition(".")[0] == "torch"
