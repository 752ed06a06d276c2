"""Forward mode in probe mode: of its Jacobian only products with the probes are known, sums over a leaf's entries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Claim
from gradcheck.checks.derivative import fault_injection
from gradcheck.checks.derivative.probe_block import (
    DENSE,
    MISSED,
    PROBES,
    Part,
    along,
    row,
)
from gradcheck.compare import conditioning, entry_lines, jacobians, pairs
from gradcheck.compare.jacobians import Rows
from gradcheck.compare.judge import Along, Compared, settle
from gradcheck.evidence.line import F64
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import generator
from gradcheck.verdict.interval import DULLEST, ROUNDING

if TYPE_CHECKING:
    from gradcheck.compare.trial import Bench

ADJUSTED = (Reason.KINK_SUBGRADIENT, Reason.TIE)  # a PASS that is not by central differences at the inputs alone


def examine(
    bench: Bench, claim: Claim, whole: Part, proved: list[tuple[Comparison, Rows]], notes: list[str]
) -> list[Comparison]:
    """Forward mode is asked for the same directions; a claim in lower precision is held against its twin there.

    Where it says the same as a claim in reverse mode that passed, it is as good as that one (the adjoint test): sharper than
    the evidence on large leaves, and at ties and kinks.
    """
    program, leaf = bench.program, whole.sheet.leaf
    tangents = np.stack([entry_lines.embedded(program, leaf, u) for u in whole.tangents])
    pushed = jacobians.pushed(claim, program.point, tangents, notes)
    if pushed is None:
        return []
    rows = Rows(claim.method, np.zeros((PROBES, program.point.size)), np.zeros(0), np.zeros(0), claim.eps, claim)
    rtol, twin = bench.rtol(rows), jacobians.twin_of(claim)
    rough = _pushed_along(bench, pushed, claim.eps, program.point, tangents, claim)
    if twin is None or twin.jvp is None:
        c = settle(whole.sheet, rough, rtol, demanded=bench.demanded)
        resolution = _resolution_of_sums(c, leaf.entries)
    else:
        fine = _pushed_along(bench, twin.jvp(program.point, tangents), twin.eps, program.point, tangents, twin)
        c = settle(whole.sheet, fine, rtol, demanded=bench.demanded)
        resolution = _resolution_of_sums(c, leaf.entries)
        if not program.half:
            apart, allowed = np.abs(rough.value - fine.value), rough.own + fine.own
            worse = np.where(apart - allowed > rtol * rough.scale, 2, 0).astype(np.int8)
            c = replace(c, code=np.maximum(c.code, worse), sides=replace(c.sides, claim=rough.value, rounding=allowed))
    own = row(bench, c, rows, "numeric", resolution)
    if not np.any(c.code) and not any(seen in ADJUSTED for seen in c.seen.flat):
        own = _scored_sums(bench, own, whole, rough if twin is None else fine)
    for line, reverse in proved:
        same = _adjoint(c, along(reverse, whole), leaf.entries)
        enough = rtol if np.any(c.code == 2) else bench.options.rtol or DULLEST  # against the evidence only where they are one
        if line.verdict is Verdict.PASS and same < enough:
            seen = np.full(c.seen.shape, line.reason if line.reason in ADJUSTED else None, dtype=object)
            c = replace(c, code=np.zeros_like(c.code), seen=seen)
            resolution = float(np.fmin(resolution, np.fmax(line.resolution, same)))
    if own.verdict is Verdict.INCONCLUSIVE and own.reason is Reason.BLIND:
        return [own]
    if not np.any(c.code) and resolution > (bench.options.rtol or DULLEST):
        c = replace(c, code=np.ones_like(c.code), seen=np.full(c.seen.shape, Reason.DULL, dtype=object))
    return [replace(row(bench, c, rows, "numeric", resolution), self_test=own.self_test)]


def _adjoint(c: Compared, reverse: Along, entries: int) -> float:
    """How far a claim in forward mode is at most off that in reverse mode, relative to a typical entry."""
    s = c.sides
    with np.errstate(all="ignore"):
        typical = np.sqrt(np.mean(reverse.value[0, :DENSE] ** 2) / entries)
        apart = np.max((np.abs(s.claim - reverse.value) + s.rounding + reverse.own)[0, :DENSE])
        return 0.0 if np.all(s.claim == reverse.value) else float(apart / (MISSED * typical))


def _resolution_of_sums(found: Compared, entries: int) -> float:
    """The same for a claim of which only sums over entries are known: these are sqrt(entries) times the typical term."""
    s = found.sides
    if np.all(s.size <= s.allowed):
        return float("nan")
    typical = np.sqrt(np.mean(s.size[0, :DENSE] ** 2) / entries)
    return float(np.max((s.apart + s.allowed)[0, :DENSE]) / (MISSED * typical))


def _scored_sums(bench: Bench, line: Comparison, whole: Part, claim: Along) -> Comparison:
    """The score of the faults that sums over entries can show; of a derivative that is zero there is none."""
    if np.isnan(line.resolution):
        return line

    def spoilt_along(spoilt: F64) -> Along:
        return replace(claim, value=spoilt.T)

    def error(spoilt: F64) -> F64:
        typical = np.sqrt(np.mean(claim.value**2))
        return np.asarray(np.abs(spoilt - claim.value.T) / typical)

    rng = generator(0, "faults", bench.label, line.wrt)
    slips = fault_injection.slips_through(whole.sheet, spoilt_along, line.rtol)
    return fault_injection.scored(line, claim.value.T, slips, error, rng, shape=(1,))


def _pushed_along(bench: Bench, pushed: F64, eps: float, point: F64, tangents: F64, claim: Claim) -> Along:
    """Directional derivatives of a forward-mode claim, with their rounding and conditioning."""
    assert bench.setting.channels is not None
    assert claim.jvp is not None
    terms = bench.setting.channels * pushed
    size, value = np.sum(np.abs(terms), axis=1), np.sum(terms, axis=1)
    slip = eps * (ROUNDING * size + pairs.UNITS * bench.setting.size)
    spread = np.zeros(value.shape)
    for k in range(conditioning.JITTERS if eps > 2.0**-52 else 0):
        signs = generator(0, "jitter", "forward", k).choice([-1.0, 1.0], point.shape)
        try:
            moved = np.sum(bench.setting.channels * claim.jvp(point * (1 + eps * signs), tangents), axis=1)
        except Exception:
            continue  # off the primal a claim need not exist
        spread = np.fmax(spread, np.abs(moved - value))
    own = slip + ROUNDING * spread
    return Along(value[None], own[None], slip[None], size[None], many=True)
