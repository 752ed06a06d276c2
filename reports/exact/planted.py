"""Faults planted in exact graphs: one operator of the claim is changed, and nothing of the forward."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from gradcheck.exact import floating
from gradcheck.exact.arithmetic import list_ancestors
from gradcheck.exact.constants import Constant
from gradcheck.exact.graph import Constants, Input, Node, Product
from gradcheck.exact.identity import Identity, IdentityOutcome, decide

# A fault multiplies one operator's result. A smaller one does not show in floating point, where a factor of 2 stands for it.
FACTORS = (Fraction(2), 1 + Fraction(1, 10**12), Fraction(-1))
VISIBLE = 0.1
FAULTS = 4  # operators of each claim that are changed


@dataclass(frozen=True)
class Score:
    """How many planted faults changed the claim, and how many of these were refuted."""

    effective: int
    refuted: int


def plant_faults(identity: Identity, seed: int) -> Score:
    """Change a few operators of a claim one at a time, and decide the identity each time."""
    draw, score = np.random.default_rng(seed), Score(0, 0)
    known = set(list_ancestors(identity.outputs, lambda _: False, lambda n: n.arguments))
    roots = [claim for claim in identity.claims if claim is not None]
    own = [
        node
        for node in list_ancestors(roots, known.__contains__, lambda n: n.arguments)
        if not isinstance(node, Constants | Input)
    ]
    for place in draw.permutation(len(own))[:FAULTS]:
        for factor in FACTORS:
            visible = Fraction(2) if abs(factor - 1) < VISIBLE else factor
            if not _matters(identity, _scale_node(identity, own[place], visible), draw):
                continue  # such as another sign of a number that is squared
            decision = decide(_scale_node(identity, own[place], factor), seed, 5.0)
            is_refuted = IdentityOutcome.REFUTED in decision.outcomes
            score = Score(score.effective + 1, score.refuted + (is_refuted or IdentityOutcome.PROVED not in decision.outcomes))
    return score


def _scale_node(identity: Identity, chosen: Node, factor: Fraction) -> Identity:
    """Multiply one node of the claims, and make everything anew that depends on it."""
    number = Constants((), distinct=(Constant(factor),), places=np.zeros(1, np.intp))
    made: dict[Node, Node] = {}
    for node in list_ancestors([c for c in identity.claims if c is not None], made.__contains__, lambda n: n.arguments):
        arguments = tuple(made.get(argument, argument) for argument in node.arguments)
        same = all(a is b for a, b in zip(arguments, node.arguments, strict=True))
        made[node] = node if same else replace(node, arguments=arguments)
        if node is chosen:
            made[node] = Product(node.shape, (number, made[node]))
    return replace(identity, claims=tuple(None if claim is None else made[claim] for claim in identity.claims))


def _matters(right: Identity, faulty: Identity, draw: np.random.Generator) -> bool:
    """Say whether a fault changes a claim at random numbers; a NaN on a branch that is not taken changes nothing."""
    inputs: dict[Node, np.ndarray] = {
        node: draw.uniform(0.2, 0.9, node.shape) for node in (*right.leaves, *right.cotangents, *right.tangents)
    }
    pairs = [(a, b) for a, b in zip(right.claims, faulty.claims, strict=True) if a is not None and b is not None]
    before, after = (floating.evaluate([pair[k] for pair in pairs], inputs) for k in (0, 1))
    return any(
        np.any(np.isfinite(a) & np.isfinite(b) & ~np.isclose(a, b, rtol=1e-3)) for a, b in zip(before, after, strict=True)
    )
