"""Contract `depends`: an output depends only on the inputs, and on the positions along an axis, that are declared.

Blocks of forbidden positions are moved: no bit of the output may change, and no entry of a claimed gradient may reach them.
Some code only rounds differently, such as a transform of all positions at once. It is recognised by moving the block a little
further: rounding then gives other numbers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.program import Unavailable
from gradcheck.compare import claimed_jacobians
from gradcheck.compare.identity import bound_round_off
from gradcheck.evidence import directions
from gradcheck.results import Contract, Verdict
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from gradcheck.backends.flat import F64, Leaf
    from gradcheck.backends.program import Claim
    from gradcheck.checks.contracts.dependence_rules import Allowed, DependenceRule, PositionedLeaf
    from gradcheck.compare.trial import Trial

    Chosen = NDArray[np.bool_]

NAME = "depends"
# At most this many blocks of positions are moved for each rule, and fewer if they would take longer than the budget.
MAX_BLOCKS, MIN_BLOCKS = 64, 4
DEFAULT_BUDGET = 10.0  # seconds
# Moved entries are multiplied by random factors in each of these ranges: the first keeps them in the function's domain.
FACTORS = ((0.3, 0.7), (-3.0, -1.5))
# A dependence changes by at most this share if the moved entries move by this much more; rounding changes altogether.
REPEATS, JITTER, REPRODUCED = 3, 1e-4, 0.25
# A position that seems to have no influence is moved this many times as far as well, in both directions: a maximum may hide it.
FURTHER = (0.0, 100.0, -100.0)


@dataclass(eq=False)
class Way:
    """A way to see what depends on what: the values of the function, or a claimed product.

    Attributes:
        name: 'values', or the method of the claim.
        respond: (numbers that are moved, index of the draw, jitter) -> response of every number on the other side, and the size
            of the numbers that it was computed from. Raises TargetError.
        backward: whether numbers of the outputs are moved, and those of the inputs respond.
        draws: the number of draws.
        eps: relative spacing of floats.
        rounding: the largest response so far that was rounding.
    """

    name: str
    respond: Callable[[Chosen, int, float], tuple[F64, float]]
    backward: bool
    draws: int
    eps: float
    rounding: float = 0.0

    def find_leak(self, moved: Chosen, draw: int, at: Chosen) -> int | None:
        """Return the number with the largest response among some that must not respond; None if they only round."""
        response, size = self.respond(moved, draw, 0.0)
        responses = np.where(at, np.abs(response), 0.0)
        worst = int(np.argmax(responses))
        if not responses[worst]:
            return None
        is_rounding = responses[worst] <= bound_round_off(self.eps, size)
        for k in range(0 if is_rounding else REPEATS):
            again = self.respond(moved, draw, (k + 1) * JITTER)[0][worst]
            is_rounding |= abs(again - response[worst]) > REPRODUCED * responses[worst]
        if is_rounding:
            self.rounding = max(self.rounding, responses[worst] / size)
            return None
        return worst


@dataclass(frozen=True)
class Side:
    """The numbers that are moved or that respond, and the position of each; -1 for those that a rule does not concern."""

    parts: Sequence[PositionedLeaf]
    size: int
    positions: NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        """Find the positions."""
        positions = np.full(self.size, -1)
        for part in self.parts:
            positions[part.leaf.span] = part.find_positions()
        object.__setattr__(self, "positions", positions)

    def select(self, chosen: Chosen) -> Chosen:
        """Return which numbers are at the chosen positions."""
        return np.asarray((self.positions >= 0) & chosen[self.positions])

    def select_pairs(self, pairs: Sequence[tuple[PositionedLeaf, int]]) -> Chosen:
        """Return which numbers are at positions of single parts."""
        selected = np.zeros(self.size, dtype=bool)
        for part in self.parts:
            positions = [position for other, position in pairs if other is part]
            selected[part.leaf.span] = np.isin(self.positions[part.leaf.span], positions)
        return selected


def check_depends(rules: Sequence[DependenceRule], trial: Trial, target: Any) -> list[Contract]:
    """Check every rule by the values and by every claim; the first that does not hold is reported.

    Args:
        rules: what is declared, bound to the program.
        trial: of the program.
        target: what is called, whose batch normalisations are named.

    Raises:
        TargetError: if a derivative raises.
    """
    passed = []
    for rule in rules:
        try:
            verdict, message = _check_rule(rule, trial, target)
        except _Raised as error:
            verdict, message = Verdict.INCONCLUSIVE, f"{rule}: not tried, as the function raises at moved inputs: {error}"
        if verdict is not Verdict.PASS:
            return [Contract(NAME, verdict, message)]
        passed.append(message)
    return [Contract(NAME, Verdict.PASS, "; ".join(passed))]


def _check_rule(rule: DependenceRule, trial: Trial, target: Any) -> tuple[Verdict, str]:
    """Check one rule by the values and by every claim.

    Raises:
        _Raised: if the function raises wherever inputs are moved.
    """
    ways = _list_ways(trial, rule)
    shares = {}
    for way in ways if rule.inputs else ():
        try:
            leak, shares[way] = _find_leak(rule, way, trial)
        except Unavailable:
            continue
        if leak:
            return Verdict.FAIL, leak + _describe_hints(rule, target)
    unused = _find_unused(rule, ways[0], trial) if rule.declared.fully else ""
    return (Verdict.FAIL, unused) if unused else (Verdict.PASS, _describe_pass(rule, shares))


class _Raised(Exception):  # noqa: N818 - says that nothing is known, and not that something is wrong
    """The function raises at moved inputs."""


def _list_ways(trial: Trial, rule: DependenceRule) -> list[Way]:
    """List the values and every claim that was not made by tracing."""
    program = trial.program
    ways = [Way("values", _make_value_response(trial, rule.output.leaf), False, len(FACTORS), program.eps)]
    for claim in program.claims:
        if claim.derived or (claim.vjp is None and claim.optional):
            continue
        claim = claimed_jacobians.make_twin(claim) or claim
        ways.append(Way(claim.method, _make_claimed_response(trial, claim), claim.vjp is not None, 1, claim.eps))
    return ways


def _make_value_response(trial: Trial, output: Leaf) -> Callable[[Chosen, int, float], tuple[F64, float]]:
    """Make the response of the values: what changes when some inputs are multiplied by random factors."""
    program = trial.program
    base = program.evaluate(program.point)
    moves = [np.empty(program.point.size) for _ in FACTORS]
    for leaf in program.leaves:
        x = program.point[leaf.span]
        for move, bounds in zip(moves, FACTORS, strict=True):
            factors = make_generator(0, NAME, trial.label, leaf.path, str(bounds)).uniform(*bounds, x.size)
            move[leaf.span] = np.where(x == 0, factors * directions.compute_leaf_scale(x), (factors - 1) * x)

    def respond(moved: Chosen, draw: int, jitter: float) -> tuple[F64, float]:
        trial.recorder.count()
        try:
            values = program.evaluate(program.point + np.where(moved, (1 + jitter) * moves[draw], 0.0))
        except Exception as error:
            raise _Raised(str(error)) from None
        if values.shape != base.shape:
            raise _Raised("its outputs have another shape there")
        with np.errstate(all="ignore"):
            change = np.where(np.isfinite(values), values - base, 0.0)  # a NaN that is multiplied by 0 is no dependence
        size = np.abs(np.concatenate([base[output.span], values[output.span]]))
        return change, float(np.max(size, where=np.isfinite(size), initial=0.0))

    return respond


def _make_claimed_response(trial: Trial, claim: Claim) -> Callable[[Chosen, int, float], tuple[F64, float]]:
    """Make the response of a claim: its product with a random cotangent, or tangent, that is zero except where it is moved."""
    product = claim.vjp or claim.jvp
    assert product is not None
    point, program = trial.program.point, trial.program
    direction = np.empty(program.value.size if claim.vjp else point.size)
    directions.fill_even(make_generator(0, NAME, trial.label, "direction"), np.ones(direction.size), direction)

    def respond(moved: Chosen, _: int, jitter: float) -> tuple[F64, float]:
        row = product(point, np.where(moved, direction * (1 + jitter), 0.0)[None])[0]
        row = np.nan_to_num(row, posinf=0.0, neginf=0.0)
        return row, float(np.max(np.abs(row), initial=0.0))

    return respond


def _sides_of(rule: DependenceRule, way: Way, trial: Trial) -> tuple[Side, Side, Allowed]:
    """Return what is moved, what responds, and which positions may respond to which, (responding, moved)."""
    outputs, inputs = Side((rule.output,), trial.program.value.size), Side(rule.inputs, trial.program.point.size)
    return (outputs, inputs, rule.allowed.T) if way.backward else (inputs, outputs, rule.allowed)


def _find_leak(rule: DependenceRule, way: Way, trial: Trial) -> tuple[str, float]:
    """Move blocks of positions; describe the first dependence that is not declared. Also return the share of pairs tried.

    Raises:
        _Raised: if the function raises for every block.
    """
    moving, responding, allowed = _sides_of(rule, way, trial)
    blocks, share = choose_blocks(allowed, _limit_blocks(trial, way))
    raised, answered = None, not blocks
    for block in blocks:
        at = responding.select(~np.any(allowed[:, block], axis=1))
        for draw in range(way.draws):
            try:
                place = way.find_leak(moving.select(block), draw, at)
            except _Raised as error:
                raised = error
                continue
            answered = True
            if place is not None:
                return _describe_leak(rule, way, trial, block, draw, place), share
    if raised and not answered:
        raise raised
    return "", share


def _limit_blocks(trial: Trial, way: Way) -> int:
    """Return how many blocks fit the budget, at about two evaluations or one product each."""
    seconds = 2 * trial.evaluator.seconds
    budget = trial.options.budget or DEFAULT_BUDGET
    return MAX_BLOCKS if seconds * MAX_BLOCKS <= budget else max(MIN_BLOCKS, int(budget / seconds))


def choose_blocks(allowed: Allowed, limit: int) -> tuple[list[Chosen], float]:
    """Choose blocks of positions to move together, so that every pair that is not allowed is tried by one of them.

    A block tries the positions that may depend on none of its members. The candidates are all that one position may not depend
    on, and halves of the positions: these need only twice the logarithm of their number if positions are independent.

    Returns:
        The blocks, at most `limit`, and the share of the pairs that they try.
    """
    count = allowed.shape[1]
    bits = [(np.arange(count) >> k & 1 == 1) ^ flip for k in range(count.bit_length()) for flip in (False, True)]
    candidates = np.unique(np.vstack([~allowed, *bits]), axis=0)
    untouched = candidates.astype(np.float32) @ allowed.T.astype(np.float32) == 0
    gains = candidates.sum(axis=1) * untouched.sum(axis=1)
    left = ~allowed
    blocks: list[Chosen] = []
    total = max(1, int(left.sum()))
    for k in np.argsort(-gains, kind="stable"):
        pairs = np.ix_(untouched[k], candidates[k])
        if len(blocks) < limit and gains[k] and left[pairs].any():
            left[pairs] = False
            blocks.append(candidates[k])
    return blocks, 1 - int(left.sum()) / total


def _narrow(way: Way, moving: Side, responding: Side, block: Chosen, draw: int, place: int) -> list[tuple[PositionedLeaf, int]]:
    """Narrow a block down by bisection to one position of one part; those near the responding position are tried first."""
    at, position = np.arange(responding.size) == place, responding.positions[place]
    pairs = [(part, int(j)) for j in np.flatnonzero(block) for part in moving.parts]
    pairs.sort(key=lambda pair: abs(pair[1] - position))
    while len(pairs) > 1:
        halves = pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]
        smaller = next((half for half in halves if way.find_leak(moving.select_pairs(half), draw, at) is not None), None)
        if smaller is None:
            break
        pairs = smaller
    return pairs


def _describe_leak(rule: DependenceRule, way: Way, trial: Trial, block: Chosen, draw: int, place: int) -> str:
    """Name the position that responds, and the nearest single position that it responds to."""
    moving, responding, _ = _sides_of(rule, way, trial)
    pairs = _narrow(way, moving, responding, block, draw, place)
    response = float(way.respond(moving.select_pairs(pairs), draw, 0.0)[0][place])
    part = next(part for part in responding.parts if part.leaf.span.start <= place < part.leaf.span.stop)
    (moved_part, moved), position = pairs[0], int(responding.positions[place])
    others = f" and {len(pairs) - 1} others" if len(pairs) > 1 else ""
    source, reached, entry = moved_part.name_position(moved) + others, part.name_position(position), part.leaf.entry(place)
    declared, unlike = f"(declared: {rule})", "although the values do not depend on it"
    if way.backward:
        relation = rule.describe_pair(moved, position)
        return (
            f"the {way.name} gradient of {source} reaches {reached}, {relation}: at {entry} it is {response:.3g} instead of"
            f" exactly 0, {unlike} {declared}"
        )
    by = "when that moves" if way.name == "values" else f"by the {way.name} derivative, {unlike}"
    relation = rule.describe_pair(position, moved)
    return f"{reached} depends on {source}, {relation}: {entry} changes by {response:.3g} {by} {declared}"


def _describe_hints(rule: DependenceRule, target: Any) -> str:
    """Name what usually breaks independence along the batch; and how to say which inputs are meant."""
    modules = target.named_modules() if rule.declared.kind == "independent" and hasattr(target, "named_modules") else ()
    norms = [f"{name or 'it'} ({type(m).__name__})" for name, m in modules if "BatchNorm" in type(m).__name__ and m.training]
    if norms:
        return f"; {', '.join(norms)} normalises over the batch in training: use eval(), or a norm of each sample"
    unnamed = rule.declared.kind != "only" and not rule.declared.inputs and len(rule.inputs) > 1
    return (
        f"; if only some of these inputs have such an axis, name them, as in 'of {rule.inputs[0].leaf.path}'" if unnamed else ""
    )


def _find_unused(rule: DependenceRule, way: Way, trial: Trial) -> str:
    """Move one position at a time: describe an output position that it should reach and does not; '' if there is none."""
    moving, responding, allowed = _sides_of(rule, way, trial)
    count = allowed.shape[1]
    for j in np.unique(np.linspace(0, count - 1, min(count, _limit_blocks(trial, way))).astype(int)):
        missing = allowed[:, j].copy()
        for draw, further in itertools.product(range(way.draws), FURTHER):
            if missing.any():
                response, _ = way.respond(moving.select(np.arange(count) == j), draw, further)
                missing[responding.positions[(response != 0) & (responding.positions >= 0)]] = False
        if missing.any():
            i = int(np.flatnonzero(missing)[0])
            names = rule.output.name_position(i), ", ".join(part.name_position(int(j)) for part in rule.inputs)
            return (
                f"{names[0]} does not depend on {names[1]}: no bit changes when that moves. Does a mask hide too much?"
                f" (declared: {rule})"
            )
    return ""


def _describe_pass(rule: DependenceRule, shares: Mapping[Way, float]) -> str:
    if not shares:
        return f"{rule}: holds, since there is nothing else to depend on"
    rounding, share = max(way.rounding for way in shares), min(shares.values())
    exactly = f"holds up to rounding ({rounding:.0e})" if rounding else "holds exactly"
    tried = "" if share == 1 else f", for {100 * share:.0f} % of the pairs of positions"
    return f"{rule}: {exactly}, by {' and '.join(way.name for way in shares)}{tried}"
