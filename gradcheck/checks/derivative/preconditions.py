"""What is asked of a function before its derivative: finite values, the same ones every time, inputs left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.errors import TargetError
from gradcheck.evidence import noise
from gradcheck.results import Contract, Reason, Verdict
from gradcheck.tracebacks import one_line, user_frames

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64

RANDOM = 1e-3  # relative spread of repeated evaluations from which on a function is random rather than noisy


@dataclass(frozen=True)
class Gates:
    """What the gates found: contracts, the spread of repeated evaluations (M,), and a reason to stop here."""

    contracts: tuple[Contract, ...]
    spread: F64
    stop: Reason | None
    detail: str = ""


def examine(evaluator: Evaluator, *, random: bool = False) -> Gates:
    """Evaluate the primal twice and look.

    Args:
        random: whether the function is declared to return another value on every call.

    Raises:
        TargetError: where the function raises on its second call.
    """
    program = evaluator.program
    value = program.value
    nothing = np.zeros(value.shape)
    if program.point.size == 0 or value.size == 0:
        which = [leaf.path for leaf in (*program.leaves, *program.outputs) if leaf.entries == 0]
        return Gates((), nothing, Reason.EMPTY, f"{', '.join(which)} has no entry")
    bad = [leaf for leaf in program.outputs if not np.all(np.isfinite(value[leaf.span]))]
    if bad:
        return Gates((), nothing, Reason.NON_FINITE, "; ".join(_where(value, leaf) for leaf in bad))
    again = evaluator(program.point)
    if evaluator.raised is not None:
        error = evaluator.raised
        raise TargetError(f"the function raised on its second call: {one_line(error)}", user_frames(error))
    if not np.all(np.isfinite(again)):
        return Gates(
            (), nothing, Reason.NONDETERMINISTIC, "the second call returned another shape, or values that are not finite"
        )
    same = bool(np.array_equal(again, value))
    spread = nothing if same else noise.spread(lambda _: evaluator(program.point), value)
    contracts = (_deterministic(same, spread, value), _intact(program.mutated(), {leaf.path for leaf in program.leaves}))
    if not random and np.any(spread > RANDOM * np.maximum(np.abs(value), np.max(np.abs(value)))):
        return Gates(contracts, spread, Reason.NONDETERMINISTIC, contracts[0].message)
    return Gates(contracts, spread, None)


def _where(value: F64, leaf: Leaf) -> str:
    part = value[leaf.span]
    first = int(np.flatnonzero(~np.isfinite(part))[0])
    index = list(leaf.index(leaf.start + first))
    bad = int(np.sum(~np.isfinite(part)))
    return f"{leaf.path}{index if index else ''} is {part[first]} ({bad} of {part.size} not finite)"


def _deterministic(same: bool, spread: F64, value: F64) -> Contract:
    if same:
        return Contract("deterministic", Verdict.PASS, "the same value on every call")
    size = float(np.max(spread) / max(np.max(np.abs(value)), np.max(spread)))
    return Contract(
        "deterministic", Verdict.INCONCLUSIVE, f"repeated calls differ by {size:.1e} of the output, counted as noise"
    )


def _intact(mutated: list[str], differentiable: set[str]) -> Contract:
    """Running statistics and other inputs that are not differentiated may be updated in place; the others may not."""
    wrong = [path for path in mutated if path in differentiable]
    if not wrong:
        others = f"; {', '.join(mutated)}, not differentiated, is updated in place" if mutated else ""
        return Contract("inputs-intact", Verdict.PASS, f"the differentiable inputs are left alone{others}")
    return Contract("inputs-intact", Verdict.FAIL, f"the function changes its input {', '.join(wrong)} in place")
