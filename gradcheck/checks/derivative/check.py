"""The heart: is the claimed derivative the derivative?

Gates, then evidence, then the interval test of every claim against it, leaf by leaf and method by method. In full mode every
partial derivative is looked at, in probe mode random directions, and the way down to an entry where those disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends import memory
from gradcheck.backends.views import restricted
from gradcheck.checks.contracts.any_target import custom_rule_primal, empty_inputs, vjp_linearity
from gradcheck.checks.derivative import (
    full,
    preconditions,
    probe,
    whole_input,
)
from gradcheck.checks.optional import registry
from gradcheck.compare import conditioning, internal_precision, jacobians, output_scaling
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.noise_floor import setting_for
from gradcheck.compare.trial import Bench
from gradcheck.errors import NoMemoryError
from gradcheck.evidence import richardson
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import CheckTable, Comparison, Contract, Partial, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import F64
    from gradcheck.backends.layer_view import Layer
    from gradcheck.backends.program import Program
    from gradcheck.compare.output_scaling import Outlook
    from gradcheck.evidence.line import Setting
    from gradcheck.options import Options
    from gradcheck.targets.location import Place

FULL_ENTRIES = 1024  # full mode up to so many input numbers ...
FULL_WORK = 2**26  # ... so many numbers touched in all ...
FULL_SECONDS = 30.0  # ... and so much predicted time
FULL_MEMORY = 2.0 * 2**30  # bytes
EVALUATIONS_PER_LINE = 5
TURNED = 2**16  # input numbers from which on the evidence must do for the vjp's linearity: its cotangent is random
NUMBERS = 40  # held for each entry and channel: what the sheets and claims of it are made of
ROWS = 16  # channels at most


@dataclass(frozen=True)
class Finding:
    """What one trial found."""

    comparisons: tuple[Comparison, ...] = ()
    contracts: tuple[Contract, ...] = ()
    checks: tuple[CheckTable, ...] = ()
    partials: tuple[Partial, ...] = ()
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    stop: Reason | None = None
    message: str = ""
    mode: str = ""
    evaluations: int = 0
    place: Place | None = None  # of the backward that made the claim, where it is the user's


def derivative(program: Program, options: Options, label: str, trial: int, partners: Sequence[Program] = ()) -> Finding:
    """Check every claim of a program, and whatever else was asked for.

    Args:
        label: names the random streams.
        partners: functions of the same inputs that the laws of differentiation are held with.

    Raises:
        TargetError: where a derivative of the user's own raises.
        ClaimError: where a hand-written derivative has the wrong form.
    """
    evaluator = Evaluator(program)
    gate = preconditions.examine(evaluator, random=options.nondeterministic)
    contracts = tuple(contract for contract in gate.contracts if options.tries(contract.name))
    if gate.stop:
        if gate.stop is Reason.NONDETERMINISTIC and options.tries("primal") and program.layer is not None:
            contracts = (*contracts, *_way_by_grad_mode(program.layer, label))
        if gate.stop is Reason.EMPTY and options.tries(empty_inputs.NAME):
            contracts = (*contracts, *empty_inputs.examine(program))
        return Finding(
            contracts=contracts,
            notes=program.notes,
            stop=gate.stop,
            message=gate.detail,
            evaluations=evaluator.count,
        )
    mode, notes = _mode(program, options, evaluator.seconds)
    dear = _too_dear(options, evaluator.seconds)
    if dear:
        return Finding(
            contracts=contracts,
            notes=program.notes,
            stop=Reason.OVER_BUDGET,
            message=dear,
            evaluations=evaluator.count,
        )
    notes = [*program.notes, *notes]
    shown: list[Partial] = []
    if mode == "full":
        bench = Bench(program, evaluator, _setting(evaluator, label, gate.spread), options, label, trial)
        compared, shown = full.examine(bench, notes)
        notes += internal_precision.remarks(bench, compared)
        seen = None
    else:
        compared, bench, seen = _probed(evaluator, options, label, trial, gate.spread, notes)
    coarse = internal_precision.explicable(compared)
    if options.tries("linear-vjp") and not (seen and program.point.size > TURNED):
        contracts = (*contracts, *vjp_linearity.examine(bench, coarse=coarse, seen=seen))
    if program.differentiated is not None and options.tries(custom_rule_primal.NAME):
        contracts = (*contracts, *custom_rule_primal.examine(evaluator, label))
    if program.layer is not None:
        contracts = (*contracts, *_honoured(bench, program.layer, compared, notes))
    return Finding(
        comparisons=tuple(compared),
        contracts=contracts,
        checks=registry.examine(bench, partners, compared) if compared else (),
        partials=tuple(shown),
        notes=(*notes, *dict.fromkeys(evaluator.remarks)),
        details=(*program.details, *((evaluator.batching.why,) if evaluator.batching else ())),
        stop=None if compared else Reason.NOTHING_CLAIMED,
        mode=mode,
        evaluations=evaluator.count,
    )


def within_memory(program: Program, options: Options, label: str, trial: int, partners: Sequence[Program] = ()) -> Finding:
    """The same; along random directions alone where there is too little memory to look at entries one by one.

    Raises:
        NoMemoryError: where there is too little for that, too.
    """
    try:
        return derivative(program, options, label, trial, partners)
    except NoMemoryError as error:
        if options.mode == "probe":
            raise
        told = str(error)
    memory.given_back()
    found = derivative(program, replace(options, mode="probe"), label, trial, partners)
    return replace(found, notes=(*found.notes, f"probes: {told}"))


def _way_by_grad_mode(layer: Layer, label: str) -> list[Contract]:
    """The contract whose breach looks as if the function were random: its value depends on whether gradients are recorded."""
    from gradcheck.checks.contracts.torch import registry as own

    alone = [name for name in CONTRACTS if name != "primal"]
    found = own.examine(layer, np.abs, label, alone, None, [])
    return [contract for contract in found if contract.verdict is Verdict.FAIL]


def _honoured(bench: Bench, layer: Layer, compared: Sequence[Comparison], notes: list[str]) -> list[Contract]:
    """The contracts of functions and modules of the user's own."""
    from gradcheck.checks.contracts.torch import registry as own

    claim = next((claim for claim in bench.program.claims if claim.method == "reverse"), None)
    if claim is None:
        return []
    skipped = [name for name in CONTRACTS if not bench.options.tries(name)]
    if any(c.verdict is Verdict.FAIL and "forward" in (c.method, c.against) for c in compared):
        skipped.append("adjoint")  # would say again what the table says better
    if bench.options.order > 1:
        skipped.append("double-backward")

    def moved(cotangent: F64) -> F64:
        rows = jacobians.of_claim(claim, jacobians.rows_of(claim, bench.program.point, cotangent[None]), bench.program)
        return np.asarray(conditioning.jittered(rows, bench.program, cotangent[None]).own[0])

    return own.examine(layer, moved, bench.label, skipped, bench.options.budget, notes)


def _setting(evaluator: Evaluator, label: str, spread: F64) -> Setting:
    program = evaluator.program
    comparisons = program.point.size * min(program.value.size, output_scaling.OWN_CHANNELS)
    return setting_for(evaluator, comparisons, label, spread)


def _probed(
    evaluator: Evaluator, options: Options, label: str, trial: int, spread: F64, notes: list[str]
) -> tuple[list[Comparison], Bench, Outlook | None]:
    """All leaves at once, and by itself each that is not confirmed so; with what was seen of the outputs."""
    program = evaluator.program
    briefly = not (options.checks or options.stories)
    first = whole_input.examine(evaluator, options, label, trial, notes) if briefly else None

    def apiece(looked: Evaluator) -> tuple[list[Comparison], Bench]:
        bench = Bench(looked.program, looked, _setting(looked, label, spread), options, label, trial)
        compared = probe.examine(bench, notes)
        notes.extend(internal_precision.remarks(bench, compared))
        return compared, bench

    if first is None:
        return *apiece(evaluator), None
    table = dict(first.rows)
    left = [leaf for leaf in program.leaves if leaf.entries and leaf.path not in table]
    if left:
        rest = Evaluator(restricted(program, left))
        compared, _ = apiece(rest)
        table |= {leaf.path: [line for line in compared if line.wrt == leaf.path] for leaf in left}
        evaluator.count += rest.count - 1  # both count the primal
        evaluator.remarks += rest.remarks
    found = [line for leaf in program.leaves for line in table.get(leaf.path, [])]
    return found, Bench(program, evaluator, first.setting, options, label, trial), first.seen


def _mode(program: Program, options: Options, seconds: float) -> tuple[str, list[str]]:
    """Full mode or probes, and why not full."""
    n, m = program.point.size, program.value.size
    if options.mode != "auto":
        return options.mode, []
    if n > FULL_ENTRIES:
        return "probe", [
            f"probes: {n} input numbers are more than the {FULL_ENTRIES} that are checked one by one (--mode full does so)"
        ]
    held, predicted = NUMBERS * 8 * n * min(m, ROWS), EVALUATIONS_PER_LINE * n * seconds
    if n * (n + m) * EVALUATIONS_PER_LINE > FULL_WORK:
        why = f"{n} input and {m} output numbers are too many to be checked one by one (--mode full does so)"
    elif held > (options.memory or FULL_MEMORY):
        why = f"one by one, {n} input and {m} output numbers would take {held / 2**20:.0f} MiB (--memory allows more)"
    elif predicted > (options.budget or FULL_SECONDS):
        why = f"one by one, {n} input numbers would take about {predicted:.0f} s (--budget allows more, --mode full does so)"
    else:
        return "full", []
    return "probe", [f"probes: {why}"]


def _too_dear(options: Options, seconds: float) -> str:
    """Why even two random directions would take more than the user allows; '' where they do not."""
    predicted = richardson.EVALUATIONS * seconds
    if options.budget is None or predicted <= options.budget:
        return ""
    return f"random directions would take about {predicted:.2g} s, and --budget is {options.budget:g} s"
