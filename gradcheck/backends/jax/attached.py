"""Differentiate a function as if it did not call `stop_gradient`, to see what that hides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax._src.lax import lax

from gradcheck.tracebacks import format_calling_line


@contextmanager
def ignore_stop_gradient() -> Iterator[dict[str, None]]:
    """Make `jax.lax.stop_gradient` do nothing; yield the lines of the user that call it, as they are noted."""
    lines: dict[str, None] = {}
    original = lax._stop_gradient

    def keep(x: Any) -> Any:
        lines.setdefault(format_calling_line())
        return x

    lax._stop_gradient = keep
    try:
        with jax.disable_jit():  # what JAX has compiled, it would not trace again
            yield lines
    finally:
        lax._stop_gradient = original
