"""Is the vjp linear in its cotangent? A backward that ignores the gradient it is given may be right for those tried."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS
from gradcheck.backends.program import Unavailable
from gradcheck.compare import conditioning, internal_precision, jacobians, output_scaling
from gradcheck.compare.output_scaling import outlook
from gradcheck.errors import TargetError
from gradcheck.evidence import directions
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from gradcheck.backends.program import Claim
    from gradcheck.compare.output_scaling import Outlook
    from gradcheck.compare.trial import Bench
    from gradcheck.evidence.line import F64

UNITS = 64.0  # in the last place of the slopes that the outputs' size makes likely
GROSS = 3e-2  # of the leaf's largest term: more is no rounding of any precision


def examine(bench: Bench, *, coarse: bool, seen: Outlook | None = None) -> list[Contract]:
    """Hold each claimed vjp of a random combination of two cotangents against the combination of their vjps, and its opposite.

    No differences are taken: nothing but rounding stands between the two.

    Args:
        coarse: whether the function's values come in steps that the evidence was lost in: then lower precision is inside.
        seen: what the outputs look like nearby, where that is known.
    """
    found, program = seen or outlook(bench.evaluator, bench.setting, bench.label), bench.program
    cotangents = np.stack([found.cotangent(generator(0, "linear", bench.label, k)) for k in range(2)])
    asked = [claim for claim in program.claims if claim.vjp is not None and not (claim.derived or claim.linear)]
    contracts = [_judged(bench, claim, cotangents, coarse=coarse) for claim in asked]
    return [contract for contract in contracts if contract is not None]


def _judged(bench: Bench, claim: Claim, cotangents: F64, *, coarse: bool) -> Contract | None:
    assert claim.vjp is not None
    program = bench.program
    weights = generator(0, "linear", bench.label).uniform(0.5, 2.0, len(cotangents))
    try:
        together = weights @ cotangents
        unit = _unit(together, claim.eps)
        *apiece, opposite, summed = claim.vjp(program.point, np.vstack([cotangents, -unit * together, together]))
    except (Unavailable, TargetError):
        return None  # told elsewhere
    rows = np.stack(apiece)
    terms = weights[:, None] * rows
    eps = max(claim.eps, *(EPS[leaf.dtype] for leaf in program.outputs))
    opposite = opposite / unit  # a power of two: all rounding is the same, whatever cancels
    apart, scaled = np.abs(summed - terms.sum(axis=0)), np.abs(summed + opposite)
    size = np.abs(terms).sum(axis=0)
    setting = replace(bench.setting, channels=np.abs(weights[:, None] * cotangents).sum(axis=0)[None])
    slopes = output_scaling.output_slopes(program, setting)[0]  # terms as large as the outputs may cancel in a derivative
    for leaf in bench.leaves:
        largest = float(np.max(size[leaf.span], initial=0.0))
        least = UNITS * (eps * largest + directions.smallest(eps) * max(1.0, 1 / float(unit)))
        last = least + UNITS * eps * np.max(slopes[leaf.span], initial=0.0)
        excess = np.maximum(_finite(apart[leaf.span]) - last, _finite(scaled[leaf.span]) - least)
        if np.any(excess > 0):  # unless the vjp is made of rounding alone, as one that is zero by cancellation
            moved = conditioning.jittered(jacobians.of_claim(claim, rows, program), program, cotangents)
            excess -= UNITS * np.max(weights @ moved.own[:, leaf.span], initial=0.0)
        if np.any(excess > 0):
            spread = conditioning.moved_at_all(jacobians.of_claim(claim, rows, program), program, cotangents)
            excess -= UNITS * np.max(weights @ spread[:, leaf.span], initial=0.0)
        if np.any(excess > 0):  # or computes in lower precision inside
            excess -= (GROSS if coarse else min(GROSS, UNITS * internal_precision.noise(bench))) * largest
        if np.any(excess > bench.rtol_of(eps) * largest):
            place = leaf.start + int(np.argmax(excess))
            values = summed[place], terms[:, place].sum(), -opposite[place]
            return Contract("linear-vjp", Verdict.FAIL, _told(claim, leaf.entry(place), values))
    return Contract("linear-vjp", Verdict.PASS, f"{claim.method}: the vjp of a sum of cotangents is the sum of their vjps")


def _unit(cotangent: F64, eps: float) -> float:
    """The power of two that brings a cotangent to about size 1, as a backward is asked in its daily work.

    1 where that would leave its smallest parts no normal numbers.
    """
    unit = float(2.0 ** -np.round(np.log2(directions.scale_of(cotangent))))
    least = np.min(np.abs(cotangent), where=cotangent != 0, initial=np.inf)
    return unit if least * unit >= directions.smallest(eps) / eps else 1.0


def _finite(apart: F64) -> F64:
    return np.nan_to_num(apart, nan=0.0, posinf=0.0)


def _told(claim: Claim, at: str, values: tuple[float, float, float]) -> str:
    summed, added, turned = (f"{value:.6g}" for value in values)
    return (
        f"the {claim.method} vjp is not linear in its cotangent: at {at} it is {summed} for a sum of cotangents, but {added}"
        f" as the sum of their vjps and {turned} by the opposite one; does the backward use the gradient it is given?"
    )
