"""Probe mode at its cheapest: all leaves at once, along two random directions.

It confirms what is right, in about a dozen evaluations however many leaves there are, and can do nothing else: where anything
disagrees, or a leaf's share in the sum is too small to be seen sharply, each leaf is looked at by itself (checks/probe.py).
Nothing here takes more memory than a few vectors as long as the inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck import progress
from gradcheck.backends import memory
from gradcheck.checks.derivative import fault_injection, whole_input_table
from gradcheck.compare import jacobians
from gradcheck.compare.output_scaling import Outlook, seen_along
from gradcheck.compare.pairs import UNITS
from gradcheck.evidence import directions, richardson
from gradcheck.evidence.line import F64, Setting, slack_for
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import generator
from gradcheck.verdict.interval import ROUNDING, UNSEEN, default_rtol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.options import Options

LINES = 2
LOUD = 1e4  # units of rounding: a function noisier than that wants a proper measurement
FORWARD = 2**16  # input numbers up to which a forward mode that is nobody's own work is asked for
STILL = (0.25, -0.25, 0.0625)  # how far the outputs must stand still where the claim is nothing; the first alone where ...
BOTH_WAYS = 64  # ... each leaf has so many entries, some of which move one way and some the other
LONG = 2**22  # numbers from which on it pays to give memory back before more vectors of that length are made
BLOCK = 4096  # numbers of a leaf that the self-test spoils


@dataclass(frozen=True)
class Joint:
    """What all leaves at once have shown.

    Attributes:
        rows: of the table, by the path of the leaf; of those leaves that are confirmed.
        setting: the noise as far as it was seen.
        seen: the scales of the outputs.
    """

    rows: dict[str, list[Comparison]]
    setting: Setting
    seen: Outlook


def examine(evaluator: Evaluator, options: Options, label: str, trial: int, notes: list[str]) -> Joint | None:
    """Hold a claim against the numerical derivative along directions that move all leaves; None where that does not do.

    Raises:
        TargetError: where a derivative of the user's own raises.
    """
    program, remarks = evaluator.program, list[str]()
    leaves = [leaf for leaf in program.leaves if leaf.entries]
    vjps = list(jacobians.asked(program, only_vjp=True))
    if len(vjps) != 1:
        return None  # several are held against each other entry by entry, too
    seen = _seen(evaluator, leaves, label)
    if seen.lost.any():
        return None
    cotangent = _even(seen.scales.size, "cotangent", label) / np.maximum(seen.scales, directions.TINY)
    if cotangent.size == 1:
        cotangent = -np.abs(cotangent)  # what is right for positive cotangents alone is seen by every seed
    rtol = options.rtol or default_rtol(vjps[0][0].eps)
    gradient, off, same, nothing = _gradient(*vjps[0], program, cotangent, leaves, rtol, remarks)
    if gradient is None or not np.any(same):
        return None
    rounding = 0.5 * program.eps * np.abs(program.value)
    setting = Setting(program.value, rounding, program.eps, None, directions.finest_step(program.eps), slack_for(LINES))
    peaks = [leaf.start + _peak(gradient[leaf.span]) for leaf in leaves]
    blocks = [_block(leaf, peak) for leaf, peak in zip(leaves, peaks, strict=True)]
    value, size, square, moved = np.zeros((4, LINES, len(leaves)))
    numbers = np.array([float(leaf.entries * leaf.width) for leaf in leaves])
    sums = whole_input_table.Sums(value, size, square, moved, np.abs(gradient[peaks]), numbers, off)
    slopes: list[richardson.Brief] = []
    shown, pushed = [], []
    tangent = np.zeros(program.point.size)
    for k in range(LINES):
        progress.tell("all leaves at once", k, LINES)
        _draw(tangent, program, leaves, label, k)
        _sum_up(sums, gradient, tangent, leaves, k)
        shown.append([tangent[block].copy() for block in blocks])
        if k == 0:
            pushed = _pushed(program, tangent, cotangent, rtol, remarks)
        slopes.append(_slope(evaluator, setting, tangent, cotangent, float(sums.value[k].sum()), slopes[0] if k else None))
    slope, bound, noise = (np.concatenate([getattr(one, name) for one in slopes]) for name in ("value", "bound", "noise"))
    eps = program.eps if vjps[0][1] else vjps[0][0].eps
    own = np.fmax(sums.error(eps), program.eps * np.abs(slope))
    plain = richardson.noise_bound(noise, richardson.finest(richardson.TWO, 0.0, program.eps), setting.slack)
    held = [whole_input_table.Held(vjps[0][0], sums.value.sum(axis=1), slope, bound + own, plain)]
    held += [
        whole_input_table.Held(claim, np.array([at]), slope[:1], bound[:1] + error, plain[:1]) for claim, at, error in pushed
    ]
    louder = float(np.min(noise)) / _floor(setting, cotangent)  # what is not smooth along a line only adds to it
    if not all(one.agree for one in held) or louder > LOUD:
        return None
    found = [whole_input_table.lines(program, one, sums, leaves, options, trial, cotangent) for one in held]
    scored = [
        whole_input_table.scored(line, held[0], sums, i, gradient[block], np.stack([part[i] for part in shown]), label)
        for i, (line, block) in enumerate(zip(found[0], blocks, strict=True))
    ]
    columns = [
        scored,
        *(whole_input_table.scored_sums(lines, one, label) for lines, one in zip(found[1:], held[1:], strict=True)),
    ]
    setting = replace(setting, noise=rounding * louder)
    rows = [list(lines) for lines in zip(*columns, strict=True)]
    if nothing.any():
        lost = {i: leaves[i] for i, so in enumerate(nothing) if so}
        quiet = replace(setting, noise=rounding * min(louder, richardson.SUSPECT))  # more may be what is not smooth elsewhere
        for i, within in _still(evaluator, quiet, lost, tangent, cotangent, label).items():
            rows[i] = [_zero(line, within) for line in rows[i]]
    notes += remarks
    return Joint(_confirmed(leaves, rows, same | nothing), setting, seen)


def _confirmed(leaves: list[Leaf], rows: list[list[Comparison]], same: NDArray[np.bool_]) -> dict[str, list[Comparison]]:
    passed = [agrees and all(line.verdict is Verdict.PASS for line in lines) for lines, agrees in zip(rows, same, strict=True)]
    return {leaf.path: lines for leaf, lines, kept in zip(leaves, rows, passed, strict=True) if kept}


def _still(
    evaluator: Evaluator, setting: Setting, leaves: dict[int, Leaf], tangent: F64, cotangent: F64, label: str
) -> dict[int, float]:
    """Those of some leaves along which the outputs stand still, and what the slope there is within of zero.

    As along the bias of the keys in attention, which the softmax takes out again. All at once, and each alone where they do not
    stand still together, as factors that are all zero do not.
    """
    together = _still_within(evaluator, setting, list(leaves.values()), tangent, cotangent, label)
    if together is not None:
        return dict.fromkeys(leaves, together)
    parts = leaves.items() if len(leaves) > 1 else ()
    alone = {i: _still_within(evaluator, setting, [leaf], tangent, cotangent, label) for i, leaf in parts}
    return {i: bound for i, bound in alone.items() if bound is not None}


def _still_within(
    evaluator: Evaluator, setting: Setting, leaves: list[Leaf], tangent: F64, cotangent: F64, label: str
) -> float | None:
    """What the slope along some leaves at once is within of zero, as the outputs stand still far along them; else None."""
    tangent[:] = 0.0
    _draw(tangent, evaluator.program, leaves, label, LINES + 1)
    phi, noise = evaluator.barely(tangent), setting.slack * _floor(setting, cotangent)
    steps = STILL[:1] if min(leaf.entries for leaf in leaves) >= BOTH_WAYS else STILL
    moved = max(abs(float(cotangent @ (phi(t) - setting.base))) for t in steps)
    return noise / max(STILL) if moved <= noise else None


def _zero(line: Comparison, bound: float) -> Comparison:
    """The line of a leaf whose claim is nothing beside the outputs, and rightly so: what is claimed is rounding."""
    return replace(
        fault_injection.marked(line, [("one entry changed", False)]),  # it would not have been nothing
        verdict=Verdict.PASS,
        reason=Reason.BOTH_ZERO,
        claimed=0.0,
        estimate=0.0,
        bound=bound,
        abs_err=0.0,
        rel_err=math.nan,
        resolution=math.nan,
    )


def _floor(setting: Setting, cotangent: F64) -> float:
    """The least noise that a combination of the outputs can have."""
    return max(float(np.linalg.norm(cotangent * setting.noise)), float(np.finfo(np.float64).tiny))


def _slope(
    evaluator: Evaluator, setting: Setting, tangent: F64, cotangent: F64, claimed: float, first: richardson.Brief | None
) -> richardson.Brief:
    """The slope along a line: the first sharply, the next one like it; sharply as well where it seems not to be like it."""
    phi, floor = evaluator.barely(tangent), np.array([_floor(setting, cotangent)])
    buffer = np.empty_like(setting.base)

    def change(t: float) -> F64:
        return np.array([cotangent @ np.subtract(phi(t), setting.base, out=buffer)])

    asked = (change, 0.0, setting.eps, lambda _: floor, setting.slack)
    if first is not None:
        found = richardson.like(first, *asked)
        if np.all(np.abs(found.value - claimed) <= found.bound):
            return found
    return richardson.sharp(*asked)


def _seen(evaluator: Evaluator, leaves: list[Leaf], label: str) -> Outlook:
    """The scales of the outputs: looked for nearby only where an output is so small that its slope must tell."""
    program = evaluator.program
    size = np.abs(program.value)
    scales = np.concatenate(
        [np.full(leaf.entries * leaf.width, directions.scale_of(size[leaf.span])) for leaf in program.outputs]
    )
    if not np.any(size < directions.SMALL * scales):
        return Outlook(scales, np.zeros(scales.size, dtype=bool))
    tangent = np.zeros(program.point.size)
    _draw(tangent, program, leaves, label, LINES)
    return seen_along(program, evaluator.barely(tangent))


def _peak(g: F64) -> int:
    """Where a gradient is largest in size."""
    high, low = int(np.argmax(g)), int(np.argmin(g))
    return high if g[high] >= -g[low] else low


def _block(leaf: Leaf, peak: int) -> slice:
    """Some numbers of a leaf around its largest derivative."""
    low = leaf.start + (peak - leaf.start) // BLOCK * BLOCK
    return slice(low, min(low + BLOCK, leaf.span.stop))


def _even(size: int, *stream: object) -> F64:
    out = np.empty(size)
    directions.even(generator(0, "joint", *stream), np.ones(size), out)
    return out


def _draw(tangent: F64, program: Program, leaves: list[Leaf], label: str, k: int) -> None:
    for leaf in leaves:
        directions.even(generator(0, "joint", label, leaf.path, k), program.point[leaf.span], tangent[leaf.span])


def _gradient(
    claim: Claim, twin: Claim | None, program: Program, cotangent: F64, leaves: list[Leaf], rtol: float, notes: list[str]
) -> tuple[F64 | None, F64, NDArray[np.bool_], NDArray[np.bool_]]:
    """The claimed gradient (N,) in the precision of the evaluation.

    And for each leaf how far off it is in its own precision, whether that is as good as the same, and whether it is lost in the
    outputs' last bits in both.
    """
    fine: F64 | None = None
    native: F64 | None = None
    every, exact = np.ones(len(leaves), dtype=bool), np.zeros(len(leaves))
    with jacobians.remarked(claim, notes):
        if twin is not None:
            fine = _row(twin, program, cotangent)
        native = _row(claim, program, cotangent)
    if native is None:
        return None, exact, every, every
    nothing = _nothing(native, claim.eps, program, cotangent, leaves)
    if twin is None or fine is None:
        return (native if twin is None else fine), exact, every, nothing
    nothing &= _nothing(fine, twin.eps, program, cotangent, leaves)
    off, among = np.transpose([_off(native[leaf.span], fine[leaf.span]) for leaf in leaves])
    return fine, exact if program.half else off, among <= rtol, nothing


def _row(claim: Claim, program: Program, cotangent: F64) -> F64:
    found: F64 = jacobians.rows_of(claim, program.point, cotangent[None])[0]
    if found.size > LONG:
        memory.given_back()
    return found


def _nothing(gradient: F64, eps: float, program: Program, cotangent: F64, leaves: list[Leaf]) -> NDArray[np.bool_]:
    """For each leaf whether a gradient is lost in the last bits of the outputs.

    Only where it is zero in a precision whose last bits would hide an entry that the self-test plants in a gradient of nothing.
    """
    outputs = float(np.max(np.abs(cotangent * program.value), initial=0.0))
    lost = UNSEEN * eps * outputs if UNSEEN * eps < fault_injection.OF_NOTHING else 0.0
    sizes = [abs(gradient[leaf.start + _peak(gradient[leaf.span])]) for leaf in leaves]
    scales = [directions.scale_of(program.point[leaf.span]) for leaf in leaves]
    return np.array([size * scale <= lost for size, scale in zip(sizes, scales, strict=True)])


def _off(native: F64, fine: F64) -> tuple[float, float]:
    """How far a claim is off its twin at most, over an entry and a typical one: of all, and of those that are not zero."""
    typical, worst, among = directions.scale_of(fine), 0.0, 0.0
    filled = typical * math.sqrt(fine.size / max(1.0, float(np.count_nonzero(fine))))
    for piece in directions.pieces(fine.size):
        with np.errstate(all="ignore"):
            size = np.abs(fine[piece])
            off = np.abs(native[piece] - fine[piece])
            worst = max(worst, float(np.max(off / (size + typical))))
            among = max(among, float(np.max(off / (size + filled))))
        if not worst <= 1:  # NaN, too
            return math.inf, math.inf
    return worst, among


def _sum_up(sums: whole_input_table.Sums, gradient: F64, tangent: F64, leaves: list[Leaf], k: int) -> None:
    """Fill in one line of the sums, piece by piece."""
    for i, leaf in enumerate(leaves):
        g, u = gradient[leaf.span], tangent[leaf.span]
        for piece in directions.pieces(g.size):
            terms = g[piece] * u[piece]
            sums.value[k, i] += np.sum(terms)
            sums.square[k, i] += np.dot(terms, terms)
            sums.moved[k, i] += np.dot(u[piece], u[piece])
            sums.size[k, i] += np.sum(np.abs(terms, out=terms))


def _pushed(program: Program, tangent: F64, cotangent: F64, rtol: float, notes: list[str]) -> list[tuple[Claim, float, float]]:
    """What each claim in forward mode says along a tangent, and its error; infinitely far off where its twin says otherwise."""
    found = []
    for claim in (c for c in program.claims if c.vjp is None):
        if claim.optional and program.point.size > FORWARD:
            notes.append(f"{claim.method} not asked for: {program.point.size} input numbers are more than {FORWARD}")
            continue
        said = [
            (jacobians.pushed(one, program.point, tangent[None], notes), one.eps)
            for one in (jacobians.twin_of(claim), claim)
            if one is not None
        ]
        along = []
        for pushed, eps in said:
            if pushed is None:
                break
            terms = cotangent * pushed[0]
            size = float(np.sum(np.abs(terms)))
            largest = float(np.max(np.abs(cotangent * program.value), initial=0.0))
            along.append((float(np.sum(terms)), eps * (ROUNDING * size + UNITS * largest), size))
        if len(along) < len(said):
            continue
        (value, error, size), (rough, coarse, _) = along[0], along[-1]
        same = len(along) == 1 or program.half or abs(rough - value) <= coarse + rtol * size
        found.append((claim, value if same else math.inf, error))
    return found
