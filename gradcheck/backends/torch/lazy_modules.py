"""Modules that create their parameters at their first call: PyTorch's lazy modules and any other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

from gradcheck.backends.flat_call import flatten_call
from gradcheck.backends.torch.module_state import restoring
from gradcheck.backends.torch.tensors import copy_detached
from gradcheck.backends.user_code import call_user_code
from gradcheck.seeds import make_generator
from gradcheck.targets.framework import TargetKind, classify_target
from gradcheck.trees import tree_map

if TYPE_CHECKING:
    from gradcheck.targets.signature import Inputs


@contextmanager
def initialising(target: Any, inputs: Inputs, stream: str, *, always: bool) -> Iterator[None]:
    """Call a lazy module once, so that its parameters exist; on exit it is as lazy as before.

    Args:
        target: the module; for anything else nothing happens.
        stream: name of the random stream that seeds the new parameters.
        always: whether to call a module, too, that does not look lazy.

    Raises:
        TargetError: if the module raises.
    """
    if classify_target(target) is not TargetKind.MODULE or not (
        always or any(map(is_lazy, registered_tensors(target).values()))
    ):
        yield
        return
    with restoring(target):
        call_once(target, inputs, stream)
        yield


def call_once(module: Any, inputs: Inputs, stream: str) -> None:
    """Call a module once, with copies of the inputs, so that it creates its parameters."""
    torch.manual_seed(int(make_generator(0, stream, "lazy").integers(2**31)))
    args, kwargs = tree_map(_copy_input, (tuple(inputs.args), dict(inputs.kwargs)))
    with torch.no_grad():
        call_user_code("the target", module, args, kwargs, flatten_call(inputs))


def has_new_tensors(target: Any, known_names: set[str]) -> bool:
    """Say whether a module has other parameters and buffers than those known by name."""
    return classify_target(target) is TargetKind.MODULE and known_names != {
        k for k, t in registered_tensors(target).items() if not is_lazy(t)
    }


def registered_tensors(module: Any) -> dict[str, torch.Tensor]:
    """Return a module's parameters and buffers by name, lazy ones included; tied ones under their first name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _copy_input(x: Any) -> Any:
    return copy_detached(x, twin=False) if isinstance(x, torch.Tensor) else x
