"""Where a target's tensors are: on one device, which may be asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.errors import InputError
from gradcheck.targets.framework import Kind, kind_of
from gradcheck.targets.signature import Inputs
from gradcheck.trees import tree_map

if TYPE_CHECKING:
    from collections.abc import Sequence

ABSENT = "device={!r} is not there: PyTorch finds {}"


def placed(target: Any, inputs: Inputs, device: str) -> tuple[Any, Inputs]:
    """The target and its inputs on a device: a module that is elsewhere is copied, tensors too.

    Raises:
        InputError: where there is no such device.
    """
    wanted = _existing(device)

    def moved(x: Any) -> Any:
        return x.detach().to(wanted).requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x

    args, kwargs = tree_map(moved, (inputs.args, dict(inputs.kwargs)))
    if kind_of(target) is Kind.MODULE and any(t.device != wanted for t in (*target.parameters(), *target.buffers())):
        target = copy.deepcopy(target).to(wanted)
    return target, Inputs(args, kwargs, inputs.labels)


def refuse_mixed(paths: Sequence[str], leaves: Sequence[Any]) -> None:
    """Say that tensors are on two devices; one of no dimension may be on the host, as PyTorch allows.

    Raises:
        InputError: with a tensor on each.
    """
    found: dict[str, str] = {}
    for path, x in zip(paths, leaves, strict=True):
        if isinstance(x, torch.Tensor) and not (x.ndim == 0 and x.device.type == "cpu"):
            found.setdefault(str(x.device), path)
    if len(found) > 1:
        told = ", ".join(f"{path} on {device}" for device, path in found.items())
        raise InputError(f"inputs on {len(found)} devices: {told}; move them to one, or say which with device= (--device)")
    if "meta" in found:
        raise InputError(f"{found['meta']} is on the meta device, which holds no numbers: give a tensor on another")


def uses_tf32(leaves: Sequence[Any]) -> bool:
    """Whether products of float32 tensors among some leaves may be computed with the ten bits of TF32."""
    there = any(isinstance(x, torch.Tensor) and x.is_cuda and x.dtype is torch.float32 for x in leaves)
    return there and (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute products in float32 itself for a while."""
    kinds: tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [kind.allow_tf32 for kind in kinds]
    try:
        for kind in kinds:
            kind.allow_tf32 = False
        yield
    finally:
        for kind, allowed in zip(kinds, before, strict=True):
            kind.allow_tf32 = allowed


def _existing(device: str) -> torch.device:
    try:
        wanted = torch.device(device)
        torch.zeros(1, device=wanted)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ", ".join(["cpu", *(f"{kind}:{k}" for kind, k in _others())])
        why = str(error).partition("\n")[0]
        raise InputError(f"{ABSENT.format(device, there)} ({why})") from None
    return torch.zeros(1, device=wanted).device  # with its number


def _others() -> list[tuple[str, int]]:
    """Accelerators by kind and number."""
    if not torch.accelerator.is_available():
        return []
    kind = torch.accelerator.current_accelerator()
    return [(kind.type, k) for k in range(torch.accelerator.device_count())] if kind is not None else []
