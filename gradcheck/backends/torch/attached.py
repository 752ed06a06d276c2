"""The derivative that a function would have if nothing in it were detached: it shows what a `detach` hides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from gradcheck.tracebacks import format_calling_line

if TYPE_CHECKING:
    from gradcheck.backends.flat import F64

GRAD_SWITCHES = (torch._C._set_grad_enabled,)  # what torch.no_grad and torch.set_grad_enabled call
DETACHING = (torch.Tensor.detach, torch.Tensor.detach_, torch.detach, torch.Tensor.data.__get__)  # type: ignore[attr-defined]


class IgnoreDetach(TorchFunctionMode):
    """Makes `.detach()`, `.data` and `torch.no_grad()` do nothing, and notes the lines of the user that call them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, None] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch, unless it would cut the graph."""
        if func in GRAD_SWITCHES and args and not args[0]:
            self.lines.setdefault(format_calling_line())
            return None
        if func in DETACHING and args[0].requires_grad:
            self.lines.setdefault(format_calling_line())
            return args[0]
        return func(*args, **(kwargs or {}))


def make_attached_vjp(
    run: Callable[..., Any], make_vjp: Callable[[Callable[..., Any]], Callable[[F64, F64], F64]]
) -> Callable[[F64, F64], tuple[F64, tuple[str, ...]]]:
    """Make the vector-Jacobian products of the function with nothing detached; they also return the lines that detach.

    Args:
        run: calls the target.
        make_vjp: makes the vector-Jacobian products of a call.
    """

    def vjp(point: F64, cotangents: F64) -> tuple[F64, tuple[str, ...]]:
        mode = IgnoreDetach()

        def run_attached(*args: Any, **kwargs: Any) -> Any:
            with mode:
                return run(*args, **kwargs)

        return make_vjp(run_attached)(point, cotangents), tuple(filter(None, mode.lines))

    return vjp
