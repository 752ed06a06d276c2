"""What all leaves at once have shown, as lines of the table with their scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.checks.derivative import fault_injection
from gradcheck.checks.derivative.probe_block import CERTAINTY
from gradcheck.compare.entry_lines import SUM
from gradcheck.compare.table import output_name
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import generator
from gradcheck.verdict.interval import DULLEST, ROUNDING, default_rtol
from gradcheck.verdict.planted_faults import rearranged

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, Program
    from gradcheck.options import Options

ENOUGH = 1e-3  # a leaf that is known no better by then is looked at by itself ...
LARGE = 2**20  # ... and among more input numbers than these one that is known no better than the dullest PASS
TYPICAL = math.sqrt(13 / 12)  # root mean square of an even tangent, in scales


@dataclass(frozen=True)
class Sums:
    """Over each leaf along each line, (K, L): of g u, of |g u|, of its square and of u squared; and max |g| and n, (L,).

    Attributes:
        off: how far the claim is off its twin at most, relative to the entry and a typical one, (L,).
    """

    value: F64
    size: F64
    square: F64
    moved: F64
    largest: F64
    numbers: F64
    off: F64

    @property
    def typical(self) -> F64:
        """What an entry of each leaf typically moves by, (K, L)."""
        return np.sqrt(self.square / self.numbers) / TYPICAL

    def error(self, eps: float) -> F64:
        """The rounding of a claim along each line, (K,)."""
        spread = np.sqrt(2 * np.sum(self.square + self.largest**2 * self.moved, axis=1))
        return np.asarray(eps * (ROUNDING * spread + np.sum(self.size, axis=1)))


@dataclass(frozen=True)
class Held:
    """A claim and the evidence along each line, (K,), and what they may differ by though both are right.

    Attributes:
        plain: how far noise alone would leave the evidence from the truth at the steps of a first closer look.
    """

    claim: Claim
    claimed: F64
    estimate: F64
    allowed: F64
    plain: F64

    @property
    def apart(self) -> F64:
        """|claim - estimate|."""
        return np.abs(self.claimed - self.estimate)

    @property
    def agree(self) -> bool:
        """Whether they do not differ by more than that."""
        return bool(np.all(self.apart <= self.allowed))


def lines(
    program: Program,
    held: Held,
    sums: Sums,
    leaves: list[Leaf],
    options: Options,
    trial: int,
    cotangent: F64,
) -> list[Comparison]:
    """The line of each leaf: PASS where a single wrong entry of typical size would have been seen.

    An entry wrong by r moves every line by at least LEAST r of its size. What a first closer look could not confirm is not
    claimed to be seen, unless that is too dull to leave it at that.
    """
    count = len(held.claimed)
    limit = options.rtol or (ENOUGH if program.point.size <= LARGE else DULLEST)
    with np.errstate(all="ignore"):
        least = directions.LEAST * sums.typical[:count]
        resolutions, plain = (np.max((held.apart + u)[:, None] / least, axis=0) for u in (held.allowed, held.plain))
        worst = int(np.argmax(np.nan_to_num(held.apart / held.allowed)))
        errors = held.apart[worst] / np.minimum(sums.size[worst], SUM * np.sqrt(sums.square[worst]))
    rtol = options.rtol or default_rtol(min(held.claim.eps, EPS["float32"]) if program.half else held.claim.eps)
    dullest = options.rtol or DULLEST
    stated = np.fmax(np.fmax(resolutions, np.fmin(plain, dullest)), sums.off)
    sharp = (resolutions <= limit) & (stated <= dullest)
    output = output_name(program, 0, cotangent[None])
    return [
        Comparison(
            wrt=leaf.path,
            output=output,
            method=held.claim.method,
            against="numeric",
            verdict=Verdict.PASS if known else Verdict.INCONCLUSIVE,
            reason=Reason.AGREES if known else Reason.DULL,
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
        for leaf, resolution, known, error in zip(leaves, stated, sharp, errors, strict=True)
    ]


def scored(line: Comparison, held: Held, sums: Sums, i: int, gradient: F64, tangents: F64, label: str) -> Comparison:
    """The score of the self-test; entries are changed and rearranged among some numbers of a leaf, which is harder to see.

    Args:
        gradient: of these numbers, and `tangents` the lines, (K, n), there.
    """
    size, typical = fault_injection.size_for(line), math.sqrt(np.mean(sums.typical[:, i] ** 2))
    if not size < 1:
        return line
    signed, value = held.claimed - held.estimate, sums.value[:, i]

    def slips(change: F64) -> bool:
        return bool(np.all(np.abs(signed + change) <= held.allowed))

    faults = {"zeroed": -1.0, "sign flipped": -2.0, "scaled up": size, "scaled down": -size}
    found = {name: slips(share * value) for name, share in faults.items()}
    scales = np.sqrt(np.mean(tangents**2, axis=0)) / TYPICAL
    peak = int(np.argmax(np.abs(gradient) * scales))  # the size of a fault counts as it moves the outputs
    found["one entry changed"] = slips(size * gradient[peak] * tangents[:, peak])
    width = 2 if line.dtype.startswith("complex") else 1
    shape = (*line.shape, width) if gradient.size == line.entries * width else (-1, width)
    rng = generator(0, "faults", label, line.wrt)
    for name, spoilt in rearranged(gradient.reshape(1, *shape), rng):
        change = spoilt.reshape(-1) - gradient
        if np.linalg.norm(change * scales) >= size * typical:
            found[name] = slips(tangents @ change)
    return fault_injection.marked(line, found.items())


def scored_sums(lines: list[Comparison], held: Held, label: str) -> list[Comparison]:
    """The score of the faults that show in a sum over all entries, which is all that is known of a claim in forward mode.

    It is the same sum for every leaf, so the line that states the least of itself is scored, and the score is that of all.
    """

    def slips(spoilt: F64) -> bool:
        return bool(np.all(np.abs(spoilt[0] - held.estimate) <= held.allowed))

    def error(spoilt: F64) -> F64:
        return np.asarray(np.abs(spoilt - held.claimed)[:, 0] / np.abs(held.claimed))

    sharpest = min(lines, key=lambda line: line.resolution)
    rng = generator(0, "faults", label, held.claim.method)
    score = fault_injection.scored(sharpest, held.claimed[None], slips, error, rng, shape=(1, 1)).self_test
    if score is None or score.slipped:
        return [replace(line, verdict=Verdict.INCONCLUSIVE, reason=Reason.BLIND) for line in lines]
    return [replace(line, self_test=score) for line in lines]
