"""Words for a wrong derivative inside a target: which method, where, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.verdict.diagnose import diagnose
from gradcheck.verdict.fault_facts import F64, Facts, FaultDescription, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.program import WrongCall

# The share of the largest number by which a repaired derivative may differ from the derived one.
MAX_DIFFERENCE = 1e-9
FIX_ALL = "correct these methods, or check each Function alone"


def describe_wrong_call(calls: Sequence[WrongCall]) -> FaultDescription:
    """Describe the first of some wrong calls, with what is wrong with it, and name the methods of the others."""
    first = calls[0]
    worst = int(np.argmax(np.abs(first.claimed - first.true)))
    values = f"{first.claimed.reshape(-1)[worst]:.4g} where its forward has {first.true.reshape(-1)[worst]:.4g}"
    fault = diagnose(_make_facts(first))
    relation = "" if fault.diagnosis is Diagnosis.UNKNOWN else f" ({fault.diagnosis.code}: {fault.sentence.partition(';')[0]})"
    others = [f"{call.name} at {call.place}" for call in calls if call.name != first.name]
    more = f"; {', '.join(dict.fromkeys(others))} also wrong" if others else ""
    seen = f"{first.name} at {first.place}: {first.subject} is {values}{relation}{more}"
    return describe(Diagnosis.FUNCTION, seen, FIX_ALL if others else "")


def _make_facts(call: WrongCall) -> Facts:
    """Return the facts of a call, of which the true derivative is known."""
    claim, true = (array.reshape(len(array), -1).astype(np.float64) for array in (call.claimed, call.true))
    least = MAX_DIFFERENCE * np.max(np.abs(true), initial=0.0)

    def fit(candidate: F64, offset: F64) -> tuple[float, int]:
        norm = float(np.sum(candidate**2))
        return float(np.sum(candidate * (true - offset))) / norm if norm else 0.0, int(np.count_nonzero(candidate))

    return Facts(
        claim=claim,
        x=np.zeros(claim.shape[1]),
        shape=call.claimed.shape[1:],
        width=1,
        size_names={},
        passes=lambda candidate: bool(np.max(np.abs(candidate - true), initial=0.0) <= least),
        fit=fit,
        true=true,
        wrong=np.abs(claim - true) > least,
    )
