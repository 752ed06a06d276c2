"""What is known of a wrong claim, and the description of a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.verdict.factor_names import MAX_MISMATCH

F64 = NDArray[np.float64]
# A diagnosis may leave at most this share of the claim's error unexplained.
MAX_UNEXPLAINED = 1e-2
# A fitted constant that explains fewer entries than this may be a coincidence.
MIN_ENTRIES_FOR_FIT = 3
# The wrong entries are exceptions if there are at least this many entries per wrong one.
MIN_ENTRIES_PER_EXCEPTION = 10


@dataclass(frozen=True)
class Part:
    """A part of the derivative: what flows through one operation of the function's code.

    Attributes:
        place: the operation, in words.
        without: the derivatives if its result were a constant, (C, n).
        evaluate_nearby: () -> at another point: the claim, the derivatives, and those without this part, (C, n) each.
    """

    place: str
    without: F64
    evaluate_nearby: Callable[[], tuple[F64, F64, F64]]


@dataclass(frozen=True)
class Facts:
    """Facts about a wrong claim on one leaf of n numbers, for C combinations of the outputs.

    Attributes:
        claim: the claimed derivatives, (C, n).
        x: the leaf itself, (n,).
        shape: shape of the leaf.
        width: numbers per entry, 2 if the leaf is complex.
        size_names: size of an axis -> what it is the size of; a wrong factor may be one of these sizes.
        passes: another claim, (C, n) -> whether the evidence would let it pass.
        fit: (candidate, offset), (C, n) each -> the c for which offset + c candidate is nearest to the evidence, and the
            number of entries that c was fitted to.
        conjugate_claim: () -> the claim for the conjugate of each combination, (C, n); None if the outputs are real.
        attached_claim: () -> the claim if nothing in the function were detached, (C, n), and the lines that detach; None if
            it cannot be computed.
        true: the estimates, (C, n), if every entry was estimated.
        wrong: the entries that the claim misses, (C, n), if every entry was estimated.
        y: the output, (n,), if it has the leaf's shape.
        cotangents: of the claim, (C, M).
        derive: other cotangents (C, M) -> the derivatives (C, n) that the framework derives from the function's code; None if
            it does not.
        parts: () -> the parts of the derivative, each through an operation of the function's code.
        ranks: the number of processes that the function runs on together.
        own_outputs: whether each combination is an output of the leaf's own rank, (C,); None if ranks have no own outputs.
        sum_over_ranks: the claims on the leaf of this name added up over the ranks, (C, n); None if their shapes differ.
    """

    claim: F64
    x: F64
    shape: tuple[int, ...]
    width: int
    size_names: Mapping[int, str]
    passes: Callable[[F64], bool]
    fit: Callable[[F64, F64], tuple[float, int]]
    conjugate_claim: Callable[[], F64 | None] = lambda: None
    attached_claim: Callable[[], tuple[F64, tuple[str, ...]] | None] = lambda: None
    true: F64 | None = None
    wrong: NDArray[np.bool_] | None = None
    y: F64 | None = None
    cotangents: F64 = field(default_factory=lambda: np.ones((1, 1)))
    derive: Callable[[F64], F64 | None] | None = None
    parts: Callable[[], Iterator[Part]] = lambda: iter(())
    ranks: int = 1
    own_outputs: NDArray[np.bool_] | None = None
    sum_over_ranks: F64 | None = None

    @property
    def silent_outputs(self) -> NDArray[np.bool_]:
        """The outputs for which the claim is zero and should not be, (C,)."""
        assert self.wrong is not None
        return np.asarray(np.all(self.claim == 0, axis=1) & np.any(self.wrong, axis=1))

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
class FaultDescription:
    """A fault by name, with one line that says what was seen and where to look."""

    diagnosis: Diagnosis
    sentence: str


def describe(diagnosis: Diagnosis, observation: str, advice: str = "") -> FaultDescription:
    """Describe a fault by what was seen, with advice or else the usual fix."""
    return FaultDescription(diagnosis, f"{observation}; {advice or diagnosis.fix}")


def explains(claim: F64, explanation: F64, true: F64) -> bool:
    """Whether a claim is what a diagnosis says: to 1e-4 everywhere, and far nearer to that than to the truth."""
    unexplained = float(np.max(np.abs(claim - explanation), initial=0.0))
    close = unexplained <= MAX_MISMATCH * float(np.max(np.abs(claim), initial=0.0))
    return close and unexplained <= MAX_UNEXPLAINED * float(np.max(np.abs(claim - true), initial=0.0))
