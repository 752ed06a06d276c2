"""From a FAIL to its likely cause: the claim, and repairs of it, compared with the same estimates."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat_call import strip_rank
from gradcheck.checks.derivative.wrong_calls import describe_wrong_call
from gradcheck.compare.judge import judge_lines
from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.results import Comparison, Reason, Verdict
from gradcheck.seeds import make_generator
from gradcheck.verdict.diagnose import diagnose
from gradcheck.verdict.fault_facts import Facts, FaultDescription, Part
from gradcheck.verdict.interval import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Claim, Program, Rederived
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.estimates import LineEstimates
    from gradcheck.compare.judge import ClaimAlongLines
    from gradcheck.compare.trial import MeasuredTrial
    from gradcheck.evidence.line import F64

# In a fit every estimate counts as off by at least this relative error, so that no exact one outweighs all others.
MIN_FIT_ERROR = 1e-13
# Seconds for which the operations of a function are searched, and the share by which inputs move where a part is confirmed.
MAX_SECONDS, MAX_MOVE = 1.0, 0.05
# Cotangents for which the calls inside a target are compared.
MAX_VECTORS = 3
# An entry that is smaller than this share of the largest one is wrong only by an error that is large for that share.
MIN_SHARE_OF_LARGEST = 1e-6


def diagnose_failure(
    trial: MeasuredTrial,
    row: Comparison,
    estimates: LineEstimates,
    jacobian: Jacobian,
    along_lines: Callable[[F64], ClaimAlongLines],
    *,
    true: F64 | None = None,
    wrong: NDArray[np.bool_] | None = None,
) -> Comparison:
    """Add a diagnosis to a FAIL; none where the evidence has no say, as at kinks or in the claim's own precision.

    Args:
        trial: what is checked.
        row: a row of the table.
        estimates: the estimates that the claim disagrees with.
        jacobian: that of the claim.
        along_lines: gives derivatives (C, n) with respect to the leaf along the lines of the estimates.
        true: the estimated partial derivatives, (C, n), if every one was estimated.
        wrong: those of them that the claim misses, (C, n).
    """
    claim = jacobian.values[:, estimates.leaf.span]
    if row.verdict is not Verdict.FAIL or row.reason is not Reason.DISAGREES or not np.all(np.isfinite(claim)):
        return row
    usable = np.isfinite(estimates.bound) & np.isfinite(estimates.value) & np.isnan(estimates.low)
    if not np.any(usable):
        return row

    def passes(candidate: F64) -> bool:
        judged = judge_lines(estimates, along_lines(candidate), row.rtol, demanded=False)
        undisputed = not np.any(judged.code == Code.FAIL) and not np.any(judged.doubtful)
        return undisputed and bool(np.any(judged.code == Code.PASS))

    if passes(claim):  # only the claim in its own precision is wrong
        return row

    def fit(candidate: F64, offset: F64) -> tuple[float, int]:
        """Fit a factor of the candidate to the estimates by least squares, each weighted by its error."""
        slopes, offset_slopes = along_lines(candidate).value, along_lines(offset).value
        counted = usable & (slopes != 0)
        error = estimates.bound + MIN_FIT_ERROR * np.abs(estimates.value) + np.finfo(np.float64).tiny
        weight = np.where(counted, 1 / np.where(counted, error, 1.0) ** 2, 0.0)
        norm = float(np.sum(weight * slopes**2))
        remainder = np.where(counted, estimates.value - offset_slopes, 0.0)
        return (float(np.sum(weight * slopes * remainder)) / norm if norm > 0 else 0.0), int(np.sum(counted))

    leaf, program = estimates.leaf, trial.program
    channels = np.eye(program.value.size) if trial.setting.channels is None else trial.setting.channels
    is_elementwise = program.value.size == program.point[leaf.span].size
    facts = Facts(
        claim=claim,
        x=program.point[leaf.span],
        shape=leaf.shape,
        width=leaf.width,
        size_names=_name_sizes(trial),
        passes=passes,
        fit=fit,
        conjugate_claim=lambda: _evaluate_conjugate_claim(trial, jacobian, leaf),
        attached_claim=lambda: _evaluate_attached_claim(trial, jacobian, leaf),
        true=true,
        wrong=wrong,
        y=program.value if is_elementwise else None,
        cotangents=channels,
        ranks=program.ranks,
        own_outputs=_find_own_outputs(trial, leaf),
        sum_over_ranks=_sum_over_ranks(program, jacobian, leaf),
    )
    with np.errstate(all="ignore"):
        description = _blame_function(facts, trial, jacobian, leaf) or diagnose(facts)
        if description.diagnosis is Diagnosis.UNKNOWN:
            description = diagnose(_add_derived(facts, trial, jacobian, leaf, row.rtol))
    return replace(row, diagnosis=f"{description.diagnosis.code}: {description.sentence}")


def _find_own_outputs(trial: MeasuredTrial, leaf: Leaf) -> NDArray[np.bool_] | None:
    """Return which outputs are of a leaf's own rank, (M,); None if outputs are combined or the same on every rank."""
    rank, outputs = leaf.path.partition(": ")[0], trial.program.outputs
    if trial.program.ranks == 1 or trial.setting.channels is not None or not outputs[0].path.startswith("rank "):
        return None
    return np.repeat([y.path.partition(": ")[0] == rank for y in outputs], [y.entries * y.width for y in outputs])


def _sum_over_ranks(program: Program, jacobian: Jacobian, leaf: Leaf) -> F64 | None:
    """Add up the claims on the leaf of this name over the ranks, (C, n); None if their shapes differ."""
    if program.ranks == 1:
        return None
    leaves = [other for other in program.leaves if strip_rank(other.path) == strip_rank(leaf.path)]
    if any(other.shape != leaf.shape for other in leaves):
        return None
    return np.asarray(sum(jacobian.values[:, other.span] for other in leaves))


def _blame_function(facts: Facts, trial: MeasuredTrial, jacobian: Jacobian, leaf: Leaf) -> FaultDescription | None:
    """Name the first Function inside the target with a wrong derivative, if the claim is right with all of them derived."""
    claim, program = jacobian.claim, trial.program
    product = None if claim is None else claim.precise_product
    if claim is None or product is None or claim.find_wrong_calls is None or claim.rederived is None:
        return None
    draw = make_generator(0, "calls", trial.label)
    point, vectors, span = program.point, draw.standard_normal((MAX_VECTORS, program.value.size)), leaf.span
    if claim.vjp is None:  # along a tangent of this leaf, only what concerns it is wrong
        vectors, span = np.zeros((1, point.size)), slice(None)
        vectors[:, leaf.span] = 1.0
    try:
        calls = claim.find_wrong_calls(point, vectors)
        if not calls or not facts.passes(claim.rederived.vjp(point, facts.cotangents)[:, leaf.span]):
            return None
        before = product(point, vectors)[:, span]
        calls = [call for call in calls if np.any(call.repair(point, vectors)[:, span] != before)]
    except Exception:
        return None
    return describe_wrong_call(calls) if calls else None


def _add_derived(facts: Facts, trial: MeasuredTrial, jacobian: Jacobian, leaf: Leaf, rtol: float) -> Facts:
    """Add the derivatives that the framework derives from the function's code, if the estimates confirm them."""
    claim = jacobian.claim
    rederived = None if claim is None else claim.rederived
    if claim is None or rederived is None:
        return facts

    def derive(cotangents: F64) -> F64 | None:
        try:
            return rederived.vjp(trial.program.point, cotangents)[:, leaf.span]
        except Exception:
            return None

    derived = derive(facts.cotangents)
    if derived is None or not facts.passes(derived):
        return facts
    size = np.fmax(np.abs(derived), np.abs(facts.claim))
    least = rtol * np.fmax(size, MIN_SHARE_OF_LARGEST * np.max(size, axis=1, keepdims=True, initial=0.0))
    wrong = np.abs(derived - facts.claim) > least
    parts = partial(_list_parts, trial, claim, rederived, facts.cotangents, leaf)
    return replace(facts, true=derived, wrong=wrong, derive=derive, parts=parts)


def _list_parts(trial: MeasuredTrial, claim: Claim, rederived: Rederived, cotangents: F64, leaf: Leaf) -> Iterator[Part]:
    """Yield the parts of the derivative, the last operation of the code first, while a second has not passed."""
    vjp, point, began = claim.twin or claim.vjp, trial.program.point, time.perf_counter()
    draw = make_generator(0, "parts", trial.label, leaf.path)
    nearby = point * (1 + MAX_MOVE * draw.uniform(-1.0, 1.0, point.size))
    if vjp is None:
        return

    def evaluate_nearby(number: int) -> tuple[F64, F64, F64]:
        others = (rederived.vjp(nearby, cotangents), rederived.vjp_without(number, nearby, cotangents))
        claimed, derived, without = (values[:, leaf.span] for values in (vjp(nearby, cotangents), *others))
        return claimed, derived, without

    try:
        for number, place in reversed(list(enumerate(rederived.list_operations(point)))):
            if time.perf_counter() - began > MAX_SECONDS:
                return
            without = rederived.vjp_without(number, point, cotangents)[:, leaf.span]
            yield Part(place, without, partial(evaluate_nearby, number))
    except Exception:  # the code may refuse another point
        return


def _evaluate_conjugate_claim(trial: MeasuredTrial, jacobian: Jacobian, leaf: Leaf) -> F64 | None:
    """Evaluate the claim for the conjugate cotangents; None if the outputs are real or the claim has no working vjp."""
    outputs, channels = trial.program.outputs, trial.setting.channels
    if jacobian.claim is None or jacobian.claim.vjp is None or all(output.width == 1 for output in outputs):
        return None
    signs = np.concatenate([np.tile([1.0, -1.0] if output.width == 2 else [1.0], output.entries) for output in outputs])
    cotangents = signs * (np.eye(signs.size) if channels is None else channels)
    try:
        return jacobian.claim.vjp(trial.program.point, cotangents)[:, leaf.span]
    except Exception:
        return None


def _evaluate_attached_claim(trial: MeasuredTrial, jacobian: Jacobian, leaf: Leaf) -> tuple[F64, tuple[str, ...]] | None:
    """Evaluate the claim as if nothing in the function were detached; None if the claim does not come from such a function."""
    if jacobian.claim is None or jacobian.claim.attached is None:
        return None
    channels = trial.setting.channels
    try:
        values, lines = jacobian.claim.attached(
            trial.program.point, np.eye(trial.program.value.size) if channels is None else channels
        )
    except Exception:
        return None
    return values[:, leaf.span], lines


def _name_sizes(trial: MeasuredTrial) -> dict[int, str]:
    """Say for each size among the arrays of the call what it is the size of."""
    names: dict[int, str] = {}
    for path, shape in trial.program.shapes:
        for size in dict.fromkeys(shape):
            axes = " or ".join(str(axis) for axis, n in enumerate(shape) if n == size)
            names.setdefault(size, f"the size of {path} along axis {axes}" if len(shape) > 1 else f"the size of {path}")
    for path, shape in trial.program.shapes:
        names.setdefault(int(np.prod(shape)), f"the number of entries of {path}")
    return names
