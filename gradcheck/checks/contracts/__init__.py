"""What a derivative of one's own must honour besides its value, in every way that PyTorch asks for it.

Each file holds one contract: its name, the usual mend, and how it is tried. PyTorch's own operators honour them, so they are
tried where a function of the user's own is in the graph.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from gradcheck import listening
from gradcheck.checks.contracts import (
    accumulation,
    cotangents,
    empty,
    form,
    inputs,
    intact,
    mapped,
    primal,
    recomputed,
    repeatable,
    some_outputs,
    state,
    twice,
    twofold,
    upstream,
    wanted,
)
from gradcheck.checks.contracts.baseline import Baseline, Remarked, Unsupported, baseline
from gradcheck.options import CONTRACTS
from gradcheck.results import Contract, Verdict
from gradcheck.tracebacks import one_line, user_frames

if TYPE_CHECKING:
    from gradcheck.backends.layer import Layer
    from gradcheck.evidence.line import F64

FIRST: tuple[ModuleType, ...] = (primal, intact, repeatable)  # where one of these is broken, so is what comes after
REST: tuple[ModuleType, ...] = (
    form,
    some_outputs,
    wanted,
    cotangents,
    inputs,
    twice,
    state,
    accumulation,
    mapped,
    recomputed,
    twofold,
    empty,
)
CALLS = 60.0  # forwards and backwards that all of them take, about
SECONDS = 10.0  # they may take, where the user set no budget


def examine(
    layer: Layer, moved: Callable[[F64], F64], label: str, skipped: Collection[str], budget: float | None, notes: list[str]
) -> list[Contract]:
    """Try each contract but those that are skipped.

    Args:
        moved: how far the gradient of a cotangent (M,) moves when the inputs do by their own rounding, (N,).
        budget: seconds that all of them may take.
    """
    if not layer.own:
        return []
    predicted, allowed = math.inf, budget or SECONDS
    for _ in range(2):  # a first call loads what it needs
        began = time.perf_counter()
        try:
            base = baseline(layer, moved, label)
        except Exception:
            return []  # what the derivative's own check tells
        predicted = min(predicted, CALLS * (time.perf_counter() - began))
        if predicted <= allowed:
            break
    if predicted > allowed:
        notes.append(f"contracts of {', '.join(layer.own)} not tried: they would take about {predicted:.0f} s (--budget)")
        return []
    if not all(np.all(np.isfinite(g)) for g in base.gradients):
        return []
    inside = (upstream,) if upstream.applies(base) else ()
    first, rest = ([one for one in part if one.NAME not in skipped] for part in (FIRST, (*REST, *inside)))
    found: list[Contract] = []
    for done, contract in enumerate([*first, *rest]):
        if contract in rest and any(one.verdict is Verdict.FAIL for one in found[: len(first)]):
            break
        listening.tell(contract.NAME, done, len(first) + len(rest))
        found.append(_tried(contract, base))
    return found


def _tried(contract: ModuleType, base: Baseline) -> Contract:
    try:
        told = contract.broken(base)
    except Remarked as remark:
        return Contract(contract.NAME, Verdict.INCONCLUSIVE, str(remark))
    except Unsupported as why:
        return Contract(contract.NAME, Verdict.PASS, f"not tried in every way: {why}")
    except Exception as error:
        where = "; ".join(getattr(error, "__notes__", []))
        told = f"{where + ' ' if where else ''}it raises {one_line(error)}\n{user_frames(error)}"
    if not told:
        return Contract(contract.NAME, Verdict.PASS, CONTRACTS[contract.NAME])
    first, *frames = told.split("\n", 1)
    return Contract(contract.NAME, Verdict.FAIL, "\n".join([f"{first}; {contract.MEND}", *frames]))
