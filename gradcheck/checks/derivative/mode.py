"""The choice between checking every entry and checking random directions: by size, predicted memory and predicted time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.evidence import richardson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.program import Program
    from gradcheck.options import Options

# Full mode goes up to this many input numbers, ...
MAX_ENTRIES = 1024
# ... this many numbers read and written in all evaluations together, ...
MAX_WORK = 2**26
# ... this much predicted time in seconds, if the user set no `--budget`, ...
MAX_SECONDS = 30.0
# ... and this much memory in bytes, if the user set no `--memory`.
MAX_MEMORY = 2.0 * 2**30
# Evaluations of the function for a central difference that knows its own error.
EVALUATIONS_PER_ENTRY = 5
# Numbers that full mode holds for each entry and channel in estimates and claims, and the channels that it holds at most.
NUMBERS_PER_ENTRY, MAX_CHANNELS = 40, 16

BY_TIME = "(--budget allows more, --mode full does so)"  # ends the note on a choice that the time decided


@dataclass(frozen=True)
class Mode:
    """A mode, and why it is not full mode ('' if it is, or if the user chose it).

    Attributes:
        name: 'full' or 'probe'.
        why: a note for the report.
    """

    name: str
    why: str = ""


def choose_mode(program: Program, options: Options, seconds: float) -> Mode:
    """Choose full mode if it is affordable.

    Args:
        program: what is checked.
        options: `mode`, `budget` and `memory` decide.
        seconds: duration of one evaluation.
    """
    n, m = program.point.size, program.value.size
    if options.mode != "auto":
        return Mode(options.mode)
    if n > MAX_ENTRIES:
        return Mode(
            "probe", f"probes: {n} input numbers exceed the {MAX_ENTRIES} that are checked one by one (--mode full does so)"
        )
    memory, predicted = NUMBERS_PER_ENTRY * 8 * n * min(m, MAX_CHANNELS), EVALUATIONS_PER_ENTRY * n * seconds
    if n * (n + m) * EVALUATIONS_PER_ENTRY > MAX_WORK:
        why = f"{n} input and {m} output numbers are too many to be checked one by one (--mode full does so)"
    elif memory > (options.memory or MAX_MEMORY):
        why = f"one by one, {n} input and {m} output numbers would take {math.ceil(memory / 2**20)} MiB (--memory allows more)"
    elif predicted > (options.budget or MAX_SECONDS):
        why = f"one by one, {n} input numbers would take about {predicted:.0f} s {BY_TIME}"
    else:
        return Mode("full")
    return Mode("probe", f"probes: {why}")


def is_close_call(options: Options, mode: str, notes: Sequence[str], seconds: float) -> bool:
    """Say whether another machine, or this one under another load, may choose another mode because of the time.

    Args:
        options: `mode` and `budget` decided.
        mode: the mode that was chosen.
        notes: of the check.
        seconds: that the check took.
    """
    if options.mode != "auto":
        return False
    took_long = mode == "full" and seconds > (options.budget or MAX_SECONDS) / 10
    return took_long or any(note.endswith(BY_TIME) for note in notes)


def explain_over_budget(options: Options, seconds: float) -> str:
    """Say why even two random directions would exceed the budget; '' if they would not."""
    predicted = richardson.MIN_EVALUATIONS * seconds
    if options.budget is None or predicted <= options.budget:
        return ""
    return f"random directions would take about {predicted:.2g} s, and --budget is {options.budget:g} s"


def needs_every_entry(program: Program, options: Options) -> bool:
    """Say whether every entry is estimated at once, because somebody asks for it."""
    differentiates_trace = options.order > 1 and any(claim.derived for claim in program.claims)
    return bool(options.every_entry or options.stories or options.checks or differentiates_trace)
