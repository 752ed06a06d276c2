"""From facts to a verdict and its reason: one table, of which the first rule that applies decides. Nothing changes it later.

Only `checks/against_reference` may take a FAIL back, where the user's second implementation shows that it cannot be
distinguished from a difference between the two.

A claim in lower precision has two judgements, that of its float64 twin and that of its own numbers; the worse one counts
(`choose_worse`). So does the worst entry of a row, the worst row of a trial and the worst trial of a check.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.results import Reason, Verdict
from gradcheck.verdict.facts import Fact
from gradcheck.verdict.interval import VERDICTS, Code

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from gradcheck.verdict.facts import Facts, Mask


@dataclass(frozen=True)
class Rule:
    """A rule: where all its facts hold, and no rule before it applies, this is the verdict.

    Attributes:
        facts: the facts.
        code: the verdict.
        reason: the reason. None if the numbers say it: `agrees` or `both-zero`, `disagrees` or `claim-not-finite`, and what the
            evidence remarked, or `dull`.
        by_leaf_size: whether the entry passes by the size of its leaf only, so that its own size is not resolved.
    """

    facts: tuple[Fact, ...]
    code: Code
    reason: Reason | None = None
    by_leaf_size: bool = False


RULES = (
    # The evidence as a whole.
    Rule((Fact.BLIND,), Code.INCONCLUSIVE, Reason.BLIND),
    Rule((Fact.LOW_RESOLUTION,), Code.INCONCLUSIVE, Reason.DULL),
    Rule((Fact.CONFIRMED_BY_OTHER_MODE,), Code.PASS),
    Rule((Fact.ACCURACY_JUDGED_APART,), Code.PASS),
    Rule((Fact.APART_IN_OWN_DTYPE,), Code.FAIL),
    # Where the function is constant.
    Rule((Fact.NO_PART,), Code.PASS, Reason.BOTH_ZERO),
    Rule((Fact.CANCELLED,), Code.PASS),
    Rule((Fact.STRAIGHT_THROUGH, Fact.DECLARED), Code.PASS, Reason.STRAIGHT_THROUGH),
    Rule((Fact.STRAIGHT_THROUGH,), Code.FAIL, Reason.STRAIGHT_THROUGH),
    # Where the function is not smooth.
    Rule((Fact.TIE_INSIDE,), Code.PASS, Reason.TIE),
    Rule((Fact.TIE_UNCLEAR,), Code.INCONCLUSIVE, Reason.TIE),
    Rule((Fact.TIE_OUTSIDE,), Code.FAIL, Reason.OUTSIDE_KINK),
    Rule((Fact.WRONG_NEARBY,), Code.INCONCLUSIVE, Reason.BESIDE_KINK),
    Rule((Fact.OUTSIDE_JOINTLY,), Code.FAIL, Reason.OUTSIDE_KINK),
    Rule((Fact.RIGHT_NEARBY,), Code.PASS, Reason.KINK_SUBGRADIENT),
    Rule((Fact.INSIDE_KINK,), Code.PASS, Reason.KINK_SUBGRADIENT),
    Rule((Fact.METHODS_AT_KINK,), Code.PASS, Reason.KINK_SUBGRADIENT),
    # Where numbers end.
    Rule((Fact.DTYPE_DIFFERS,), Code.INCONCLUSIVE, Reason.DTYPE_DEPENDENT),
    Rule((Fact.TOO_LARGE_FOR_DTYPE,), Code.INCONCLUSIVE, Reason.DTYPE_DEPENDENT),
    Rule((Fact.OUT_OF_RANGE,), Code.INCONCLUSIVE, Reason.SINGULAR),
    Rule((Fact.UNDERFLOWS, Fact.OUTSIDE_KINK), Code.INCONCLUSIVE),
    Rule((Fact.OUTSIDE_KINK,), Code.FAIL, Reason.OUTSIDE_KINK),
    Rule((Fact.IDENTICAL,), Code.PASS),
    Rule((Fact.QUANTISED_ZERO, Fact.STANDS_STILL), Code.PASS),
    # The interval test.
    Rule((Fact.APART, Fact.DRAWN_BY_REJECTION), Code.INCONCLUSIVE, Reason.DRAWN_BY_REJECTION),
    Rule((Fact.APART, Fact.QUANTISED_ZERO), Code.INCONCLUSIVE),
    Rule((Fact.APART, Fact.UNDERFLOWS), Code.INCONCLUSIVE),
    Rule((Fact.APART, Fact.UNCONFIRMED), Code.INCONCLUSIVE),
    Rule((Fact.APART, Fact.COARSE), Code.INCONCLUSIVE, Reason.METHODS_DISAGREE),
    Rule((Fact.APART,), Code.FAIL),
    Rule((Fact.WITHIN_RTOL,), Code.PASS, Reason.SMALL_DIFFERENCE),
    Rule((Fact.SHARP,), Code.PASS),
    Rule((Fact.ZERO,), Code.PASS),
    Rule((Fact.SMALL,), Code.PASS, by_leaf_size=True),
    Rule((Fact.FLAT,), Code.PASS),
    Rule((Fact.EQUAL,), Code.PASS),
    Rule((Fact.LAST_BITS,), Code.PASS, by_leaf_size=True),
    Rule((), Code.INCONCLUSIVE),
)


PAGE = """# How a verdict is reached

A *claim* is the derivative that your code computes. The *evidence* is what gradcheck measures by evaluating nothing but the
function. An *entry* is one number of the derivative. For each entry gradcheck collects the facts that are described below. Then
the first rule whose facts all hold decides. Nothing changes the verdict afterwards, except where you give a second
implementation (`reference=`), which may show that a FAIL is only a difference between the two.

Most entries are decided by the last rules, {test}: there the difference d of claim and evidence is compared with U, the sum of
their error bounds. The rules before them are for kinks, for regions where the function is constant, and for the limits of
floating point. `rtol` is how wrong a derivative may be: 1e-7 for claims in float64 and 1e-4 in float32, unless you set it.

A claim in lower precision is judged twice, as it is computed in float64 and in its own dtype, and the worse verdict counts. The
worst entry decides for its input, the worst input for the trial, and the worst trial for the check.

## The facts

{facts}

## The rules

| | if | verdict | reason |
|---|---|---|---|
{rows}

`gradcheck explain REASON` says what a reason means, and what to do.
"""


@dataclass(frozen=True)
class Decision:
    """The verdicts of some entries.

    Attributes:
        code: a `Code` for each.
        remark: the reason that its rule names, else what the evidence remarked; None if there is neither.
        unresolved: passed only by the size of its leaf.
    """

    code: NDArray[np.int8]
    remark: NDArray[np.object_]
    unresolved: Mask


def decide(facts: Facts, evidence_remark: NDArray[np.object_]) -> Decision:
    """Decide each entry by the first rule of `RULES` that applies to it.

    Args:
        facts: which entries each fact holds for.
        evidence_remark: what the evidence remarked on each entry: a Reason, or None.
    """
    shape = evidence_remark.shape
    code, remark = np.full(shape, Code.INCONCLUSIVE, dtype=np.int8), evidence_remark.copy()
    unresolved, undecided = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    present = {fact for fact, mask in facts.items() if mask.any()}
    for rule in RULES:
        if not present.issuperset(rule.facts):
            continue
        applies = undecided.copy()
        for fact in rule.facts:
            applies &= facts[fact]
        undecided &= ~applies
        code[applies] = rule.code
        unresolved |= applies & rule.by_leaf_size
        if rule.reason is not None:
            remark[applies] = rule.reason
    return Decision(code, remark, unresolved)


def decide_row(facts: Collection[Fact]) -> tuple[Verdict, Reason]:
    """Decide a row of the table about which some facts are known as a whole; the numbers of a PASS agree."""
    return _decide_row(frozenset(facts))


@functools.cache
def _decide_row(facts: frozenset[Fact]) -> tuple[Verdict, Reason]:
    rule = next(rule for rule in RULES if facts.issuperset(rule.facts))
    default = {Code.PASS: Reason.AGREES, Code.INCONCLUSIVE: Reason.DULL, Code.FAIL: Reason.DISAGREES}
    return VERDICTS[rule.code], rule.reason or default[rule.code]


def choose_worse(first: Decision, second: Decision) -> Decision:
    """Choose for each entry the worse of two verdicts; the first if they are equal."""
    second_counts = second.code > first.code
    code = np.where(second_counts, second.code, first.code).astype(np.int8)
    unresolved = (first.unresolved | second.unresolved) & (code == Code.PASS)
    return Decision(code, np.where(second_counts, second.remark, first.remark), unresolved)


def describe_rules() -> str:
    """Describe the table in Markdown: the page `guide/reference/verdicts.md`, which `gradcheck explain verdicts` prints too."""
    reasons = {Code.PASS: "agrees, both-zero", Code.FAIL: "disagrees, claim-not-finite"}
    by_numbers = "the reason that the evidence gives, or dull if it gives none"
    rows = [
        f"| {i} | {' and '.join(fact.name for fact in rule.facts) or 'no rule above applies'} | {VERDICTS[rule.code].value} |"
        f" {rule.reason.code if rule.reason else reasons.get(rule.code, by_numbers)} |"
        for i, rule in enumerate(RULES, start=1)
    ]
    first_of_test = next(i for i, rule in enumerate(RULES, start=1) if rule.facts == (Fact.APART,))
    facts = [f"- **{fact.name}**: {fact.value}." for fact in Fact]
    return PAGE.format(test=f"{first_of_test} to {len(RULES)}", rows="\n".join(rows), facts="\n".join(facts))
