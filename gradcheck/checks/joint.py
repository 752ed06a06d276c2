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

from gradcheck import listening
from gradcheck.checks import claims, self_test
from gradcheck.checks.outputs import Outlook, seen_along
from gradcheck.checks.own_dtype import UNITS
from gradcheck.checks.part import CERTAINTY, SUM
from gradcheck.checks.rows import output_name
from gradcheck.evidence import brief, probes
from gradcheck.evidence.line import F64, Setting, slack_for
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import generator
from gradcheck.verdict.compare import ROUNDING, default_rtol
from gradcheck.verdict.faults import rearranged

if TYPE_CHECKING:
    from gradcheck.backends.program import Claim, Leaf, Program
    from gradcheck.checks.evaluator import Evaluator
    from gradcheck.options import Options

LINES = 2
ENOUGH = 1e-3  # a leaf that is known no better by then is looked at by itself
LOUD = 1e4  # units of rounding: a function noisier than that wants a proper measurement
FORWARD = 2**16  # input numbers up to which a forward mode that is nobody's own work is asked for
BLOCK = 4096  # numbers of a leaf that the self-test spoils
TYPICAL = math.sqrt(13 / 12)  # root mean square of an even tangent, in scales


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


@dataclass(frozen=True)
class _Sums:
    """Over each leaf along each line, (K, L): of g u, of |g u|, of its square and of u squared; and max |g| and n, (L,)."""

    value: F64
    size: F64
    square: F64
    moved: F64
    largest: F64
    numbers: F64

    @property
    def typical(self) -> F64:
        """What an entry of each leaf typically moves by, (K, L)."""
        return np.sqrt(self.square / self.numbers) / TYPICAL

    def error(self, eps: float) -> F64:
        """The rounding of a claim along each line, (K,)."""
        spread = np.sqrt(2 * np.sum(self.square + self.largest**2 * self.moved, axis=1))
        return np.asarray(eps * (ROUNDING * spread + np.sum(self.size, axis=1)))


@dataclass(frozen=True)
class _Held:
    """A claim and the evidence along each line, (K,), and what they may differ by though both are right."""

    claim: Claim
    claimed: F64
    estimate: F64
    allowed: F64

    @property
    def apart(self) -> F64:
        return np.abs(self.claimed - self.estimate)

    @property
    def agree(self) -> bool:
        return bool(np.all(self.apart <= self.allowed))


def examine(evaluator: Evaluator, options: Options, label: str, trial: int, notes: list[str]) -> Joint | None:
    """Hold a claim against the numerical derivative along directions that move all leaves; None where that does not do.

    Raises:
        TargetError: where a derivative of the user's own raises.
    """
    program, remarks = evaluator.program, list[str]()
    leaves = [leaf for leaf in program.leaves if leaf.entries]
    vjps = list(claims.asked(program, only_vjp=True))
    if len(vjps) != 1:
        return None  # several are held against each other entry by entry, too
    seen = _seen(evaluator, leaves, label)
    if seen.lost.any():
        return None
    cotangent = _even(seen.scales.size, "cotangent", label) / np.maximum(seen.scales, probes.TINY)
    rtol = options.rtol or default_rtol(vjps[0][0].eps)
    gradient = _gradient(*vjps[0], program, cotangent, leaves, rtol, remarks)
    if gradient is None:
        return None
    rounding = 0.5 * program.eps * np.abs(program.value)
    setting = Setting(program.value, rounding, program.eps, None, probes.finest_step(program.eps), slack_for(LINES))
    peaks = [leaf.start + _peak(gradient[leaf.span]) for leaf in leaves]
    blocks = [_block(leaf, peak) for leaf, peak in zip(leaves, peaks, strict=True)]
    value, size, square, moved = np.zeros((4, LINES, len(leaves)))
    numbers = np.array([float(leaf.entries * leaf.width) for leaf in leaves])
    sums = _Sums(value, size, square, moved, np.abs(gradient[peaks]), numbers)
    slopes, shown, pushed = [], [], []
    tangent = np.zeros(program.point.size)
    for k in range(LINES):
        listening.tell("all leaves at once", k, LINES)
        _draw(tangent, program, leaves, label, k)
        _sum_up(sums, gradient, tangent, leaves, k)
        shown.append([tangent[block].copy() for block in blocks])
        if k == 0:
            pushed = _pushed(program, tangent, cotangent, rtol, remarks)
        slopes.append(_slope(evaluator, setting, tangent, cotangent, sharp=k == 0))
    slope, bound, noise = (np.concatenate([getattr(one, name) for one in slopes]) for name in ("value", "bound", "noise"))
    eps = program.eps if vjps[0][1] else vjps[0][0].eps
    own = np.fmax(sums.error(eps), program.eps * np.abs(slope))
    held = [_Held(vjps[0][0], sums.value.sum(axis=1), slope, bound + own)]
    held += [_Held(claim, np.array([at]), slope[:1], bound[:1] + error) for claim, at, error in pushed]
    louder = float(np.max(noise)) / _floor(setting, cotangent)
    if not all(one.agree for one in held) or louder > LOUD:
        return None
    found = [_lines(program, one, sums, leaves, options, trial, cotangent) for one in held]
    scored = [
        _scored(line, held[0], sums, i, gradient[block], np.stack([part[i] for part in shown]), label)
        for i, (line, block) in enumerate(zip(found[0], blocks, strict=True))
    ]
    columns = [scored, *(_scored_sums(lines, one, label) for lines, one in zip(found[1:], held[1:], strict=True))]
    table = dict(zip((leaf.path for leaf in leaves), map(list, zip(*columns, strict=True)), strict=True))
    rows = {path: lines for path, lines in table.items() if all(line.verdict is Verdict.PASS for line in lines)}
    notes += remarks
    return Joint(rows, replace(setting, noise=rounding * louder), seen)


def _floor(setting: Setting, cotangent: F64) -> float:
    """The least noise that a combination of the outputs can have."""
    return max(float(np.linalg.norm(cotangent * setting.noise)), float(np.finfo(np.float64).tiny))


def _slope(evaluator: Evaluator, setting: Setting, tangent: F64, cotangent: F64, *, sharp: bool) -> brief.Brief:
    phi, floor = evaluator.barely(tangent), np.array([_floor(setting, cotangent)])
    buffer = np.empty_like(setting.base)

    def change(t: float) -> F64:
        return np.array([cotangent @ np.subtract(phi(t), setting.base, out=buffer)])

    ask = brief.sharp if sharp else brief.plain
    return ask(change, 0.0, setting.eps, lambda _: floor, setting.slack)


def _seen(evaluator: Evaluator, leaves: list[Leaf], label: str) -> Outlook:
    """The scales of the outputs: looked for nearby only where an output is so small that its slope must tell."""
    program = evaluator.program
    size = np.abs(program.value)
    scales = np.concatenate([np.full(leaf.entries * leaf.width, probes.scale_of(size[leaf.span])) for leaf in program.outputs])
    if not np.any(size < probes.SMALL * scales):
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
    probes.even(generator(0, "joint", *stream), np.ones(size), out)
    return out


def _draw(tangent: F64, program: Program, leaves: list[Leaf], label: str, k: int) -> None:
    for leaf in leaves:
        probes.even(generator(0, "joint", label, leaf.path, k), program.point[leaf.span], tangent[leaf.span])


def _gradient(
    claim: Claim, twin: Claim | None, program: Program, cotangent: F64, leaves: list[Leaf], rtol: float, notes: list[str]
) -> F64 | None:
    """The claimed gradient (N,) in the precision of the evaluation; None where the claim in its own is not the same."""
    fine: F64 | None = None
    native: F64 | None = None
    with claims.remarked(claim, notes):
        if twin is not None:
            fine = claims.rows_of(twin, program.point, cotangent[None])[0]
        native = claims.rows_of(claim, program.point, cotangent[None])[0]
    if fine is None or native is None:
        return native
    same = all(_off(native[leaf.span], fine[leaf.span]) <= rtol for leaf in leaves)
    return fine if same else None


def _off(native: F64, fine: F64) -> float:
    """How far a claim is off its twin at most, relative to the entry and a typical one of its leaf."""
    typical, worst = probes.scale_of(fine), 0.0
    for piece in _pieces(fine.size):
        with np.errstate(all="ignore"):
            off = np.abs(native[piece] - fine[piece])
            off /= np.abs(fine[piece]) + typical
        worst = max(worst, float(np.max(off)))
        if not worst <= 1:  # NaN, too
            return math.inf
    return worst


def _pieces(size: int) -> list[slice]:
    return [slice(low, min(low + probes.PIECE, size)) for low in range(0, size, probes.PIECE)]


def _sum_up(sums: _Sums, gradient: F64, tangent: F64, leaves: list[Leaf], k: int) -> None:
    """Fill in one line of the sums, piece by piece."""
    for i, leaf in enumerate(leaves):
        g, u = gradient[leaf.span], tangent[leaf.span]
        for piece in _pieces(g.size):
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
            (claims.pushed(one, program.point, tangent[None], notes), one.eps)
            for one in (claims.twin_of(claim), claim)
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
        same = len(along) == 1 or abs(rough - value) <= coarse + rtol * size
        found.append((claim, value if same else math.inf, error))
    return found


def _lines(
    program: Program,
    held: _Held,
    sums: _Sums,
    leaves: list[Leaf],
    options: Options,
    trial: int,
    cotangent: F64,
) -> list[Comparison]:
    """The line of each leaf: PASS where a single wrong entry of typical size would have been seen.

    An entry wrong by r moves every line by at least LEAST r of its size. The duller line counts: it is at the steps that a
    closer look at what disagrees goes by, and what that could not confirm is not claimed to be seen.
    """
    count = len(held.claimed)
    with np.errstate(all="ignore"):
        margin = (held.apart + held.allowed)[:, None]
        resolutions = np.max(margin / (probes.LEAST * sums.typical[:count]), axis=0)
        worst = int(np.argmax(np.nan_to_num(held.apart / held.allowed)))
        errors = held.apart[worst] / np.minimum(sums.size[worst], SUM * np.sqrt(sums.square[worst]))
    limit, rtol = options.rtol or ENOUGH, options.rtol or default_rtol(held.claim.eps)
    output = output_name(program, 0, cotangent[None])
    return [
        Comparison(
            wrt=leaf.path,
            output=output,
            method=held.claim.method,
            against="numeric",
            verdict=Verdict.PASS if resolution <= limit else Verdict.INCONCLUSIVE,
            reason=Reason.AGREES if resolution <= limit else Reason.DULL,
            claimed=float(held.claimed[worst]),
            estimate=float(held.estimate[worst]),
            bound=float(held.allowed[worst]),
            abs_err=float(held.apart[worst]),
            rel_err=float(error),
            rtol=rtol,
            resolution=float(resolution),
            shape=leaf.shape,
            dtype=leaf.dtype,
            entries=leaf.entries,
            trial=trial,
            mode="probe",
            certainty=CERTAINTY,
        )
        for leaf, resolution, error in zip(leaves, resolutions, errors, strict=True)
    ]


def _scored(line: Comparison, held: _Held, sums: _Sums, i: int, gradient: F64, tangents: F64, label: str) -> Comparison:
    """The score of the self-test; entries are changed and rearranged among some numbers of a leaf, which is harder to see.

    Args:
        gradient: of these numbers, and `tangents` the lines, (K, n), there.
    """
    size, typical = self_test.size_for(line), math.sqrt(np.mean(sums.typical[:, i] ** 2))
    if not size < 1:
        return line
    signed, value = held.claimed - held.estimate, sums.value[:, i]

    def slips(change: F64) -> bool:
        return bool(np.all(np.abs(signed + change) <= held.allowed))

    faults = {"zeroed": -1.0, "sign flipped": -2.0, "scaled up": size, "scaled down": -size}
    found = {name: slips(share * value) for name, share in faults.items()}
    peak = _peak(gradient)
    found["one entry changed"] = slips(size * gradient[peak] * tangents[:, peak])
    scales = np.sqrt(np.mean(tangents**2, axis=0)) / TYPICAL
    width = 2 if line.dtype.startswith("complex") else 1
    shape = (*line.shape, width) if gradient.size == line.entries * width else (-1, width)
    rng = generator(0, "faults", label, line.wrt)
    for name, spoilt in rearranged(gradient.reshape(1, *shape), rng):
        change = spoilt.reshape(-1) - gradient
        if np.linalg.norm(change * scales) >= size * typical:
            found[name] = slips(tangents @ change)
    return self_test.marked(line, found.items())


def _scored_sums(lines: list[Comparison], held: _Held, label: str) -> list[Comparison]:
    """The score of the faults that show in a sum over all entries, which is all that is known of a claim in forward mode.

    It is the same sum for every leaf, so the line that states the least of itself is scored, and the score is that of all.
    """

    def slips(spoilt: F64) -> bool:
        return bool(np.all(np.abs(spoilt[0] - held.estimate) <= held.allowed))

    def error(spoilt: F64) -> F64:
        return np.asarray(np.abs(spoilt - held.claimed)[:, 0] / np.abs(held.claimed))

    sharpest = min(lines, key=lambda line: line.resolution)
    rng = generator(0, "faults", label, held.claim.method)
    score = self_test.scored(sharpest, held.claimed[None], slips, error, rng, shape=(1, 1)).self_test
    if score is None or score.slipped:
        return [replace(line, verdict=Verdict.INCONCLUSIVE, reason=Reason.BLIND) for line in lines]
    return [replace(line, self_test=score) for line in lines]
