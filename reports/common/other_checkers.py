"""PyTorch's and JAX's own gradient checkers, at their defaults, on the same autograd Functions.

When PyTorch's fast mode fails, it runs the slow mode to fill its message, which takes hours at the sizes studied here. We leave
that message out; the verdict stays as it is.
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

LARGEST = 300  # the slow mode runs on problems with at most this many inputs, and as many outputs
TORCH_GRADCHECK = sys.modules["torch.autograd.gradcheck"]


def check_with_torch_slow(planted: Any, inputs: Sequence[Tensor], output: Tensor) -> bool | None:
    """Return whether `torch.autograd.gradcheck` passes; None if the problem is too large for its slow mode."""
    if max(sum(x.numel() for x in inputs), output.numel()) > LARGEST:
        return None
    return run_torch_gradcheck(planted, inputs, fast=False)


def check_with_torch_fast(planted: Any, inputs: Sequence[Tensor], output: Tensor) -> bool | None:
    """Return whether `torch.autograd.gradcheck(fast_mode=True)` passes."""
    return run_torch_gradcheck(planted, inputs, fast=True)


def run_torch_gradcheck(planted: Any, inputs: Sequence[Tensor], *, fast: bool) -> bool:
    """Return whether `torch.autograd.gradcheck` passes on copies of some inputs, at its defaults."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    torch.manual_seed(0)
    with warnings.catch_warnings(), mock.patch.object(TORCH_GRADCHECK, "_run_slow_mode_and_get_error", return_value=""):
        warnings.simplefilter("ignore")
        return bool(torch.autograd.gradcheck(planted.apply, leaves, fast_mode=fast, raise_exception=False))


def check_with_jax(planted: Any, inputs: Sequence[Tensor], output: Tensor) -> bool | None:
    """Return whether `check_grads(order=1, modes=["rev"])` passes on a custom_vjp that calls the Function's two halves."""
    arrays = tuple(jax.numpy.asarray(x.numpy()) for x in inputs)
    try:
        check_grads(_make_custom_vjp(planted), arrays, order=1, modes=["rev"])  # type: ignore[no-untyped-call]
    except AssertionError:
        return False
    return True


def _make_custom_vjp(planted: Any) -> Any:
    """Wrap an autograd Function as a JAX function whose forward and backward call PyTorch."""

    @jax.custom_vjp
    def function(*xs: Any) -> Any:
        return jax.numpy.asarray(planted.apply(*map(_to_tensor, xs)).numpy())

    def forward(*xs: Any) -> Any:
        return function(*xs), xs

    def backward(xs: Any, v: Any) -> Any:
        leaves = [_to_tensor(x).requires_grad_() for x in xs]
        gradients = torch.autograd.grad(planted.apply(*leaves), leaves, _to_tensor(v))
        return tuple(jax.numpy.asarray(g.numpy()) for g in gradients)

    function.defvjp(forward, backward)
    return function


def _to_tensor(x: Any) -> Tensor:
    return torch.from_numpy(np.array(x))


jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]
OTHER_CHECKERS = {"torch slow": check_with_torch_slow, "torch fast": check_with_torch_fast, "JAX check_grads": check_with_jax}
