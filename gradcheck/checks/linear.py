"""Is the vjp linear in its cotangent? A backward that ignores the gradient it is given may be right for those tried."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import EPS, Unavailable
from gradcheck.checks import partials
from gradcheck.checks.claims import jittered as of_rounding
from gradcheck.checks.claims import of_claim
from gradcheck.errors import TargetError
from gradcheck.evidence import probes
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import generator

if TYPE_CHECKING:
    from gradcheck.backends.program import Claim
    from gradcheck.checks.bench import Bench
    from gradcheck.evidence.line import F64

UNITS = 64.0  # in the last place of the leaf's largest term
GROSS = 1e-3  # of it: less may be the rounding of a backward that works with logarithms; values are compared elsewhere


def examine(bench: Bench) -> list[Contract]:
    """Hold each claimed vjp of a random combination of two cotangents against the combination of their vjps.

    No differences are taken: nothing but rounding stands between the two.
    """
    program = bench.program
    spans = [leaf.span for leaf in program.outputs]
    cotangents = np.stack([probes.cotangent(generator(0, "linear", bench.label, k), program.value, spans) for k in range(2)])
    claims = [claim for claim in program.claims if claim.vjp is not None and not claim.derived]
    found = [_judged(bench, claim, cotangents) for claim in claims]
    return [contract for contract in found if contract is not None]


def _judged(bench: Bench, claim: Claim, cotangents: F64) -> Contract | None:
    assert claim.vjp is not None
    program = bench.program
    weights = generator(0, "linear", bench.label).uniform(0.5, 2.0, len(cotangents))
    try:
        rows = claim.vjp(program.point, np.vstack([cotangents, weights @ cotangents]))
    except (Unavailable, TargetError):
        return None  # told elsewhere
    terms = weights[:, None] * rows[:-1]
    eps = max(claim.eps, *(EPS[leaf.dtype] for leaf in program.outputs))
    apart, size = np.abs(rows[-1] - terms.sum(axis=0)), np.abs(terms).sum(axis=0)
    setting = replace(bench.setting, channels=np.abs(weights[:, None] * cotangents).sum(axis=0)[None])
    size += partials.output_slopes(program, setting)[0]  # terms as large as the outputs may cancel in a derivative
    for leaf in bench.leaves:
        allowed = max(UNITS * eps, GROSS) * np.max(size[leaf.span], initial=0.0)
        excess = np.nan_to_num(apart[leaf.span], nan=0.0, posinf=0.0) - allowed
        if np.any(excess > 0):  # unless the vjp is made of rounding alone, as one that is zero by cancellation
            moved = of_rounding(of_claim(claim, rows[:-1], program), program, cotangents)
            excess -= UNITS * np.max(weights @ moved.own[:, leaf.span], initial=0.0)
        if np.any(excess > 0):
            place = leaf.start + int(np.argmax(excess))
            return Contract(
                "linear-vjp", Verdict.FAIL, _told(claim, leaf.path, leaf.index(place), rows[-1, place], terms[:, place])
            )
    return Contract("linear-vjp", Verdict.PASS, f"{claim.method}: the vjp of a sum of cotangents is the sum of their vjps")


def _told(claim: Claim, path: str, index: tuple[int, ...], together: float, terms: F64) -> str:
    at = f"{path}[{', '.join(map(str, index))}]" if index else path
    return (
        f"the {claim.method} vjp is not linear in its cotangent: for a sum of cotangents it is {together:.6g} at {at}, its"
        f" vjps add up to {terms.sum():.6g}; does the backward use the gradient it is given?"
    )
