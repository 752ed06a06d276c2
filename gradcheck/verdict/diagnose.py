"""Diagnoses of a wrong gradient: the change that would make it right is found by trying, and named.

A hypothesis is a repair: the claim with its sign flipped, divided by a constant, transposed. A repair that the same evidence
would let pass names the fault. Repairs are tried in turn, simple ones first; if none passes, the fault is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.verdict import value_patterns
from gradcheck.verdict.factor_names import describe_factor_name, format_factor, hint_at_cause, name_factor
from gradcheck.verdict.fault_facts import (
    F64,
    MIN_ENTRIES_FOR_FIT,
    MIN_ENTRIES_PER_EXCEPTION,
    Facts,
    FaultDescription,
    describe,
    explains,
)

# How the relation of a claim to the derivative begins.
IS_ZERO, IS_WRONG, MISSING, SUPERFLUOUS = (
    "the claim is 0",
    "the claim is wrong",
    "the claim lacks",
    "the claim contains in excess",
)
RANK_CONVENTIONS = (
    "a sum or mean over the ranks is missing or superfluous, or the code means another ranks=; if it is the same factor with"
    " another world=, the ranks are not the cause"
)
OWN_SLICE = (
    "does a backward keep only the slice of its own rank? If every rank returns one and the same output, use ranks='replicated'"
)
SHARED = "if all ranks share this leaf, and its gradient is summed over them, name it in replicated="
AVERAGED = "gradients are averaged over the ranks, as by DistributedDataParallel: use ranks='mean'"
MAX_LINES = 3  # lines of the user's code that a diagnosis quotes
# Among fewer entries than this, the single wrong entry may be the largest or smallest by chance.
MIN_ENTRIES_FOR_EXTREME = 8
# A constant factor that explains a single number explains nothing, unless it is a simple fraction.
MIN_ENTRIES_FOR_FACTOR = 2


def diagnose(facts: Facts) -> FaultDescription:
    """Name the fault; unknown if no repair makes the claim right."""
    hypotheses = (
        _try_detached,
        _try_zero,
        _try_sign,
        _try_conjugation,
        _try_ranks,
        _try_factor,
        _try_rearrangements,
        _try_missing_term,
        _try_reductions,
        _try_symmetrisation,
        value_patterns.try_functions_of_derivative,
        _try_parts,
        value_patterns.try_formulas,
        value_patterns.try_cotangents,
        value_patterns.try_parts_of_code,
        value_patterns.try_single_entry,
        _try_other_ranks,
    )
    for hypothesis in hypotheses:
        description = next(iter(hypothesis(facts)), None)
        if description is not None:
            return description
    return _describe_unknown(facts)


def _describe_unknown(facts: Facts) -> FaultDescription:
    """Describe a fault that no hypothesis explains; wrong entries that are exceptions are counted."""
    entries = facts.claim.shape[1] // facts.width
    wrong = 0 if facts.wrong is None else int(np.sum(np.any(facts.wrong.reshape(-1, entries, facts.width), axis=(0, 2))))
    if 0 < MIN_ENTRIES_PER_EXCEPTION * wrong <= entries:
        no_pattern = "with no common factor and no pattern in their values or positions"
        observation = "only one entry is wrong" if wrong == 1 else f"only {wrong} entries are wrong, {no_pattern}"
        return describe(Diagnosis.UNKNOWN, observation, "look for what the backward does only there")
    return describe(Diagnosis.UNKNOWN, "no sign, factor, reordering or missing term explains it")


def _try_detached(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is that of a function of which a part is detached."""
    attached_claim = facts.attached_claim()
    if attached_claim is not None and attached_claim[1] and facts.passes(attached_claim[0]):
        lines = ", ".join(attached_claim[1][:MAX_LINES])
        yield describe(Diagnosis.DETACHED, f"the claim would be right if nothing were detached in {lines}")


def _try_zero(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is zero everywhere, or in the imaginary part of every entry."""
    if not np.any(facts.claim):
        yield describe(Diagnosis.ZERO, f"{IS_ZERO} on {facts.everywhere}")
    elif facts.width == 2 and facts.true is not None and not np.any(facts.shaped[..., 1]):
        repaired = np.stack([facts.shaped[..., 0], facts.true.reshape(facts.shaped.shape)[..., 1]], axis=-1)
        if facts.passes(repaired.reshape(facts.claim.shape)):
            observation = f"the imaginary part of the claim is 0 on {facts.everywhere}"
            yield describe(Diagnosis.ZERO, observation, "does the backward return a real gradient for a complex input?")


def _try_sign(facts: Facts) -> Iterator[FaultDescription]:
    """The claim has the wrong sign."""
    if facts.passes(-facts.claim):
        yield describe(Diagnosis.SIGN, f"the claim has the opposite sign on {facts.everywhere}")


def _try_conjugation(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is the conjugate of the derivative, or was made with the conjugate of the local derivative."""
    if facts.width == 2 and facts.passes(_conjugate(facts.claim)):
        yield describe(Diagnosis.CONJUGATED, f"the claim is the conjugate of the derivative on {facts.everywhere}")
    conjugate_claim = facts.conjugate_claim()
    if conjugate_claim is not None and facts.passes(_conjugate(conjugate_claim) if facts.width == 2 else conjugate_claim):
        observation = "the claim is the cotangent times the local derivative, which must be conjugated"
        yield describe(Diagnosis.CONJUGATED, f"{observation}, on {facts.everywhere}")


def _conjugate(claim: F64) -> F64:
    return np.asarray(claim.reshape(len(claim), -1, 2) * [1.0, -1.0]).reshape(claim.shape)


def _try_ranks(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is off by the number of ranks, or lacks or contains what it should not of other ranks."""
    n, own = facts.ranks, facts.own_outputs
    if n == 1:
        return
    for factor, text in ((n, f"{n}"), (1 / n, f"1/{n}")):
        if facts.passes(facts.claim / factor):
            observation = f"the claim is {text} times the derivative on {facts.everywhere}, and {n} is the number of ranks"
            yield describe(Diagnosis.RANKS, observation, RANK_CONVENTIONS)
        if own is not None and facts.passes(np.where(own[:, None], facts.claim / factor, 0.0)):
            observation = f"the claim is {text} times the derivative for the outputs of its own rank, but not 0 for others"
            yield describe(Diagnosis.RANKS, observation, AVERAGED if factor < 1 else SHARED)
    if own is not None and facts.passes(np.where(own[:, None], facts.claim, 0.0)):
        yield describe(Diagnosis.RANKS, "the claim contains what belongs to the leaves of other ranks", SHARED)
    if facts.sum_over_ranks is not None and facts.passes(facts.sum_over_ranks):
        yield describe(Diagnosis.RANKS, "the claims of all ranks add up to the derivative", "a sum over the ranks is missing")
    if facts.true is not None and facts.wrong is not None and np.any(facts.silent_outputs):
        count, others = int(np.sum(facts.silent_outputs)), ~facts.silent_outputs
        silent = f"{IS_ZERO} for {count} of {others.size} outputs"
        if not np.any(facts.wrong[others]):
            yield describe(Diagnosis.RANKS, f"{silent}, and right for the others", OWN_SLICE)
        elif explains(facts.claim[others], n * facts.true[others], facts.true[others]):
            observation = f"{silent}, and {n} times the derivative for the others, where {n} is the number of ranks"
            yield describe(Diagnosis.RANKS, observation, "the gradient is not averaged over the ranks")


def _try_other_ranks(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is wrong for the outputs of other ranks only."""
    own = facts.own_outputs
    if own is None or facts.wrong is None or facts.true is None or not np.any(facts.true[own]):
        return
    if np.any(facts.wrong[~own]) and not np.any(facts.wrong[own]):
        observation = "the claim is right for the outputs of its own rank, and wrong for those of other ranks"
        yield describe(Diagnosis.RANKS, observation, "does the backward use values of its own rank where it needs another's?")


def _try_factor(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is a constant times the derivative."""
    inverse, numbers = facts.fit(facts.claim, np.zeros_like(facts.claim))
    if inverse == 0 or not np.isfinite(inverse):
        return
    named_factor, name = name_factor(1 / inverse, facts.size_names)
    if name and facts.passes(facts.claim / named_factor):
        observation = f"{_describe_factor(named_factor)} on {facts.everywhere}{describe_factor_name(named_factor, name)}"
        yield describe(Diagnosis.FACTOR, observation, hint_at_cause(named_factor, name))
    elif numbers >= MIN_ENTRIES_FOR_FACTOR and facts.passes(facts.claim * inverse):
        observation = f"{_describe_factor(1 / inverse)} on {facts.everywhere}"
        yield describe(Diagnosis.FACTOR, observation)


def _describe_factor(factor: float) -> str:
    return f"the claim is {format_factor(factor)} times the derivative"


def _try_rearrangements(facts: Facts) -> Iterator[FaultDescription]:
    """The claim holds the right numbers in the wrong places."""
    claim, flat_shape = facts.shaped, facts.claim.shape
    axes = range(1, 1 + len(facts.shape))
    for a, b in combinations(axes, 2):
        shape = list(claim.shape)
        shape[a], shape[b] = shape[b], shape[a]
        for candidate in (np.swapaxes(claim, a, b), np.swapaxes(claim.reshape(shape), a, b)):
            if facts.passes(candidate.reshape(flat_shape)):
                yield describe(Diagnosis.TRANSPOSED, f"the claim is the derivative with the axes {a - 1} and {b - 1} swapped")
    for axis in axes:
        if facts.passes(np.flip(claim, axis).reshape(flat_shape)):
            yield describe(Diagnosis.FLIPPED, f"the claim is the derivative in reverse order along axis {axis - 1}")
        for shift in (1, -1):
            if facts.passes(np.roll(claim, -shift, axis).reshape(flat_shape)):
                yield describe(Diagnosis.ROLLED, f"the claim is the derivative shifted by {shift} along axis {axis - 1}")
    enough = flat_shape[1] >= MIN_ENTRIES_FOR_FIT
    if facts.true is not None and enough and facts.passes(_sort_like(facts.claim, facts.true)):
        yield describe(
            Diagnosis.PERMUTED, f"the claim has the numbers of the derivative in another order, on {facts.everywhere}"
        )


def _sort_like(claim: F64, true: F64) -> F64:
    """Put the claim's numbers, for each output, into the order of the true ones."""
    reordered = np.empty_like(claim)
    for row, numbers, target in zip(reordered, claim, true, strict=True):
        row[np.argsort(target, kind="stable")] = np.sort(numbers)
    return reordered


def _try_missing_term(facts: Facts) -> Iterator[FaultDescription]:
    """A term proportional to the input or to its sign, or a constant, is missing."""
    if facts.width == 1:
        for missing in _find_missing_terms(facts, np.ones(facts.x.shape, dtype=bool)):
            yield describe(Diagnosis.TERM, f"{missing} on {facts.everywhere}")


def _find_missing_terms(facts: Facts, where: NDArray[np.bool_]) -> Iterator[str]:
    """Find terms that make the claim right if they are added on some entries."""
    for name, term in (("the input", facts.x), ("", np.ones_like(facts.x)), ("the sign of the input", np.sign(facts.x))):
        candidate = np.broadcast_to(term * where, facts.claim.shape)
        factor, numbers = facts.fit(candidate, facts.claim) if np.any(candidate) else (0.0, 0)
        fitted = numbers >= MIN_ENTRIES_FOR_FIT and factor != 0 and np.isfinite(factor)
        if fitted and facts.passes(facts.claim + factor * candidate):
            amount = f"{abs(factor):.4g} times {name}" if name else f"a constant {abs(factor):.4g}"
            yield f"{MISSING if factor > 0 else SUPERFLUOUS} {amount}"


def _try_reductions(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is the sum or the mean of the derivative over one axis, or over all."""
    if facts.true is None:
        return
    true = facts.true.reshape(facts.shaped.shape)
    axes = tuple(range(1, 1 + len(facts.shape)))
    for reduced_axes in [*((a,) for a in axes), *([axes] if len(axes) > 1 else [])]:
        count = int(np.prod([true.shape[a] for a in reduced_axes]))
        over = f"axis {reduced_axes[0] - 1}" if len(reduced_axes) == 1 else "every axis"
        for name, reduced in (
            ("sum", np.sum(true, axis=reduced_axes, keepdims=True)),
            ("mean", np.mean(true, axis=reduced_axes, keepdims=True)),
        ):
            if count > 1 and explains(facts.shaped, np.broadcast_to(reduced, true.shape), true):
                yield describe(Diagnosis.SUMMED, f"the claim is the {name} of the derivative over {over}, repeated along it")


def _try_symmetrisation(facts: Facts) -> Iterator[FaultDescription]:
    """The derivative of a function that reads one triangle of a matrix is shared between both triangles."""
    if facts.true is None or facts.width > 1 or not facts.shape or facts.shape[-1:] != facts.shape[-2:-1]:
        return
    true = facts.true.reshape(len(facts.claim), *facts.shape)
    symmetric = (true + np.swapaxes(true, -1, -2)) / 2
    triangular = not (np.any(np.triu(true, 1)) and np.any(np.tril(true, -1)))
    if triangular and explains(facts.claim, symmetric.reshape(facts.claim.shape), facts.true):
        yield describe(Diagnosis.SYMMETRISED, "the claim is the mean of the derivative and its transpose")


def _try_parts(facts: Facts) -> Iterator[FaultDescription]:
    """The claim is wrong only on some entries, or only for some outputs."""
    if facts.true is None or facts.wrong is None:
        return
    silent = facts.silent_outputs
    if np.any(silent) and not np.any(facts.wrong[~silent]):
        count = int(np.sum(silent))
        yield describe(Diagnosis.OUTPUTS, f"{IS_ZERO} for {count} of {silent.size} outputs, and right for the others")
        return
    wrong = np.any(facts.wrong, axis=0)
    if facts.width == 2 or np.all(wrong):
        return
    relation, extent = _relate_to_truth(facts, wrong), f"{int(np.sum(wrong))} of {wrong.size} entries"
    for kind, place in _name_places(facts, wrong):
        yield describe(
            Diagnosis.TERM if relation.startswith((MISSING, SUPERFLUOUS)) else kind, f"{relation} on {extent}, {place}"
        )
    if relation.startswith((MISSING, SUPERFLUOUS)):
        yield describe(Diagnosis.TERM, f"{relation} on {extent}")
    elif relation == IS_ZERO:
        yield describe(Diagnosis.ZERO, f"{relation} on {extent}")
    elif relation != IS_WRONG and np.sum(wrong) > 1:
        yield describe(Diagnosis.FACTOR, f"{relation} on {extent}")


def _name_places(facts: Facts, wrong: NDArray[np.bool_]) -> Iterator[tuple[Diagnosis, str]]:
    """Name what the wrong entries, and no others, have in common: a kind of input, or an index along an axis."""
    smaller_side = min(int(np.sum(wrong)), int(np.sum(~wrong)))
    for text, mask, min_entries in _special_values(facts.x):
        if smaller_side >= min_entries and np.array_equal(mask, wrong):
            yield Diagnosis.SPECIAL, f"those where the input is {text}"
    for axis, index in enumerate(np.indices(facts.shape).reshape(len(facts.shape), -1)):
        indices = np.unique(index[wrong])
        # A single entry inside a vector is an entry like any other; the first and the last one are not.
        ordinary = len(facts.shape) == 1 and indices[0] not in (0, facts.shape[0] - 1)
        if indices.size == 1 and not ordinary and np.array_equal(index == indices[0], wrong):
            yield Diagnosis.SLICE, f"all those with index {indices[0]} along axis {axis}"


def _relate_to_truth(facts: Facts, wrong: NDArray[np.bool_]) -> str:
    """Say how the claim relates to the truth on the wrong entries."""
    assert facts.true is not None
    claim, true = facts.claim[:, wrong], facts.true[:, wrong]
    if not np.any(claim):
        return IS_ZERO
    factor = float(np.sum(claim * true) / np.sum(true * true)) if np.any(true) else 0.0
    proportional = factor and explains(claim, factor * true, true)
    if proportional:
        return _describe_factor(factor)
    missing = next(_find_missing_terms(facts, wrong), "") if facts.width == 1 and np.any(true) else ""
    return missing or IS_WRONG


def _special_values(x: F64) -> Iterator[tuple[str, NDArray[np.bool_], int]]:
    """Yield kinds of inputs: the name, a mask, and how many entries inside and outside rule out a coincidence."""
    yield "0", x == 0, 1
    values, counts = np.unique(x, return_counts=True)
    yield "equal to another entry", np.isin(x, values[counts > 1]), 2
    yield "the largest", x == np.max(x), 1 if x.size >= MIN_ENTRIES_FOR_EXTREME else MIN_ENTRIES_FOR_EXTREME
    yield "the smallest", x == np.min(x), 1 if x.size >= MIN_ENTRIES_FOR_EXTREME else MIN_ENTRIES_FOR_EXTREME
    yield "negative", x < 0, MIN_ENTRIES_FOR_FIT
    yield "positive", x > 0, MIN_ENTRIES_FOR_FIT
    yield "0 or negative", x <= 0, MIN_ENTRIES_FOR_FIT
    yield "0 or positive", x >= 0, MIN_ENTRIES_FOR_FIT
    yield "larger than 1 in magnitude", np.abs(x) > 1, MIN_ENTRIES_FOR_FIT
    yield "smaller than 1 in magnitude", np.abs(x) < 1, MIN_ENTRIES_FOR_FIT
    yield "a whole number", x == np.round(x), MIN_ENTRIES_FOR_FIT
