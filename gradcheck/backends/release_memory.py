"""Memory that was freed but is still held by an allocator."""

from __future__ import annotations

import ctypes
import os
import sys


def release_unused() -> None:
    """Make allocators return unused memory to the system.

    The gradients of a module are freed one by one, which leaves gaps that no long vector fits into. Only GNU's C library and
    PyTorch's allocator for GPUs offer a call for this; with other allocators nothing happens.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if os.name == "posix" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
