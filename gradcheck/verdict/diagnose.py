"""What a wrong gradient looks like: the change that would make it right, found by trying, and named.

A hypothesis is a repair: the claim with its sign turned, divided by a constant, transposed. A repair that the same evidence
would let pass names the fault. Each is tried in turn, simple ones first; where none passes, it is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gradcheck.glossary.diagnoses import Diagnosis

F64 = NDArray[np.float64]
SAME = 1e-4  # relative: a fitted factor so near a number that has a name is that number
NEARER = 1e-2  # of the error that a diagnosis explains: more it may not leave over
PLAIN = {2.0: "2", 0.5: "1/2", 3.0: "3", 1 / 3: "1/3", 4.0: "4", 0.25: "1/4", 10.0: "10", 0.1: "1/10"}
HINTS = {"2": "did the loss mean 1/(2N)?", "1/2": "is the 2 of a square missing?"}
MANY = 8  # entries of which one that is wrong is hardly the largest by chance
FEW = 10  # times as many entries as are wrong: these are exceptions
LEAST = 3  # entries that a fitted constant must explain before it is more than a coincidence


@dataclass(frozen=True)
class Facts:
    """What is known of a wrong claim on one leaf of n numbers, for C combinations of the outputs.

    Attributes:
        claim: (C, n).
        x: the leaf itself, (n,).
        shape: of the leaf; `width`: numbers an entry, 2 where it is complex.
        sizes: size of an axis -> what it is the size of: a wrong factor may be one of them.
        holds: whether the evidence would let another claim, (C, n), pass.
        fit: (candidate, offset) -> the c for which offset + c candidate is nearest the evidence, and how many numbers told.
        mirrored: () -> the claim for the conjugate of each combination, (C, n); None where outputs are real.
        true: the estimates, (C, n), where every entry was looked at; `wrong` which of them the claim misses.
    """

    claim: F64
    x: F64
    shape: tuple[int, ...]
    width: int
    sizes: Mapping[int, str]
    holds: Callable[[F64], bool]
    fit: Callable[[F64, F64], tuple[float, int]]
    mirrored: Callable[[], F64 | None] = lambda: None
    true: F64 | None = None
    wrong: NDArray[np.bool_] | None = None

    @property
    def shaped(self) -> F64:
        """The claim, (C, *shape, width)."""
        return self.claim.reshape(len(self.claim), *self.shape, self.width)

    @property
    def everywhere(self) -> str:
        """All entries, in words."""
        n = self.claim.shape[1] // self.width
        return f"all {n} entries" if n > 1 else "the only entry"


@dataclass(frozen=True)
class Diagnosed:
    """A fault by name, and one line that says what was seen and what to look for."""

    kind: Diagnosis
    line: str


def diagnose(facts: Facts) -> Diagnosed:
    """Name the fault; unknown where no repair makes the claim right."""
    for hypothesis in (_zero, _sign, _conjugated, _factor, _moved, _term, _summed, _symmetrised, _in_part):
        found = next(iter(hypothesis(facts)), None)
        if found is not None:
            return found
    return _unknown(facts)


def _said(kind: Diagnosis, seen: str, mend: str = "") -> Diagnosed:
    return Diagnosed(kind, f"{seen}; {mend or kind.mend}")


def _unknown(facts: Facts) -> Diagnosed:
    entries = facts.claim.shape[1] // facts.width
    wrong = 0 if facts.wrong is None else int(np.sum(np.any(facts.wrong.reshape(-1, entries, facts.width), axis=(0, 2))))
    if 0 < FEW * wrong <= entries:
        common = ", by no common factor and at no values or places of one kind"
        seen = "one entry alone is wrong" if wrong == 1 else f"{wrong} entries alone are wrong{common}"
        return _said(Diagnosis.UNKNOWN, seen, "look for what the backward does there and nowhere else")
    return _said(Diagnosis.UNKNOWN, "no sign, factor, other order or missing term explains it")


def _zero(facts: Facts) -> Iterator[Diagnosed]:
    if not np.any(facts.claim):
        yield _said(Diagnosis.ZERO, f"claimed = 0 on {facts.everywhere}")
    elif facts.width == 2 and facts.true is not None and not np.any(facts.shaped[..., 1]):
        parts = np.stack([facts.shaped[..., 0], facts.true.reshape(facts.shaped.shape)[..., 1]], axis=-1)
        if facts.holds(parts.reshape(facts.claim.shape)):
            seen = f"claimed = 0 in the imaginary part of {facts.everywhere}"
            yield _said(Diagnosis.ZERO, seen, "does the backward return a real gradient for a complex input?")


def _sign(facts: Facts) -> Iterator[Diagnosed]:
    if facts.holds(-facts.claim):
        yield _said(Diagnosis.SIGN, f"claimed = -1 x true on {facts.everywhere}: the sign is turned")


def _conjugated(facts: Facts) -> Iterator[Diagnosed]:
    if facts.width == 2 and facts.holds(_conjugate(facts.claim)):
        yield _said(Diagnosis.CONJUGATED, f"claimed = conjugate of true on {facts.everywhere}")
    mirrored = facts.mirrored()
    if mirrored is not None and facts.holds(_conjugate(mirrored) if facts.width == 2 else mirrored):
        seen = "claimed = cotangent x local derivative, where the derivative's conjugate is meant"
        yield _said(Diagnosis.CONJUGATED, f"{seen}, on {facts.everywhere}")


def _conjugate(claim: F64) -> F64:
    return np.asarray(claim.reshape(len(claim), -1, 2) * [1.0, -1.0]).reshape(claim.shape)


def _factor(facts: Facts) -> Iterator[Diagnosed]:
    inverse, numbers = facts.fit(facts.claim, np.zeros_like(facts.claim))
    if inverse == 0 or not np.isfinite(inverse):
        return
    factor, name = _named(1 / inverse, facts.sizes)
    if (name or numbers >= LEAST) and facts.holds(facts.claim / factor):
        told = f"a factor {name}" if name else "a constant factor"
        yield _said(Diagnosis.FACTOR, f"claimed = {factor:.4g} x true on {facts.everywhere}: {told}", _hint(factor, name))


def _hint(factor: float, name: str) -> str:
    """What a factor is usually due to; '' where it says nothing."""
    if ", with " not in name:
        return HINTS.get(name, "")
    return "is the 1/N of a mean forgotten?" if abs(factor) > 1 else "is a mean taken where the loss has a sum, or taken twice?"


def _named(factor: float, sizes: Mapping[int, str]) -> tuple[float, str]:
    """A factor, exactly, and in words, where it is a small number or made of the size of an axis; '' where it is neither."""
    sign = -1.0 if factor < 0 else 1.0
    minus = "-" if factor < 0 else ""
    for value, text in PLAIN.items():
        if abs(abs(factor) / value - 1) < SAME:
            return sign * value, minus + text
    for kind in (_plainly, _with_a_two, _otherwise):
        for n, what in sizes.items():
            for value, text in kind(n) if n > 1 else ():
                if abs(abs(factor) / value - 1) < SAME:
                    return sign * value, f"{minus}{text}, with {n} {what}"
    return factor, ""


def _plainly(n: int) -> Sequence[tuple[float, str]]:
    """A sum in place of a mean, or the other way round."""
    return ((float(n), f"{n}"), (1 / n, f"1/{n}"))


def _with_a_two(n: int) -> Sequence[tuple[float, str]]:
    return ((2.0 * n, f"2·{n}"), (n / 2, f"{n}/2"), (2 / n, f"2/{n}"), (1 / (2 * n), f"1/(2·{n})"))


def _otherwise(n: int) -> Sequence[tuple[float, str]]:
    """A standard deviation in place of a variance, biased in place of unbiased."""
    return ((n**0.5, f"√{n}"), (n**-0.5, f"1/√{n}"), (n / (n - 1), f"{n}/{n - 1}"), ((n - 1) / n, f"{n - 1}/{n}"))


def _moved(facts: Facts) -> Iterator[Diagnosed]:
    """The right numbers in the wrong places."""
    g, same = facts.shaped, facts.claim.shape
    axes = range(1, 1 + len(facts.shape))
    for a, b in combinations(axes, 2):
        if facts.holds(np.swapaxes(g, a, b).reshape(same)):
            yield _said(Diagnosis.TRANSPOSED, f"claimed = true with the axes {a - 1} and {b - 1} swapped")
    for axis in axes:
        if facts.holds(np.flip(g, axis).reshape(same)):
            yield _said(Diagnosis.FLIPPED, f"claimed = true in reverse order along axis {axis - 1}")
        for shift in (1, -1):
            if facts.holds(np.roll(g, -shift, axis).reshape(same)):
                yield _said(Diagnosis.ROLLED, f"claimed = true shifted by {shift} along axis {axis - 1}")
    if facts.true is not None and same[1] >= LEAST and facts.holds(_sorted_like(facts.claim, facts.true)):
        yield _said(Diagnosis.PERMUTED, f"claimed = true in another order, on {facts.everywhere}")


def _sorted_like(claim: F64, true: F64) -> F64:
    """The claim's numbers, of each output, in the order of the true ones."""
    found = np.empty_like(claim)
    for row, numbers, target in zip(found, claim, true, strict=True):
        row[np.argsort(target, kind="stable")] = np.sort(numbers)
    return found


def _term(facts: Facts) -> Iterator[Diagnosed]:
    """Something proportional to the input, to its sign, or a constant is missing."""
    if facts.width == 2:
        return
    for name, term in (("the input", facts.x), ("1", np.ones_like(facts.x)), ("the sign of the input", np.sign(facts.x))):
        candidate = np.broadcast_to(term, facts.claim.shape)
        c, numbers = facts.fit(candidate, facts.claim) if np.any(candidate) else (0.0, 0)
        if numbers >= LEAST and c != 0 and np.isfinite(c) and facts.holds(facts.claim + c * candidate):
            yield _said(Diagnosis.TERM, f"true - claimed = {c:.4g} x {name} on {facts.everywhere}")


def _summed(facts: Facts) -> Iterator[Diagnosed]:
    if facts.true is None:
        return
    true = facts.true.reshape(facts.shaped.shape)
    axes = tuple(range(1, 1 + len(facts.shape)))
    for which in [*((a,) for a in axes), *([axes] if len(axes) > 1 else [])]:
        count = int(np.prod([true.shape[a] for a in which]))
        over = f"axis {which[0] - 1}" if len(which) == 1 else "every axis"
        for name, reduced in (
            ("sum", np.sum(true, axis=which, keepdims=True)),
            ("mean", np.mean(true, axis=which, keepdims=True)),
        ):
            if count > 1 and _explains(facts.shaped, np.broadcast_to(reduced, true.shape), true):
                yield _said(Diagnosis.SUMMED, f"claimed = {name} of true over {over}, the same all along it")


def _symmetrised(facts: Facts) -> Iterator[Diagnosed]:
    """The derivative of a function that reads one triangle of a matrix, shared out over both."""
    if facts.true is None or facts.width > 1 or not facts.shape or facts.shape[-1:] != facts.shape[-2:-1]:
        return
    true = facts.true.reshape(len(facts.claim), *facts.shape)
    shared = (true + np.swapaxes(true, -1, -2)) / 2
    triangular = not (np.any(np.triu(true, 1)) and np.any(np.tril(true, -1)))
    if triangular and _explains(facts.claim, shared.reshape(facts.claim.shape), facts.true):
        yield _said(Diagnosis.SYMMETRISED, "claimed = mean of true and its transpose")


def _explains(claim: F64, told: F64, true: F64) -> bool:
    """Whether a claim is what a diagnosis says: to 1e-4 everywhere, and far nearer to it than to the truth."""
    off = float(np.max(np.abs(claim - told), initial=0.0))
    close = off <= SAME * float(np.max(np.abs(claim), initial=0.0))
    return close and off <= NEARER * float(np.max(np.abs(claim - true), initial=0.0))


def _in_part(facts: Facts) -> Iterator[Diagnosed]:
    """Wrong on some entries alone, or for some outputs alone."""
    if facts.true is None or facts.wrong is None:
        return
    silent = np.all(facts.claim == 0, axis=1) & np.any(facts.wrong, axis=1)
    if np.any(silent) and not np.any(facts.wrong[~silent]):
        yield _said(Diagnosis.OUTPUTS, f"claimed = 0 for {int(np.sum(silent))} of {silent.size} outputs, right for the others")
        return
    wrong = np.any(facts.wrong, axis=0)
    if facts.width == 2 or np.all(wrong):
        return
    relation, count = _relation(facts, wrong), f"{int(np.sum(wrong))} of {wrong.size} entries"
    few = min(int(np.sum(wrong)), int(np.sum(~wrong)))
    for where, mask, least in _special(facts.x):
        if few >= least and np.array_equal(mask, wrong):
            yield _said(Diagnosis.SPECIAL, f"{relation} on {count}, those where the input is {where}")
    for axis, index in enumerate(np.indices(facts.shape).reshape(len(facts.shape), -1)):
        hit = np.unique(index[wrong])
        lonely = len(facts.shape) == 1 and hit[0] not in (0, facts.shape[0] - 1)  # an entry like any other
        if hit.size == 1 and not lonely and np.array_equal(index == hit[0], wrong):
            yield _said(Diagnosis.SLICE, f"{relation} on {count}, all those with index {hit[0]} along axis {axis}")
    if relation == "claimed = 0":
        yield _said(Diagnosis.ZERO, f"{relation} on {count}")
    elif relation.startswith("claimed = ") and np.sum(wrong) > 1:
        yield _said(Diagnosis.FACTOR, f"{relation} on {count}")


def _relation(facts: Facts, wrong: NDArray[np.bool_]) -> str:
    """How the claim relates to the truth on the wrong entries."""
    assert facts.true is not None
    claim, true = facts.claim[:, wrong], facts.true[:, wrong]
    if not np.any(claim):
        return "claimed = 0"
    c = float(np.sum(claim * true) / np.sum(true * true)) if np.any(true) else 0.0
    digits = 4 if abs(c - 1) > SAME else 8
    return f"claimed = {c:.{digits}g} x true" if c and _explains(claim, c * true, true) else "claimed is wrong"


def _special(x: F64) -> Iterator[tuple[str, NDArray[np.bool_], int]]:
    """Kinds of inputs, and of how many entries both inside and outside there must be for it to be no coincidence."""
    yield "0", x == 0, 1
    values, counts = np.unique(x, return_counts=True)
    yield "equal to another", np.isin(x, values[counts > 1]), 2
    yield "the largest", x == np.max(x), 1 if x.size >= MANY else MANY
    yield "the smallest", x == np.min(x), 1 if x.size >= MANY else MANY
    yield "negative", x < 0, LEAST
    yield "positive", x > 0, LEAST
    yield "0 or negative", x <= 0, LEAST
    yield "0 or positive", x >= 0, LEAST
    yield "larger than 1 in size", np.abs(x) > 1, LEAST
    yield "smaller than 1 in size", np.abs(x) < 1, LEAST
    yield "a whole number", x == np.round(x), LEAST
