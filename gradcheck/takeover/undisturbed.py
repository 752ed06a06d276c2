"""The suite's process as it was: everything that our own runs of its code could change is put back."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradcheck.backends.global_state import preserving
from gradcheck.compat.checker import Arguments

_MAX_DEPTH = 4  # of lists, tuples and dictionaries in which tensors and modules are looked for


@contextlib.contextmanager
def undisturbed(arguments: Arguments) -> Iterator[None]:
    """Restore on exit random states, warning filters, PyTorch's modes, modules, and the gradients of tensors.

    Inside, warnings, log records and what the code prints are dropped, as it runs more often than the suite means it to.

    Args:
        arguments: of the call, whose random generators, tensors and modules are restored, too.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserving(arguments))
        if "torch" in sys.modules:
            stack.enter_context(_tensors_restored(arguments))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(_log_records_dropped())
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


@contextlib.contextmanager
def _log_records_dropped() -> Iterator[None]:
    """Drop the log records of this thread; those of other threads are none of ours."""
    thread, handle = threading.get_ident(), logging.Logger.handle

    def handle_others(logger: logging.Logger, record: logging.LogRecord) -> None:
        if threading.get_ident() != thread:
            handle(logger, record)

    logging.Logger.handle = handle_others  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        logging.Logger.handle = handle  # type: ignore[method-assign]


@contextlib.contextmanager
def _tensors_restored(arguments: Arguments) -> Iterator[None]:
    """Restore the gradients of tensors, and modules that the arguments are, are bound to, or refer to."""
    from gradcheck.backends.torch.module_state import find_modules, restoring  # which imports PyTorch

    torch = sys.modules["torch"]
    values = list(_iterate_leaves(arguments, _MAX_DEPTH))
    functions = [value for value in values if callable(value) and not isinstance(value, torch.Tensor)]
    parameters = [p for function in functions for module in find_modules(function) for p in module.parameters()]
    tensors = [value for value in (*values, *parameters) if isinstance(value, torch.Tensor) and value.is_leaf]
    saved = [(tensor, tensor.grad, None if tensor.grad is None else tensor.grad.detach().clone()) for tensor in tensors]
    try:
        with contextlib.ExitStack() as stack:
            for function in functions:
                stack.enter_context(restoring(function))
            yield
    finally:
        for tensor, gradient, values_before in saved:
            if gradient is not None and values_before is not None:
                gradient.detach().copy_(values_before)
            tensor.grad = gradient


def _iterate_leaves(value: Any, depth: int) -> Iterator[Any]:
    """Yield what is inside lists, tuples and dictionaries."""
    if isinstance(value, dict | tuple | list):
        for part in (value.values() if isinstance(value, dict) else value) if depth else ():
            yield from _iterate_leaves(part, depth - 1)
    else:
        yield value
