"""A time limit on PyTorch code: what runs past it is stopped at its next operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class TimeLimitExceeded(BaseException):
    """The time is over. It is no `Exception`, so that code which retries after errors does not catch it."""


class TimeLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which the operators of PyTorch raise TimeLimitExceeded once a time has passed, in a backward pass too.

    Code without operators of PyTorch is not stopped, nor is a backward pass that runs on a thread of its own (on a GPU).
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.deadline = time.perf_counter() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time has passed."""
        return time.perf_counter() > self.deadline

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call an operator, unless the time is over.

        Raises:
            TimeLimitExceeded: if it is.
        """
        if self.is_over:
            raise TimeLimitExceeded
        return function(*args, **(kwargs or {}))
