"""What a derivative of one's own must honour besides its value, in every way that PyTorch asks for it.

Each file holds one contract: its name, the usual mend, and how it is tried. PyTorch's own operators honour them, so they are
tried where a function of the user's own is in the graph, and that of modes where a module of the user's own is the target.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from gradcheck import progress
from gradcheck.backends.torch.parameter_swap import until_differentiated
from gradcheck.checks.contracts.torch import upstream
from gradcheck.checks.contracts.torch.plain_vjp import (
    Baseline,
    Raised,
    Remarked,
    Unsupported,
    baseline,
)
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Contract, Verdict
from gradcheck.tracebacks import one_line, user_frames

if TYPE_CHECKING:
    from gradcheck.backends.layer_view import Layer
    from gradcheck.evidence.line import F64

# If one of these is broken, the contracts that follow would only report its consequences.
FIRST = ("primal", "backward-intact", "deterministic-backward")
REST = (
    "gradient-form",
    "some-outputs",
    "requires-grad",
    "cotangent-layout",
    "input-layout",
    "retain-graph",
    "state",
    "accumulation",
    "batched-vjp",
    "checkpoint",
    "double-backward",
    "empty-batch",
    "one-element",
    "adjoint",
    "autocast",
    "opcheck",
    "train-eval",
    "upstream",
    "compile",
)
# Predicted cost of a contract, as a multiple of one forward and backward pass.
CALLS = {
    "requires-grad": 10,
    "train-eval": 12,
    "double-backward": 8,
    "autocast": 6,
    "batched-vjp": 5,
    "cotangent-layout": 5,
    "input-layout": 4,
    "adjoint": 4,
}
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
    first, rest = ([name for name in names if name not in skipped and _applies(name, layer)] for names in (FIRST, REST))
    if not first and not rest:
        return []
    predicted, allowed = math.inf, budget or SECONDS
    calls = sum(CALLS.get(name, CALLS_OTHERWISE) for name in (*first, *rest))
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
    for done, name in enumerate([*first, *rest]):
        if name in rest and any(contract.verdict is Verdict.FAIL for contract in found[: len(first)]):
            break
        progress.tell(name, done, len(first) + len(rest))
        found.append(_tried(load(name), base))
    return found


def load(name: str) -> ModuleType:
    """Import the module of a contract: the file of this folder that is named after it."""
    return import_module(f"{__package__}.{name.replace('-', '_')}")


def _applies(name: str, layer: Layer) -> bool:
    """Most are of Functions of the user's own; one is of modules, with or without these, and one of what is inside a model."""
    if name == "train-eval":
        return layer.module is not None
    return bool(layer.own) and (name != "upstream" or upstream.applies(layer))


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
