"""Devices: a target and its inputs must be on one device, which the user may choose."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from gradcheck.errors import InputError
from gradcheck.targets.framework import TargetKind, classify_target
from gradcheck.targets.signature import Inputs

NO_SUCH_DEVICE = "device={!r} is not available: PyTorch finds {}"


def move_to_device(target: Any, inputs: Inputs, device: str) -> tuple[Any, Inputs]:
    """Return the target and its inputs on a device; modules and tensors that are elsewhere are copied.

    Raises:
        InputError: if there is no such device.
    """
    destination = _find_device(device)

    def move(x: Any) -> Any:
        return x.detach().to(destination).requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x

    if classify_target(target) is TargetKind.MODULE and any(
        t.device != destination for t in (*target.parameters(), *target.buffers())
    ):
        target = copy.deepcopy(target).to(destination)
    return target, inputs.map_leaves(move)


def refuse_mixed_devices(paths: Sequence[str], leaves: Sequence[Any]) -> None:
    """Refuse tensors on several devices, and those on the meta device.

    A tensor without dimensions may be on the host, as PyTorch allows.

    Raises:
        InputError: if there is such a tensor; names one on each device.
    """
    first_paths: dict[str, str] = {}
    for path, x in zip(paths, leaves, strict=True):
        if isinstance(x, torch.Tensor) and not (x.ndim == 0 and x.device.type == "cpu"):
            first_paths.setdefault(str(x.device), path)
    if len(first_paths) > 1:
        listed = ", ".join(f"{path} on {device}" for device, path in first_paths.items())
        raise InputError(
            f"inputs on {len(first_paths)} devices: {listed}; move them to one, or choose one with device= (--device)"
        )
    if "meta" in first_paths:
        raise InputError(f"{first_paths['meta']} is on the meta device, which holds no numbers: give a tensor on another")


def uses_tf32(leaves: Sequence[Any]) -> bool:
    """Say whether products of float32 tensors among some leaves may be computed in TF32, with ten bits."""
    has_float32 = any(isinstance(x, torch.Tensor) and x.is_cuda and x.dtype is torch.float32 for x in leaves)
    return has_float32 and (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute products of float32 tensors in full float32 inside the context."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32

    def allow(in_products: bool, in_convolutions: bool) -> None:
        matmul.allow_tf32 = in_products
        cudnn.set_flags(_allow_tf32=in_convolutions)  # works after `torch.backends.disable_global_flags`, too

    try:
        allow(False, False)
        yield
    finally:
        allow(*before)


def _find_device(device: str) -> torch.device:
    """Return the device of a name; raise an InputError that lists the available ones if PyTorch has no such device."""
    try:
        requested = torch.device(device)
        torch.zeros(1, device=requested)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        available = ", ".join(["cpu", *(f"{kind}:{k}" for kind, k in _list_accelerators())])
        reason = str(error).partition("\n")[0]
        raise InputError(f"{NO_SUCH_DEVICE.format(device, available)} ({reason})") from None
    return torch.zeros(1, device=requested).device  # A tensor's device has its number: 'cuda:0' for 'cuda'.


def _list_accelerators() -> list[tuple[str, int]]:
    """List the accelerators by kind and number."""
    if not torch.accelerator.is_available():
        return []
    kind = torch.accelerator.current_accelerator()
    return [(kind.type, k) for k in range(torch.accelerator.device_count())] if kind is not None else []
