"""What a derivative of one's own must honour besides its value, in every way that PyTorch asks for it.

Each file holds one contract: its name, the usual mend, and how it is tried. PyTorch's own operators honour them, so they are
tried where a function of the user's own is in the graph, and that of modes where a module of the user's own is the target.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from gradcheck import listening
from gradcheck.backends.held import until_differentiated
from gradcheck.checks.contracts import (
    accumulation,
    adjoint,
    autocast,
    compiled,
    cotangents,
    empty,
    form,
    inputs,
    intact,
    mapped,
    modes,
    operators,
    primal,
    recomputed,
    repeatable,
    single,
    some_outputs,
    state,
    twice,
    twofold,
    upstream,
    wanted,
)
from gradcheck.checks.contracts.baseline import Baseline, Raised, Remarked, Unsupported, baseline
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
    single,
    adjoint,
    autocast,
    operators,
    modes,
    upstream,
    compiled,
)
CALLS = {wanted: 10, modes: 12, twofold: 8, autocast: 6, mapped: 5, cotangents: 5, inputs: 4, adjoint: 4}  # times one vjp ...
CALLS_OTHERWISE = 2  # ... that a contract may take, about
SECONDS = 10.0  # that all of them may take, where the user set no budget


def examine(
    layer: Layer, moved: Callable[[F64], F64], label: str, skipped: Collection[str], budget: float | None, notes: list[str]
) -> list[Contract]:
    """Try each contract but those that are skipped.

    Args:
        moved: how far the gradient of a cotangent (M,) moves when the inputs do by their own rounding, (N,).
        budget: seconds that all of them may take.
    """
    first, rest = ([one for one in part if one.NAME not in skipped and _applies(one, layer)] for part in (FIRST, REST))
    if not first and not rest:
        return []
    predicted, allowed = math.inf, budget or SECONDS
    calls = sum(CALLS.get(contract, CALLS_OTHERWISE) for contract in (*first, *rest))
    for _ in range(2):  # a first call loads what it needs
        began = time.perf_counter()
        try:
            with until_differentiated():
                base = baseline(layer, moved, label)
        except Exception:
            return []  # what the derivative's own check tells
        predicted = min(predicted, calls * (time.perf_counter() - began))
        if predicted <= allowed:
            break
    if predicted > allowed:
        of = ", ".join(layer.own) or type(layer.module).__name__
        notes.append(f"contracts of {of} not tried: they would take about {predicted:.0f} s (--budget)")
        return []
    if not all(np.all(np.isfinite(g)) for g in base.gradients):
        return []
    found: list[Contract] = []
    for done, contract in enumerate([*first, *rest]):
        if contract in rest and any(one.verdict is Verdict.FAIL for one in found[: len(first)]):
            break
        listening.tell(contract.NAME, done, len(first) + len(rest))
        found.append(_tried(contract, base))
    return found


def _applies(contract: ModuleType, layer: Layer) -> bool:
    """Most are of Functions of the user's own; one is of modules, with or without these, and one of what is inside a model."""
    if contract is modes:
        return layer.module is not None
    return bool(layer.own) and (contract is not upstream or upstream.applies(layer))


def _tried(contract: ModuleType, base: Baseline) -> Contract:
    try:
        with until_differentiated():
            told = contract.broken(base)
    except Remarked as remark:
        return Contract(contract.NAME, Verdict.INCONCLUSIVE, str(remark))
    except Unsupported as why:
        return Contract(contract.NAME, Verdict.PASS, f"not tried in every way: {why}")
    except Exception as error:
        met = error.__cause__ if isinstance(error, Raised) and error.__cause__ else error
        told = f"{f'{error} ' if met is not error else ''}it raises {one_line(met)}\n{user_frames(met)}".rstrip()
    if not told:
        return Contract(contract.NAME, Verdict.PASS, CONTRACTS[contract.NAME])
    first, *frames = told.split("\n", 1)
    return Contract(contract.NAME, Verdict.FAIL, "\n".join([f"{first.rstrip('.')}; {contract.MEND}", *frames]))
