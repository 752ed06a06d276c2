"""Diagnoses by numbers: a claim that is a function of the derivative, of the inputs and outputs, or of another cotangent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.verdict.factor_names import MAX_MISMATCH, format_factor, name_factor
from gradcheck.verdict.fault_facts import (
    F64,
    MIN_ENTRIES_FOR_FIT,
    MIN_ENTRIES_PER_EXCEPTION,
    Facts,
    FaultDescription,
    Part,
    describe,
    explains,
)

# Factors of a formula that a backward may have by mistake, of a number of the input or of the output.
FORMULAS: dict[str, Callable[[F64], F64]] = {
    "{}": lambda x: x,
    "{}**2": lambda x: x**2,
    "1 - {}": lambda x: 1 - x,
    "1 - {}**2": lambda x: 1 - x**2,
    "1 + {}**2": lambda x: 1 + x**2,
    "sqrt({})": np.sqrt,
    "exp({})": np.exp,
}
ONE = "1"
MAX_ENTRIES = 20_000  # of a leaf on which all pairs of formulas are tried


def try_formulas(facts: Facts) -> Iterator[FaultDescription]:
    """The claim has a factor of an input or an output too many, or another one than the derivative."""
    if facts.true is None or facts.width == 2 or facts.x.size > MAX_ENTRIES:
        return
    if np.unique(np.abs(facts.x)).size < MIN_ENTRIES_FOR_FIT:
        return
    largest = np.max(np.abs(facts.true), initial=0.0)
    numbers = {"x": facts.x} if facts.y is None else {"x": facts.x, "y": facts.y}
    factors = {text.format(name): formula(x) for name, x in numbers.items() for text, formula in FORMULAS.items()}
    for claimed, needed in permutations({ONE: np.ones_like(facts.x), **factors}, 2):
        ratio = factors.get(needed, 1.0) / factors.get(claimed, 1.0)
        is_near = np.all(np.isfinite(ratio)) and np.all(np.abs(facts.claim * ratio - facts.true) <= MAX_MISMATCH * largest)
        if is_near and facts.passes(facts.claim * ratio):
            yield describe(Diagnosis.FORMULA, _compare_factors(claimed, needed))


def _compare_factors(claimed: str, needed: str) -> str:
    legend = "; y is the output" if "y" in claimed + needed else ""
    if needed == ONE:
        return f"the claim has the factor {claimed} in excess{legend.replace(';', ',')}"
    if claimed == ONE:
        return f"the claim lacks the factor {needed}{legend.replace(';', ', where')}"
    return f"the claim has the factor {claimed} where the derivative has {needed}{legend.replace(';', ', where')}"


def try_functions_of_derivative(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is made of the right derivative by another operation: its absolute value, a limit, a shift."""
    if facts.true is None or facts.width == 2 or facts.claim.shape[1] < MIN_ENTRIES_FOR_FIT:
        return
    claim, true = facts.claim, facts.true
    limit, mean = np.max(np.abs(claim), axis=1, keepdims=True), np.mean(true, axis=1, keepdims=True)
    has_signs = np.sum(true < 0) >= MIN_ENTRIES_FOR_FIT
    # In each row that has limits, two entries at least are cut, and one is not: a row of zeros has no limit.
    cut = np.sum(np.abs(true) > limit, axis=1)
    kept = np.sum((np.abs(true) < limit) & (true != 0), axis=1)
    has_limits = bool(np.any(cut)) and bool(np.all((cut == 0) | ((cut > 1) & (kept > 0))))
    for text, is_plain, candidate in (
        ("the absolute value of the derivative", has_signs, np.abs(true)),
        (f"the derivative limited to at most {limit[0, 0]:.4g} in magnitude", has_limits, np.clip(true, -limit, limit)),
        ("the derivative without its mean over all entries", True, true - mean),
    ):
        if is_plain and explains(claim, candidate, true):
            yield describe(Diagnosis.FORMULA, f"the claim is {text}, on {facts.everywhere}")
    shift = np.mean(claim - true, axis=1, keepdims=True)
    if explains(claim, true + shift, true):
        yield describe(
            Diagnosis.TERM, f"the claim contains in excess a constant that differs between outputs, on {facts.everywhere}"
        )


def try_cotangents(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is the right derivative, but for another cotangent than it is given."""
    if facts.derive is None or facts.cotangents.shape[1] < MIN_ENTRIES_FOR_FIT:
        return
    given = facts.cotangents
    for text, changed in (
        ("the claim does not depend on its cotangent: it is the derivative of the sum of all outputs", np.ones_like(given)),
        ("the claim is the derivative for the cotangent in reverse order", given[:, ::-1]),
        ("the claim is the derivative for the cotangent shifted by 1", np.roll(given, 1, axis=1)),
        ("the claim is the derivative for the cotangent shifted by -1", np.roll(given, -1, axis=1)),
        ("the claim is the derivative for the absolute value of the cotangent", np.abs(given)),
    ):
        candidate = facts.derive(changed)
        if candidate is not None and facts.true is not None and explains(facts.claim, candidate, facts.true):
            yield describe(Diagnosis.COTANGENT, text)


def try_parts_of_code(facts: Facts) -> Iterator[FaultDescription]:
    """The claim lacks what flows through one operation of the forward, or has another multiple of it."""
    if facts.true is None or facts.width == 2 or facts.claim.size < MIN_ENTRIES_FOR_FIT:
        return
    fitting = [(part, factor) for part in facts.parts() if (factor := _fit_part(facts, part)) is not None]
    for part, factor in sorted(fitting, key=lambda pair: pair[1] != 0):
        claim, true, without = part.evaluate_nearby()
        if explains(claim, without + factor * (true - without), true):
            relation = "lacks the" if factor == 0 else f"has {format_factor(factor)} times the"
            advice = "differentiate this operation in the backward, too" if factor == 0 else "correct this term of the backward"
            yield describe(Diagnosis.TERM, f"the claim {relation} derivative through {part.place}", advice)
            return


def _fit_part(facts: Facts, part: Part) -> float | None:
    """Return the multiple of a part with which the claim is explained; None if there is none."""
    assert facts.true is not None
    through = facts.true - part.without
    norm = float(np.sum(through**2))
    if not norm or not np.any(part.without):
        return None
    factor = float(np.sum((facts.claim - part.without) * through)) / norm
    named = 0.0 if abs(factor) < MAX_MISMATCH else name_factor(factor, facts.size_names)[0]
    return named if explains(facts.claim, part.without + named * through, facts.true) else None


def try_single_entry(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is wrong on one entry, whose neighbours are right."""
    if facts.true is None or facts.wrong is None or facts.width == 2:
        return
    wrong = np.any(facts.wrong, axis=0)
    if np.sum(wrong) != 1 or wrong.size < MIN_ENTRIES_PER_EXCEPTION:
        return
    place = int(np.argmax(wrong))
    claim, true = facts.claim[:, place], facts.true[:, place]
    factor = float(claim @ true / (true @ true)) if np.any(true) else 0.0
    index = ", ".join(map(str, np.unravel_index(place, facts.shape)))
    if factor and explains(claim, factor * true, true):
        named, _ = name_factor(factor, {})
        relation = f"only one entry is wrong, [{index}]: the claim is {format_factor(named)} times the derivative there"
        yield describe(Diagnosis.SLICE, relation, "look for what the backward does only there")
