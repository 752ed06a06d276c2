"""Silence PyTorch's loggers: gradcheck reports what they would say, in fewer words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence_logging() -> Iterator[None]:
    """Let PyTorch log nothing, except for loggers whose level the user has set, for example by TORCH_LOGS."""
    logger = logging.getLogger("torch")  # its level holds for all loggers below it that have none
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
