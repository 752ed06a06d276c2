"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import os
import sys


def given_back() -> None:
    """Let the allocator give back what it keeps: a module's gradients, freed one by one, leave gaps that no long vector fits.

    The C library of GNU alone can be asked, and PyTorch for that of its GPUs; others are left to themselves.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if os.name == "posix" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
