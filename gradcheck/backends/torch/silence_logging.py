"""Silence PyTorch's loggers: gradcheck reports what they would say, in fewer words."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence_logging() -> Iterator[None]:
    """Let PyTorch log nothing, except for loggers whose level the user has set, for example by TORCH_LOGS.

    Its structured trace, which `TORCH_TRACE` asks for, is made of empty messages for all other handlers, such as pytest's.
    """
    logger, trace = logging.getLogger("torch"), logging.getLogger("torch.__trace")
    level, was_disabled = logger.level, trace.disabled  # the level holds for all loggers below it that have none
    logger.setLevel(logging.CRITICAL + 1)
    trace.disabled = was_disabled or "TORCH_TRACE" not in os.environ
    try:
        yield
    finally:
        logger.setLevel(level)
        trace.disabled = was_disabled
