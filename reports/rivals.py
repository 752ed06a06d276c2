"""PyTorch's and JAX's own gradient checkers, at their defaults, on the same autograd Functions.

PyTorch's fast mode, once it has failed, fills its message from a run of the slow mode: hours at the sizes studied here. That
message is left out; the verdict is not touched.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any
from unittest import mock

import jax
import numpy as np
import torch
from jax.test_util import check_grads
from torch import Tensor

LARGEST = 300  # inputs, and outputs, up to which the slow mode is asked
MODULE = sys.modules["torch.autograd.gradcheck"]


def torch_slow(planted: Any, inputs: Sequence[Tensor], output: Tensor) -> bool | None:
    """`torch.autograd.gradcheck`: whether it passes; None where the problem is too large."""
    if max(sum(x.numel() for x in inputs), output.numel()) > LARGEST:
        return None
    return _torch(planted, inputs, fast=False)


def torch_fast(planted: Any, inputs: Sequence[Tensor], output: Tensor) -> bool | None:
    """`torch.autograd.gradcheck(fast_mode=True)`: whether it passes."""
    return _torch(planted, inputs, fast=True)


def _torch(planted: Any, inputs: Sequence[Tensor], *, fast: bool) -> bool:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    torch.manual_seed(0)
    with warnings.catch_warnings(), mock.patch.object(MODULE, "_run_slow_mode_and_get_error", return_value=""):
        warnings.simplefilter("ignore")
        return bool(torch.autograd.gradcheck(planted.apply, leaves, fast_mode=fast, raise_exception=False))


def jax_check(planted: Any, inputs: Sequence[Tensor], output: Tensor) -> bool | None:
    """`jax.test_util.check_grads(order=1, modes=["rev"])` of a custom_vjp that calls the Function's two halves."""
    given = tuple(jax.numpy.asarray(x.numpy()) for x in inputs)
    try:
        check_grads(_in_jax(planted), given, order=1, modes=["rev"])  # type: ignore[no-untyped-call]
    except AssertionError:
        return False
    return True


def _in_jax(planted: Any) -> Any:
    @jax.custom_vjp
    def function(*xs: Any) -> Any:
        return jax.numpy.asarray(planted.apply(*map(_tensor, xs)).numpy())

    def forward(*xs: Any) -> Any:
        return function(*xs), xs

    def backward(xs: Any, v: Any) -> Any:
        leaves = [_tensor(x).requires_grad_() for x in xs]
        found = torch.autograd.grad(planted.apply(*leaves), leaves, _tensor(v))
        return tuple(jax.numpy.asarray(g.numpy()) for g in found)

    function.defvjp(forward, backward)
    return function


def _tensor(x: Any) -> Tensor:
    return torch.from_numpy(np.array(x))


jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]
RIVALS = {"torch slow": torch_slow, "torch fast": torch_fast, "JAX check_grads": jax_check}
