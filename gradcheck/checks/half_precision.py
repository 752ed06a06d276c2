"""The accuracy of a claim and of a value in half precision, compared with a plain implementation in the same dtype.

No fixed tolerance fits bfloat16 and float16: the error of a good implementation depends on how the function amplifies the
rounding of its inputs. So the error against float64 is compared with the error of a plain implementation, and may be at most a
small multiple of that. A plain implementation rounds its inputs, the result of every operation and its output, and adds sums up
exactly. `reports/low_precision.md` measures the ratio of the two for right implementations and for faults.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS, HALF_EPS
from gradcheck.backends.program import Program, Unavailable
from gradcheck.checks.against_reference.value import VALUE_ORDER
from gradcheck.compare import conditioning, ulp_error
from gradcheck.evidence import directions
from gradcheck.results import Comparison, Reason
from gradcheck.seeds import make_generator
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim
    from gradcheck.checks.trial_result import TrialResult
    from gradcheck.compare.trial import Trial
    from gradcheck.evidence.line import F64

# A row names this method if it was compared with the float64 twin.
TWIN_METHOD = "float64"
# An error passes if it is at most this many times that of a plain implementation ...
MAX_ERROR_RATIO = 4.0
# ... and this many times more, if only the inputs and the output can be rounded because the operations cannot be seen.
UNSEEN_OPERATIONS_FACTOR = 4.0
# The error of a plain implementation is sampled this often. An output or leaf of few entries takes more, since these share no
# samples.
SAMPLES, SAMPLES_OF_FEW_ENTRIES = 6, 24
# An output or leaf of fewer entries than this has few.
FEW_ENTRIES = 16
# This is the standard deviation of rounding, in units in the last place.
ROUNDING_DEVIATION = 1 / math.sqrt(12)
# The gradient is compared for this many random cotangents, unless the output is a single number.
ACCURACY_COTANGENTS = 2
# The intermediate results of a backward may be this many times larger than the gradient, and the range must have room for them.
INTERMEDIATE_GROWTH = 64.0
# A cotangent is made smaller to leave that room, but not by more than this factor.
MIN_COTANGENT_FACTOR = 2.0**-6
# No output counts for more than this many times the median, or for less than the inverse, so that the low dtype can hold the
# cotangent.
MAX_OUTPUT_WEIGHT = 64.0
NO_TWIN_NOTE = (
    "accuracy not checked: the target does not run in float64, or returns another value there; pass a `reference=` to compare"
    " it with"
)

# This is a row of the table with its notes.
RowWithNotes = tuple[Comparison, list[str]]


@dataclass(frozen=True)
class ExactNumbers:
    """The numbers that a claim or value in half precision is compared with.

    Attributes:
        exact: (point, cotangents) -> the numbers in float64.
        plain: (point, cotangents) -> the numbers as a plain implementation computes them; None if its operations are unknown.
        against: the method of these numbers, for the row.
    """

    exact: Callable[[F64, F64], F64]
    plain: Callable[[F64, F64], F64] | None
    against: str


def check_half_precision(result: TrialResult, trial: Trial, reference: Program | None) -> TrialResult:
    """Add the accuracy of the claims and the value to the result of a trial, if the target is in half precision.

    Args:
        result: what the other checks found.
        trial: the target with its options.
        reference: the reference, bound to the same inputs; None if there is none.
    """
    program, options, label = trial.program, trial.options, trial.label
    eps = max((HALF_EPS[leaf.dtype] for leaf in (*program.leaves, *program.outputs) if leaf.dtype in HALF_EPS), default=0.0)
    if not eps or result.stop not in (None, Reason.NOTHING_CLAIMED, Reason.NON_FINITE):
        return result
    target = HalfPrecisionTarget(program, reference, eps)
    rows_with_notes = list(_check_value(target))
    if result.stop is not Reason.NON_FINITE:
        rows_with_notes += _check_gradients(target, label)
    rtol = options.rtol or default_rtol(eps)
    rows = [replace(row, trial=trial.number, rtol=rtol) for row, _ in rows_with_notes]
    notes = [note for _, notes_of_row in rows_with_notes for note in notes_of_row] if rows else [NO_TWIN_NOTE]
    trial.recorder.count(SAMPLES)
    value_rows = [row for row in rows if row.order == VALUE_ORDER]
    gradient_rows = [row for row in rows if row.order != VALUE_ORDER]
    return replace(
        result,
        comparisons=(*value_rows, *result.comparisons, *gradient_rows),
        notes=(*result.notes, *notes),
    )


@dataclass(frozen=True)
class HalfPrecisionTarget:
    """A target in half precision.

    Attributes:
        program: the target.
        reference: its reference; None if there is none.
        eps: relative spacing of floats in the coarsest dtype among its inputs and outputs.
    """

    program: Program
    reference: Program | None
    eps: float

    def sample_plain_error(
        self, numbers: ExactNumbers, cotangents: F64, reference_error: F64 | None, fewest_entries: int
    ) -> tuple[F64, F64]:
        """Return the numbers in float64, and the error to be expected of a plain implementation at each.

        The error is sampled at inputs and cotangents that are moved by one unit in the last place. It consists of the error
        of the operations there, and of what the rounding of the inputs does.

        Args:
            numbers: evaluates the numbers.
            cotangents: in half precision, (C, M).
            reference_error: error of the reference in the same dtype; None if it does not run in it.
            fewest_entries: entries of the smallest leaf that is judged.
        """
        count = SAMPLES if fewest_entries >= FEW_ENTRIES else SAMPLES_OF_FEW_ENTRIES
        point, eps = self.program.point, self.eps
        exact = numbers.exact(point, cotangents)
        squares: list[F64] = []
        points = conditioning.jitter_points(point, eps, "accuracy", count)
        jittered_cotangents = conditioning.jitter_points(cotangents, eps, "cotangents", count)
        for moved_point, moved_cotangents in zip(points, jittered_cotangents, strict=True):
            x, v = ulp_error.round_to_half(moved_point, eps), ulp_error.round_to_half(moved_cotangents, eps)
            try:
                moved_exact = numbers.exact(x, v)
                operation_error = numbers.plain(x, v) - moved_exact if numbers.plain else np.zeros(exact.shape)
            except Exception:
                continue  # off the primal a function need not exist
            with np.errstate(all="ignore"):
                square = operation_error**2 + (ROUNDING_DEVIATION * (moved_exact - exact)) ** 2
            squares.append(np.where(np.isfinite(square), square, 0.0))
        variance = np.mean(squares, axis=0) if squares else np.zeros(exact.shape)
        if reference_error is None:
            reference_error = np.zeros(exact.shape)
        reference_error = np.where(np.isfinite(reference_error), reference_error, 0.0)
        with np.errstate(all="ignore"):
            output_rounding = (ROUNDING_DEVIATION * eps * exact) ** 2
            total = variance + reference_error**2 + output_rounding + ulp_error.smallest_number(eps) ** 2
            return exact, np.sqrt(total)

    def compare_leaf(self, leaf: Leaf, arrays: tuple[F64, F64, F64], *, operations_visible: bool) -> ulp_error.UlpComparison:
        """Compare one leaf.

        Args:
            leaf: the leaf.
            arrays: the claim, the numbers in float64 and the expected error, (C, N) each.
            operations_visible: whether the operations of a plain implementation can be seen.
        """
        claim, exact, expected = (array[:, leaf.span] for array in arrays)
        limit = MAX_ERROR_RATIO * (1 + claim.size**-0.5)  # the fewer errors, the more their mean may vary
        return ulp_error.UlpComparison(
            leaf, claim, exact, expected, self.eps, limit if operations_visible else limit * UNSEEN_OPERATIONS_FACTOR
        )


def _check_value(target: HalfPrecisionTarget) -> Iterator[RowWithNotes]:
    """Judge the accuracy of the value, output by output."""
    program, reference = target.program, target.reference
    numbers = _exact_value(program, reference)
    if numbers is None:
        return
    reference_error = None
    if reference is not None and reference.capabilities.evaluate_native:
        reference_error = reference.capabilities.evaluate_native(reference.point) - reference.evaluate(reference.point)
    value = (program.capabilities.evaluate_native or program.evaluate)(program.point)
    fewest_entries = _count_fewest_entries(program.outputs)
    exact, expected = target.sample_plain_error(numbers, np.zeros(0), reference_error, fewest_entries)
    for leaf in program.outputs:
        if leaf.entries:
            compared = target.compare_leaf(
                leaf, (value[None], exact[None], expected[None]), operations_visible=numbers.plain is not None
            )
            row = ulp_error.judge_accuracy(compared, "primal", numbers.against, leaf.path)
            yield replace(row, order=VALUE_ORDER), []


def _check_gradients(target: HalfPrecisionTarget, label: str) -> Iterator[RowWithNotes]:
    """Judge the accuracy of every claim in reverse mode, along a few random cotangents."""
    program = target.program
    random_cotangents = _draw_cotangents(program, target.eps, label)
    output = "combination" if program.value.size > 1 else program.outputs[0].path
    for claim in program.claims:
        numbers = _exact_claim(claim, program, target.reference)
        if claim.vjp is None or claim.derived or claim.eps not in ulp_error.HALF_NAMES or numbers is None:
            continue
        try:
            cotangents = _align_last(random_cotangents, program, numbers, target.eps)
            rows = claim.vjp(program.point, cotangents)
            reference_error = _evaluate_reference_error(target.reference, cotangents)
            fewest_entries = _count_fewest_entries(program.leaves)
            exact, expected = target.sample_plain_error(numbers, cotangents, reference_error, fewest_entries)
        except Unavailable:
            continue
        for leaf in program.leaves:
            if leaf.entries:
                compared = target.compare_leaf(leaf, (rows, exact, expected), operations_visible=numbers.plain is not None)
                row = ulp_error.judge_accuracy(compared, claim.method, numbers.against, output)
                yield row, ulp_error.describe_underflow(compared)


def _count_fewest_entries(leaves: Sequence[Leaf]) -> int:
    return min((leaf.entries for leaf in leaves if leaf.entries), default=0)


def _exact_value(program: Program, reference: Program | None) -> ExactNumbers | None:
    """Return what the value is compared with: the target's twin, or its reference; None if neither is in float64."""
    twin = program if program.capabilities.evaluate_native else None
    for precise, against in ((twin, TWIN_METHOD), (reference, "reference")):
        if precise is not None and precise.eps <= EPS["float64"]:
            evaluate_rounded = precise.capabilities.evaluate_rounded
            plain = _ignore_cotangents(evaluate_rounded) if evaluate_rounded else None
            return ExactNumbers(_ignore_cotangents(precise.evaluate), plain, against)
    return None


def _ignore_cotangents(evaluate: Callable[[F64], F64]) -> Callable[[F64, F64], F64]:
    return lambda point, _: evaluate(point)


def _exact_claim(claim: Claim, program: Program, reference: Program | None) -> ExactNumbers | None:
    """Return what a claim is compared with: its own twin, or that of another claim, or the reference's derivative."""
    for candidate in (claim, *program.claims):
        if candidate.twin is not None and not candidate.derived:
            return ExactNumbers(candidate.twin, candidate.plain, TWIN_METHOD)
    for candidate in reference.claims if reference is not None and reference.eps <= EPS["float64"] else ():
        exact = candidate.twin or (candidate.vjp if candidate.eps <= EPS["float64"] else None)
        if exact is not None and not candidate.derived:
            return ExactNumbers(exact, candidate.plain, "reference")
    return None


def _evaluate_reference_error(reference: Program | None, cotangents: F64) -> F64 | None:
    """Evaluate the error of the reference's own derivative in the same dtype; None if it does not run in it."""
    for claim in reference.claims if reference is not None else ():
        if claim.vjp is not None and claim.twin is not None and reference is not None:
            return claim.vjp(reference.point, cotangents) - claim.twin(reference.point, cotangents)
    return None


def _align_last(cotangents: F64, program: Program, numbers: ExactNumbers, eps: float) -> F64:
    """Give the last of several cotangents, (C, M), the signs of the outputs.

    A backward like those of softmax and RMSNorm sums up the products of outputs and cotangents. These then add up instead of
    cancelling, so the sum shows whether partial sums were rounded. The cotangent is made smaller if the gradient would leave a
    short range, and keeps its random signs if that is not enough.
    """
    if len(cotangents) == 1:
        return cotangents
    aligned = np.copysign(cotangents[-1:], program.value)
    if eps in ulp_error.SHORT_RANGE:
        largest = np.max(np.abs(numbers.exact(program.point, aligned)), initial=0.0)
        with np.errstate(all="ignore"):
            factor = 2.0 ** np.floor(np.log2(ulp_error.OVERFLOW[eps] / (INTERMEDIATE_GROWTH * largest)))
        if not factor >= MIN_COTANGENT_FACTOR:
            return cotangents
        aligned = aligned * min(factor, 1.0)
    return np.vstack([cotangents[:-1], aligned])


def _draw_cotangents(program: Program, eps: float, label: str) -> F64:
    """Draw random cotangents that the low dtype holds exactly, (C, M); 1 for a single output number."""
    if program.value.size == 1:
        return np.ones((1, 1))
    leaf_sizes = [
        np.full(leaf.entries * leaf.width, directions.compute_leaf_scale(program.value[leaf.span])) for leaf in program.outputs
    ]
    sizes = np.concatenate(leaf_sizes)
    weights = np.clip(np.median(sizes) / sizes, 1 / MAX_OUTPUT_WEIGHT, MAX_OUTPUT_WEIGHT)
    normals = np.stack(
        [make_generator(0, "accuracy", label, k).standard_normal(sizes.size) for k in range(ACCURACY_COTANGENTS)]
    )
    return ulp_error.round_to_half(weights * normals, eps)
