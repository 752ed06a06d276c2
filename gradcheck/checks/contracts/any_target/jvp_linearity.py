"""Contract `linear-jvp`: the jvp is linear in its tangent, as the rule of a `custom_jvp` may fail to be.

A product with a power of two, or with -1, does not round. A linear jvp of 2t is therefore 2 jvp(t) to the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.program import Claim, Unavailable
from gradcheck.compare.identity import bound_round_off, find_unexplained
from gradcheck.errors import TargetError
from gradcheck.evidence import directions
from gradcheck.number_format import FLOAT32
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from gradcheck.compare.trial import MeasuredTrial

NAME = "linear-jvp"
FACTORS = {2.0: "2", -1.0: "-"}  # a factor of the tangent, and how it is written before t


def check_jvp_linearity(trial: MeasuredTrial) -> list[Contract]:
    """Compare each jvp that the user may have written, by hand, in a Function or in a rule of JAX's, of t, 2t and -t."""
    layer = trial.program.capabilities.layer
    has_functions = layer is not None and bool(layer.user_functions)
    claims = [claim for claim in trial.program.claims if claim.jvp is not None and not claim.derived]
    written = [claim for claim in claims if claim.direct_calls or has_functions or claim.has_jvp_rule()]
    contracts = [_check_claim(trial, claim) for claim in written]
    return [contract for contract in contracts if contract is not None]


def _check_claim(trial: MeasuredTrial, claim: Claim) -> Contract | None:
    """Check one claim; None if the jvp cannot be computed, which is reported elsewhere."""
    assert claim.jvp is not None
    program = trial.program
    tangent = np.empty(program.point.size)
    directions.fill_even(make_generator(0, NAME, trial.label), program.point, tangent)
    try:
        plain, *scaled = claim.jvp(program.point, np.stack([tangent, *(factor * tangent for factor in FACTORS)]))
    except (Unavailable, TargetError):
        return None
    for (factor, sign), row in zip(FACTORS.items(), scaled, strict=True):
        for leaf in program.outputs:
            expected = factor * plain[leaf.span]
            largest = np.max(np.abs(expected), initial=0.0)
            allowed = bound_round_off(claim.eps, largest)
            difference = np.nan_to_num(np.abs(row[leaf.span] - expected), posinf=0.0)  # one may overflow
            if factor < 0 or claim.eps <= FLOAT32.eps:  # in half precision 2t may overflow inside, and give NaN
                difference[np.isnan(row[leaf.span]) & np.isfinite(expected)] = np.inf
            worst = find_unexplained(difference, allowed)
            if worst is not None:
                message = (
                    f"{claim.method} jvp({sign}t) is not {sign}{' ' * (sign == '2')}jvp(t): {leaf.entry(leaf.start + worst)} is"
                    f" {row[leaf.start + worst]:.6g} instead of {expected[worst]:.6g}; a rule must be linear in its tangents"
                )
                return Contract(NAME, Verdict.FAIL, message)
    return Contract(NAME, Verdict.PASS, f"{claim.method}: the jvp of 2t is 2 jvp(t), and that of -t is -jvp(t)")
