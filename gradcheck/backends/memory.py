"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import os


def given_back() -> None:
    """Let the allocator give back what it keeps: a module's gradients, freed one by one, leave gaps that no long vector fits.

    The C library of GNU alone can be asked; others are left to themselves.
    """
    if os.name == "posix" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
