"""Probe mode: random directions of each leaf, for problems too large for every partial derivative."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Claim, Leaf, Program
from gradcheck.checks import beside, claims, culprit, own_dtype, partials, self_test, straight
from gradcheck.checks.claims import Rows
from gradcheck.checks.rows import comparison, resolution_of, told
from gradcheck.checks.sheet import Along, Compared, Sheet, look, measure, refine, settle
from gradcheck.evidence import central, probes
from gradcheck.evidence.line import F64, Setting
from gradcheck.results import Comparison, Partial, Reason, Verdict
from gradcheck.seeds import generator
from gradcheck.verdict.compare import DULLEST, ROUNDING
from gradcheck.verdict.localise import descend

if TYPE_CHECKING:
    from gradcheck.checks.bench import Bench

DENSE, SPARSE = 3, 1
PROBES = DENSE + SPARSE
CERTAINTY = 0.99  # with which a wrong entry of the stated resolution would have been caught
MISSED = (1 - CERTAINTY) ** (
    1 / DENSE
) / 0.8  # all dense probes move the entry by less than this times its scale: 1 % of the time
ADJUSTED = (Reason.KINK_SUBGRADIENT, Reason.TIE)  # a PASS that is not by central differences at the inputs alone
SUM = 6.0  # times the root sum of squares of its terms: what a sum of random signs hardly ever exceeds
DESCENTS = 4  # ways down to a wrong entry that are tried
PARTS = 64  # a leaf is split into at most so many parts where probes of the whole are too dull


@dataclass(frozen=True)
class Part:
    """Some consecutive numbers of a leaf, with probes on them: tangents (P, n), each read in the channel of its number."""

    sheet: Sheet
    tangents: F64
    place: slice


def examine(bench: Bench, notes: list[str]) -> tuple[list[Comparison], list[Partial]]:
    """Compare every claim with the numerical derivative along random directions, and with the other claims entry by entry."""
    program = bench.program
    cotangents = cotangents_for(program, bench.label)
    bench = replace(bench, setting=replace(bench.setting, channels=cotangents))
    reverse = claims.evaluate(program, cotangents, notes, only_vjp=True)
    forward = [c for c in program.claims if c.vjp is None]
    table: list[Comparison] = []
    for leaf in bench.leaves if program.claims else ():
        whole = probes_on(bench, leaf, slice(0, program.point[leaf.span].size))
        proved: list[tuple[Comparison, Rows]] = []
        for i, rows in enumerate(reverse):
            table.append(_against_evidence(bench, leaf, rows, whole, cotangents))
            proved.append((table[-1], rows))
            table += [_against(bench, leaf, other, rows, cotangents) for other in reverse[:i]]
        for claim in forward:
            table += _forward(bench, claim, whole, proved, notes)
    return _without_cut_off(table, reverse, notes), []


def _without_cut_off(table: list[Comparison], claimed: list[Rows], notes: list[str]) -> list[Comparison]:
    """Leave out a traced derivative that the evidence contradicts: the tracing is at fault, not the user."""
    derived = {r.method for r in claimed if r.claim is not None and r.claim.derived}
    wrong = {c.method for c in table if c.method in derived and c.against == "numeric" and c.verdict is Verdict.FAIL}
    notes += [claims.CUT_OFF.format(method) for method in sorted(wrong)]
    return [c for c in table if not wrong & {c.method, c.against}]


def cotangents_for(program: Program, label: object) -> F64:
    """One random cotangent per probe, (P, M); of a single output number simply 1."""
    if program.value.size == 1:
        return np.ones((PROBES, 1))
    spans = [leaf.span for leaf in program.outputs]
    return np.stack([probes.cotangent(generator(0, "cotangent", label, k), program.value, spans) for k in range(PROBES)])


def probes_on(bench: Bench, leaf: Leaf, part: slice) -> Part:
    """Estimate the derivative along random directions of a part of a leaf, cheaply.

    Dense directions, and a sparse one for derivatives that dense ones would drown.
    """
    program = bench.program
    x = program.point[leaf.span]
    tangents = np.zeros((PROBES, x.size))
    for k in range(PROBES):
        rng = generator(0, "tangent", bench.label, leaf.path, part.start, part.stop, k)
        tangents[k, part] = (probes.dense if k < DENSE else probes.sparse)(rng, x[part], program.eps)
    phis = [bench.evaluator.line(partials.embedded(program, leaf, u)) for u in tangents]
    return Part(measure(leaf, phis, [_only(bench.setting, k) for k in range(PROBES)], program.eps), tangents, part)


def _only(setting: Setting, channel: int) -> Setting:
    assert setting.channels is not None
    return replace(setting, channels=setting.channels[channel : channel + 1])


def _against_evidence(bench: Bench, leaf: Leaf, rows: Rows, whole: Part, cotangents: F64) -> Comparison:
    """The line of a claim on one leaf: a wrong output named, the score of the self-test, the story of its worst probe."""
    line, found, fine, part = _line(bench, leaf, rows, whole, cotangents)
    line = _scored(bench, culprit.named(bench, line, leaf, rows), fine, part)
    ask = bench.options.stories and line.mode == "probe"
    return told(line, found, part.sheet, np.ones(PROBES)) if ask else line


def _scored(bench: Bench, line: Comparison, rows: Rows, part: Part) -> Comparison:
    """The score of the self-test, on the part of a leaf that was looked at least sharply."""
    leaf = part.sheet.leaf
    gradient, tangents = rows.rows[:, leaf.span][:, part.place], part.tangents[:, part.place]
    claim = _along(rows, part)

    def along(spoilt: F64) -> Along:
        return replace(claim, value=np.sum(spoilt * tangents, axis=1)[None])

    scales = probes.scales_of(bench.program.point[leaf.span][part.place])
    nothing = float(np.max(np.fmax(part.sheet.nearby, part.sheet.outputs))) if np.isnan(line.resolution) else 0.0
    error = self_test.error_along_probes(scales, gradient, nothing)
    shape = (*leaf.shape, leaf.width) if part.place == slice(0, leaf.entries * leaf.width) else (-1, 1)
    rng = generator(0, "faults", bench.label, leaf.path)
    something = nothing / float(np.min(scales)) or 1.0
    return self_test.scored(line, part.sheet, gradient, along, error, rng, shape=shape, something=something)


def _line(bench: Bench, leaf: Leaf, rows: Rows, whole: Part, cotangents: F64) -> tuple[Comparison, Compared, Rows, Part]:
    """The line of one claim and leaf: in the claim's own dtype against its float64 twin, and that against the evidence.

    With it the judgement behind it, and the claim and the part of the leaf that were looked at least sharply.
    """
    own = own_dtype.against_twin(bench, leaf, rows, cotangents) if rows.fine else None
    if own is not None and np.any(own.code == 2):
        return _row(bench, own, rows, "numeric", resolution_of(own), entries=True), own, rows, whole
    fine, rtol = rows.fine or rows, bench.rtol(rows)
    found, fine, part = _settled(bench, fine, whole, rtol, cotangents)
    resolution = resolution_of_probes(found, fine, part)
    limit = bench.options.rtol or DULLEST
    if not np.any(found.code) and limit < resolution < np.inf:
        found, fine, part = _in_parts(bench, found, fine, part, rtol, limit, cotangents)
        resolution = resolution_of_probes(found, fine, part)
    if own is not None and np.any(own.code) and not np.any(found.code):
        return _row(bench, own, rows, "numeric", resolution_of(own), entries=True), own, fine, part
    return _row(bench, found, rows, "numeric", resolution), found, fine, part


def _settled(bench: Bench, rows: Rows, part: Part, rtol: float, cotangents: F64) -> tuple[Compared, Rows, Part]:
    """Judge a claim along the probes; where sums disagree, go down to an entry and judge that.

    With the judgement the claim and the probes that it rests on: at a kink those beside it.
    """
    first = look(part.sheet, _along(rows, part), rtol, demanded=bench.demanded)
    if np.any((first.code > 0) | first.doubtful):
        rows = claims.jittered(rows, bench.program, cotangents)
    found = settle(part.sheet, _along(rows, part), rtol, demanded=bench.demanded)
    if not np.any((found.code == 2) | found.doubtful):
        return _beside_kinks(bench, rows, found, part, cotangents)
    entry = _wrong_entry(bench, rows, found, rtol)
    return _unless_tied(bench, rows, found if entry is None else entry, cotangents), rows, part


def _beside_kinks(bench: Bench, rows: Rows, found: Compared, part: Part, cotangents: F64) -> tuple[Compared, Rows, Part]:
    """Where a claim passed at kinks, look beside them: INCONCLUSIVE where it is wrong at both points tried.

    Where it is right there, that is what the PASS rests on: between the slopes at many kinks there is much room.
    """
    leaf, last = found.leaf, (found, rows, part)
    if not np.any((found.seen == Reason.KINK_SUBGRADIENT) & (found.code == 0)):
        return last
    for k in range(beside.TWICE):
        point = beside.beside(bench, leaf, np.arange(leaf.entries * leaf.width), k)
        moved = beside.moved(bench, rows, cotangents, point)
        if moved is None:
            return found, rows, part
        there, claim = moved
        probed = probes_on(there, leaf, part.place)
        again = settle(probed.sheet, _along(claim, probed), bench.rtol(rows), demanded=bench.demanded)
        bench.evaluator.count += there.evaluator.count
        wrong, seen = bool(np.any(again.code == 2)), again.seen.copy()
        seen[again.code == np.max(again.code)] = Reason.BESIDE_KINK if wrong else Reason.KINK_SUBGRADIENT
        last = replace(again, seen=seen, code=np.minimum(again.code, 1).astype(np.int8)), claim, probed
        if not wrong:
            return (found, rows, part) if np.any(again.code) else last
    return last


def _unless_tied(bench: Bench, rows: Rows, wrong: Compared, cotangents: F64) -> Compared:
    """What is wrong, unless the function is not differentiable here and the claim one of its subgradients."""
    bad = (wrong.code == 2) & np.isfinite(wrong.sides.claim) & (wrong.seen != Reason.STRAIGHT_THROUGH)
    if not np.any(bad):
        return wrong
    x = bench.program.point[wrong.leaf.span]
    place = wrong.at[0] if wrong.at is not None else _most_tied(x)
    tied = beside.tie_at(bench, wrong.leaf, rows, cotangents, np.array([place]))
    if tied is None or np.max(tied) == 2:
        return wrong
    seen = wrong.seen.copy()
    seen[bad] = Reason.TIE
    return replace(wrong, code=np.where(bad, np.max(tied), wrong.code).astype(np.int8), seen=seen)


def _most_tied(x: F64) -> int:
    """An entry that equals the most others."""
    _, first, counts = np.unique(x, return_index=True, return_counts=True)
    return int(first[np.argmax(counts)])


def _along(rows: Rows, part: Part) -> Along:
    """A claim, one row per probe, along a part's probes.

    What matters of a sum is relative to SUM times its root sum of squares: a tangent's signs are independent of the errors of
    a claim, so errors within rtol of each entry add up to more with a probability of 2 exp(-SUM^2 / 2) (Hoeffding).
    """
    span = part.sheet.leaf.span
    terms = rows.rows[:, span] * part.tangents
    size = np.sum(np.abs(terms), axis=1)
    scale = np.minimum(size, SUM * np.linalg.norm(terms, axis=1))
    slip = rows.eps * size  # one unit in the last place that all terms may share; their random rounding adds up to less
    own = np.sqrt(np.sum((rows.own[:, span] * part.tangents) ** 2, axis=1)) + slip
    return Along(np.sum(terms, axis=1)[None], own[None], slip[None], scale[None], many=True)


def _wrong_entry(bench: Bench, rows: Rows, found: Compared, rtol: float) -> Compared | None:
    """The entry that a way down from the worst probe leads to, if its own estimate confirms that it is wrong.

    A small disagreement can be lost on the way; then other random directions are tried.
    """
    urgency = np.where((found.code == 2) | found.doubtful, found.sides.apart / np.maximum(found.sides.allowed, 1e-300), 0.0)
    channel = int(np.argmax(urgency[0]))
    for attempt in range(DESCENTS):
        entry = _down(bench, rows, found.leaf, channel, rtol, attempt)
        if entry is not None:
            return entry
    return None


def _down(bench: Bench, rows: Rows, leaf: Leaf, channel: int, rtol: float, attempt: int) -> Compared | None:
    program = bench.program
    x, gradient, own = program.point[leaf.span], rows.rows[channel, leaf.span], rows.own[channel, leaf.span]
    setting = _only(bench.setting, channel)
    steps = central.steps_for(setting, program.eps)

    def disagreement(part: slice) -> float:
        u = np.zeros(x.size)
        u[part] = probes.dense(generator(0, "descent", bench.label, part.start, part.stop, attempt), x[part], program.eps)
        slope = central.estimate(bench.evaluator.line(partials.embedded(program, leaf, u)), setting, steps)
        allowed = float(slope.bound[0]) + rows.eps * float(np.abs(gradient) @ np.abs(u)) + float(np.linalg.norm(own * u))
        return float(np.abs(gradient @ u - slope.value[0]) / max(allowed, 1e-300))

    i = descend(x.size, disagreement)
    unit = float(partials.displacements(program, leaf)[i])
    sheet = measure(leaf, [bench.evaluator.line_of_entry(leaf.start + i, unit)], [setting], program.eps)
    value, error = np.full((1, 1), gradient[i] * unit), np.full((1, 1), own[i] * abs(unit))
    confirmed = settle(sheet, Along(value, error, error, np.abs(value), many=False), rtol, demanded=bench.demanded)
    if confirmed.code[0, 0] != 2:
        return None
    return replace(straight.through(sheet, confirmed, declared=bench.options.straight_through), at=(i, unit))


def _in_parts(
    bench: Bench, found: Compared, rows: Rows, whole: Part, rtol: float, limit: float, cotangents: F64
) -> tuple[Compared, Rows, Part]:
    """Look again where the probes were too dull: with care, then part by part.

    An entry of a part of 1/k of the size stands out sqrt(k) times more. What is left to be dull decides nothing. Returned is
    the part that was looked at least sharply, or that shows something.
    """
    size = whole.tangents.shape[1]
    for line in np.flatnonzero(~whole.sheet.refined):
        refine(whole.sheet, int(line))
    found = look(whole.sheet, _along(rows, whole), rtol, demanded=bench.demanded)
    dullest, last = resolution_of_probes(found, rows, whole), (found, rows, whole)
    evidence = resolution_of_probes(replace(found, sides=replace(found.sides, claim=found.sides.value)), rows, whole)
    if np.any(found.code) or dullest <= limit:
        return last
    if evidence > limit:  # else it is the claim that differs, not the evidence that is dull
        count = min(PARTS, size, int(np.ceil((evidence / limit) ** 2)) + 1)
        dullest = -np.inf
        for low, high in pairwise(np.linspace(0, size, count + 1).astype(int)):
            again = _settled(bench, rows, probes_on(bench, found.leaf, slice(int(low), int(high))), rtol, cotangents)
            sharp = resolution_of_probes(*again)
            if sharp > dullest or dullest == -np.inf:
                dullest, last = sharp, again
            if np.any(again[0].code):
                return again
    if dullest > limit:
        seen = np.full(last[0].seen.shape, Reason.DULL, dtype=object)
        last = (replace(last[0], code=np.ones_like(last[0].code), seen=seen), *last[1:])
    return last


def resolution_of_probes(found: Compared, rows: Rows, part: Part) -> float:
    """Relative error of a single entry of typical size that would have been caught with probability 99 %.

    An entry wrong by r moves probe k by r |g_i u_i|; it is missed by k probes that all have |u_i| below t with probability
    (0.8 t)^k, 0.8 t being the chance that a standard normal number stays below a small t. NaN where the derivative is zero.
    """
    s = found.sides
    if s.apart.shape[1] != PROBES or np.all(s.size <= s.allowed):
        return float("nan")
    touched = np.any(part.tangents != 0, axis=0)
    terms = (rows.rows[:, part.sheet.leaf.span] * part.tangents)[:DENSE, touched]
    size = np.sqrt(np.mean(terms**2, axis=1))
    with np.errstate(all="ignore"):
        seen = (s.apart + s.allowed)[0, :DENSE] / (MISSED * size)
    return float(np.max(np.where(np.isnan(seen), 0.0, seen)))


def _against(bench: Bench, leaf: Leaf, rows: Rows, other: Rows, cotangents: F64) -> Comparison:
    floor = own_dtype.UNITS * max(rows.eps, other.eps) * partials.output_slopes(bench.program, bench.setting)
    rows, other = (replace(r, own=r.own + floor) for r in (rows, other))
    c = partials.against_rows(leaf, rows, other, bench.rtol(rows, other), demanded=bench.demanded)
    if np.any(c.code):
        rows, other = (claims.jittered(r, bench.program, cotangents) for r in (rows, other))
        c = partials.against_rows(leaf, rows, other, bench.rtol(rows, other), demanded=bench.demanded)
    c = own_dtype.within_last_bits(c, 2 * floor[:, leaf.span])
    return _row(bench, c, rows, other.method, resolution_of(c), entries=True)


def _forward(
    bench: Bench, claim: Claim, whole: Part, proved: list[tuple[Comparison, Rows]], notes: list[str]
) -> list[Comparison]:
    """Forward mode is asked for the same directions; a claim in lower precision is held against its twin there.

    Where it says the same as a claim in reverse mode that passed, it is as good as that one (the adjoint test): sharper than
    the evidence on large leaves, and at ties and kinks.
    """
    program, leaf = bench.program, whole.sheet.leaf
    tangents = np.stack([partials.embedded(program, leaf, u) for u in whole.tangents])
    pushed = claims.pushed(claim, program.point, tangents, notes)
    if pushed is None:
        return []
    rows = Rows(claim.method, np.zeros((PROBES, program.point.size)), np.zeros(0), np.zeros(0), claim.eps, claim)
    rtol, twin = bench.rtol(rows), claims.twin_of(claim)
    rough = _pushed_along(bench, pushed, claim.eps, program.point, tangents, claim)
    if twin is None or twin.jvp is None:
        c = settle(whole.sheet, rough, rtol, demanded=bench.demanded)
        resolution = _resolution_of_sums(c, leaf.entries)
    else:
        fine = _pushed_along(bench, twin.jvp(program.point, tangents), twin.eps, program.point, tangents, twin)
        c = settle(whole.sheet, fine, rtol, demanded=bench.demanded)
        resolution = _resolution_of_sums(c, leaf.entries)
        apart, allowed = np.abs(rough.value - fine.value), rough.own + fine.own
        worse = np.where(apart - allowed > rtol * rough.scale, 2, 0).astype(np.int8)
        c = replace(c, code=np.maximum(c.code, worse), sides=replace(c.sides, claim=rough.value, rounding=allowed))
    for line, reverse in proved:
        same = _adjoint(c, _along(reverse, whole), leaf.entries)
        if line.verdict is Verdict.PASS and same < (bench.options.rtol or DULLEST):
            seen = np.full(c.seen.shape, line.reason if line.reason in ADJUSTED else None, dtype=object)
            c = replace(c, code=np.zeros_like(c.code), seen=seen)
            resolution = float(np.fmin(resolution, np.fmax(line.resolution, same)))
    if not np.any(c.code) and resolution > (bench.options.rtol or DULLEST):
        c = replace(c, code=np.ones_like(c.code), seen=np.full(c.seen.shape, Reason.DULL, dtype=object))
    line = _row(bench, c, rows, "numeric", resolution)
    kinks = np.any(np.isin(c.seen.astype(str), tuple(map(str, ADJUSTED))))  # there a spoilt claim may pass as well
    return [line if kinks else _scored_sums(bench, line, whole, rough if twin is None else fine)]


def _adjoint(c: Compared, reverse: Along, entries: int) -> float:
    """How far a claim in forward mode is at most off that in reverse mode, relative to a typical entry."""
    s = c.sides
    with np.errstate(all="ignore"):
        typical = np.sqrt(np.mean(reverse.value[0, :DENSE] ** 2) / entries)
        apart = np.abs(s.claim - reverse.value) + s.rounding + reverse.own
        return float(np.max(apart[0, :DENSE]) / (MISSED * typical))


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

    def along(spoilt: F64) -> Along:
        return replace(claim, value=spoilt.T)

    def error(spoilt: F64) -> F64:
        typical = np.sqrt(np.mean(claim.value**2))
        return np.asarray(np.abs(spoilt - claim.value.T) / typical)

    rng = generator(0, "faults", bench.label, line.wrt)
    return self_test.scored(line, whole.sheet, claim.value.T, along, error, rng, shape=(1,))


def _pushed_along(bench: Bench, pushed: F64, eps: float, point: F64, tangents: F64, claim: Claim) -> Along:
    """Directional derivatives of a forward-mode claim, with their rounding and conditioning."""
    assert bench.setting.channels is not None
    assert claim.jvp is not None
    terms = bench.setting.channels * pushed
    size, value = np.sum(np.abs(terms), axis=1), np.sum(terms, axis=1)
    slip = eps * (ROUNDING * size + own_dtype.UNITS * bench.setting.size)
    spread = np.zeros(value.shape)
    for k in range(claims.JITTERS if eps > 2.0**-52 else 0):
        signs = generator(0, "jitter", "forward", k).choice([-1.0, 1.0], point.shape)
        try:
            moved = np.sum(bench.setting.channels * claim.jvp(point * (1 + eps * signs), tangents), axis=1)
        except Exception:
            continue  # off the primal a claim need not exist
        spread = np.fmax(spread, np.abs(moved - value))
    own = slip + ROUNDING * spread
    return Along(value[None], own[None], slip[None], size[None], many=True)


def _row(bench: Bench, c: Compared, rows: Rows, against: str, resolution: float, *, entries: bool = False) -> Comparison:
    entry, unit = c.at if c.at is not None else (None, 1.0)
    line = comparison(
        c,
        bench.program,
        (rows.method, against),
        bench.rtol(rows),
        units=np.full(c.code.shape[1], unit),
        channels=bench.setting.channels,
        resolution=resolution,
        trial=bench.trial,
        mode="full" if entries else "probe",
        certainty=1.0 if entries else CERTAINTY,
    )
    return line if entry is None else replace(line, worst_entry=c.leaf.index(c.leaf.start + entry))
