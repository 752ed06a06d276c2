"""The suite's process as it was: everything that our own runs of its code could change is put back."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradcheck.backends.global_state import preserving
from gradcheck.compat.checker import Arguments

_MAX_DEPTH = 4  # of lists, tuples and dictionaries in which tensors are looked for


@contextlib.contextmanager
def undisturbed(arguments: Arguments) -> Iterator[None]:
    """Restore on exit random states, warning filters, PyTorch's modes and the gradients of the arguments.

    Inside, warnings, log records and what the code prints are dropped, as it runs more often than the suite means it to.

    Args:
        arguments: of the call, whose random generators and tensors are restored, too.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserving(arguments))
        stack.enter_context(_gradients_restored(arguments))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.CRITICAL)
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


@contextlib.contextmanager
def _gradients_restored(arguments: Arguments) -> Iterator[None]:
    leaves = [tensor for tensor in _find_tensors(arguments, _MAX_DEPTH) if tensor.is_leaf]
    saved = [(tensor, tensor.grad, None if tensor.grad is None else tensor.grad.detach().clone()) for tensor in leaves]
    try:
        yield
    finally:
        for tensor, gradient, values in saved:
            if gradient is not None:
                gradient.detach().copy_(values)
            tensor.grad = gradient


def _find_tensors(value: Any, depth: int) -> Iterator[Any]:
    torch = sys.modules.get("torch")
    if torch is None or depth < 0:
        return
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _find_tensors(part, depth - 1)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _find_tensors(part, depth - 1)
