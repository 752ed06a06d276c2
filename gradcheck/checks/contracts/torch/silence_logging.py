"""PyTorch's loggers, silent for a while: what they would say is told by us, in fewer words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Let PyTorch log nothing but what the user set a level for, as by TORCH_LOGS."""
    logger = logging.getLogger("torch")  # its level is that of all below it that have none
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
