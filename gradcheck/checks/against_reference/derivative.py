"""A second implementation that is trusted, held beside the target: its value, and its derivative as further evidence.

What is wrong is decided by the target's own slopes, where these are seen sharply enough: a claim that is right by them is
right, whatever the reference says, and then it is the forwards that differ, or the reference that stands alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Claim
from gradcheck.checks.against_reference import value
from gradcheck.checks.derivative import entry_groups, probe
from gradcheck.checks.derivative.check import Finding, derivative
from gradcheck.checks.derivative.probe_block import row
from gradcheck.compare import conditioning, jacobians, output_scaling, pairs
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.noise_floor import setting_for
from gradcheck.compare.table import resolution_of
from gradcheck.compare.trial import Bench
from gradcheck.evidence import noise
from gradcheck.results import Comparison, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.compare.jacobians import Rows
    from gradcheck.evidence.line import F64
    from gradcheck.options import Options

ORDER = value.ORDER
METHOD = "reference"
EVIDENCE = ("numeric", "complex-step")
BLUNT = (Reason.DULL, Reason.QUANTISED)  # what the reference may decide, where the target's own slopes do not
KINKS = (Reason.KINK_SUBGRADIENT, Reason.TIE, Reason.STRAIGHT_THROUGH)


def added(found: Finding, program: Program, other: Program, options: Options, label: str, trial: int) -> Finding:
    """What was found of a target, with what its reference says.

    Args:
        other: the reference, bound to the same inputs.
        label: names the random streams.
    """
    if found.stop and found.stop is not Reason.NOTHING_CLAIMED:
        return found
    evaluator = Evaluator(program)
    again = evaluator(program.point)
    spread = (
        noise.spread(lambda _: evaluator(program.point), again) if np.any(again != program.value) else np.zeros(again.shape)
    )
    setting = setting_for(evaluator, program.value.size, label, spread)
    bench = Bench(program, evaluator, setting, options, label, trial)
    told = value.examine(bench, other)
    same = all(line.verdict is Verdict.PASS for line in told)
    known = {c.method for c in found.comparisons}
    looked = replace(program, claims=tuple(c for c in program.claims if c.method in known))
    if not looked.claims:
        lines, count = list[Comparison](), 0
    elif any(c.vjp is not None and not c.derived for c in other.claims):
        lines, count = _by_its_derivative(replace(bench, program=looked), other, found.mode), 0
    else:
        lines, count = _by_its_slopes(looked, other, options, label, trial, found.mode)
    lines = [_weighed(line, found.comparisons, same=same) for line in lines]
    third = [_third(line, found.comparisons) for line in lines]
    return replace(
        found,
        comparisons=(*told, *found.comparisons, *lines, *filter(None, third)),
        evaluations=found.evaluations + evaluator.count + count,
    )


def confirmed(comparisons: Sequence[Comparison]) -> set[tuple[int, str, str]]:
    """Order, leaf and method of the claims that the reference confirms where the target's own slopes are too dull to."""
    told = {_of(c) for c in comparisons if c.against == METHOD and c.verdict is Verdict.PASS}
    return told - {_of(c) for c in comparisons if c.against in EVIDENCE and c.reason not in BLUNT}


def _of(c: Comparison) -> tuple[int, str, str]:
    return c.order, c.wrt, c.method


# --- the reference's derivative: its own, by automatic differentiation


def _by_its_derivative(bench: Bench, other: Program, mode: str) -> list[Comparison]:
    """Hold each claim against it, entry by entry; both know their rounding."""
    program, evaluator = bench.program, bench.evaluator
    full = mode == "full"
    channels = (
        output_scaling.channels_for(evaluator, bench.setting, bench.label) if full else probe.cotangents_for(bench, list[str]())
    )
    bench = replace(bench, setting=replace(bench.setting, channels=channels))
    cotangents = np.eye(program.value.size) if channels is None else channels

    def columns(claim: Claim, like: Rows) -> F64:
        return entry_groups.columns(claim, program, cotangents, like, bench.label)

    claimed = jacobians.evaluate(program, cotangents, list[str](), columns if full else None)
    given = next(c for c in other.claims if c.vjp is not None and not c.derived)
    asked = replace(jacobians.twin_of(given) or given, method=METHOD)
    trusted = jacobians.of_claim(asked, jacobians.rows_of(asked, other.point, cotangents), other)
    return [_against(bench, leaf, rows, trusted, other, cotangents) for leaf in bench.leaves for rows in claimed]


def _against(bench: Bench, leaf: Leaf, rows: Rows, trusted: Rows, other: Program, cotangents: F64) -> Comparison:
    floors = [pairs.UNITS * r.eps * output_scaling.output_slopes(bench.program, bench.setting) for r in (rows, trusted)]
    rows, trusted = (replace(r, own=r.own + floor) for r, floor in zip((rows, trusted), floors, strict=True))
    rtol = bench.rtol(rows)
    c = pairs.against_rows(leaf, rows, trusted, rtol, demanded=bench.demanded)
    if np.any(c.code):
        rows = conditioning.jittered(rows, bench.program, cotangents)
        trusted = conditioning.jittered(trusted, other, cotangents)
        c = pairs.against_rows(leaf, rows, trusted, rtol, demanded=bench.demanded)
    c = pairs.within_last_bits(c, (floors[0] + floors[1])[:, leaf.span])
    return row(bench, c, rows, METHOD, resolution_of(c), entries=True)


# --- the reference's derivative: by its values alone


def _by_its_slopes(
    program: Program, other: Program, options: Options, label: str, trial: int, mode: str
) -> tuple[list[Comparison], int]:
    """Hold the claims against numerical evidence on the reference in the place of the target; with the calls that took."""
    alone = replace(options, checks=(), optimizer=None, partners=(), contracts=False, contract=(), mode=mode, stories=False)
    held = replace(other, claims=tuple(replace(c, optional=True) for c in program.claims if not c.derived), layer=None)
    found = derivative(held, alone, label, trial)
    lines = [replace(c, against=METHOD) for c in found.comparisons if c.against in EVIDENCE]
    return lines, found.evaluations


# --- what a disagreement is worth


def _weighed(line: Comparison, compared: Sequence[Comparison], *, same: bool) -> Comparison:
    """A FAIL stays one where the target's own slopes say the same, or where they are too dull for the error.

    Args:
        same: whether the values agree.
    """
    own = [c for c in compared if _of(c) == _of(line) and c.against in EVIDENCE]
    if line.verdict is not Verdict.FAIL or any(c.verdict is Verdict.FAIL for c in own):
        return line
    passed = [c for c in own if c.verdict is Verdict.PASS]
    dull = [c for c in own if c.verdict is not Verdict.PASS and c.reason in BLUNT]
    if passed:
        seen = min(c.resolution for c in passed) <= line.rel_err or any(c.reason in KINKS for c in passed)
        unseen, reason = not seen, Reason.REFERENCE_DIFFERS
    else:
        unseen, reason = bool(dull) or not own, Reason.METHODS_DISAGREE
    return line if same and unseen else replace(line, verdict=Verdict.INCONCLUSIVE, reason=reason, where=None, diagnosis=None)


def _third(line: Comparison, compared: Sequence[Comparison]) -> Comparison | None:
    """The reference beside the target's own slopes, at an entry where a claim contradicts both; None where that is not seen."""
    own = next((c for c in compared if _of(c) == _of(line) and c.against == "numeric"), None)
    if own is None or not (own.where and line.where) or "probe" in (own.mode, line.mode):
        return None
    theirs = {(w.entry, w.output): w for w in line.where.entries}
    both = ((w, theirs[w.entry, w.output]) for w in own.where.entries if (w.entry, w.output) in theirs)
    seen, told = next(both, (None, None))
    if seen is None or told is None:
        return None
    size, apart, bound = (
        max(abs(seen.estimate), abs(told.estimate)),
        abs(seen.estimate - told.estimate),
        seen.bound + told.bound,
    )
    if not apart <= bound + line.rtol * size:
        return None
    return replace(
        line,
        method=METHOD,
        against="numeric",
        verdict=Verdict.PASS,
        reason=Reason.AGREES,
        output=seen.output,
        claimed=told.estimate,
        estimate=seen.estimate,
        bound=bound,
        abs_err=apart,
        rel_err=apart / size if size else 0.0,
        resolution=(apart + bound) / size if size else float("nan"),
        worst_entry=seen.entry,
        diagnosis=None,
        where=None,
        story=None,
        picture=None,
        self_test=None,
    )
