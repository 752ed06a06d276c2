"""Growth of a process's peak memory during a check."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import targets
import torch
from targets import CHECKERS, FULL_MODE, PROBE_MODE

from gradcheck.backends.release_memory import release_unused


def measure_peak_growth(name: str, checker: str) -> int:
    """Measure by how many bytes a check makes this process's peak memory grow.

    A check of a small target and a bare call come first, so that modules loaded at first use do not count.
    """
    target = next(t for t in targets.TARGETS if t.name == name)
    problem = target.build()
    CHECKERS[checker](target.small())
    with torch.no_grad():
        problem.fn(*problem.inputs)
    if checker not in (FULL_MODE, PROBE_MODE):
        problem.forward()  # makes the float64 copy that torch is given
    gc.collect()
    release_unused()  # memory freed before must not be reused, as its use would not show in the peak
    before = read_peak(reset=True)
    CHECKERS[checker](problem)
    return max(read_peak() - before, 0)


def read_peak(*, reset: bool = False) -> int:
    """Read the largest resident memory of this process in bytes, since the last reset if the system supports it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return next(1024 * int(line.split()[1]) for line in status.read_text(encoding="ascii").splitlines() if "VmHWM" in line)
