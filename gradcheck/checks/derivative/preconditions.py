"""Preconditions of the check of a derivative: finite values, the same on every call, and inputs left unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.errors import TargetError
from gradcheck.evidence import noise
from gradcheck.results import Contract, Reason, Verdict
from gradcheck.tracebacks import format_user_frames, summarise_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import F64

# A function counts as random if repeated evaluations differ by at least this much, relative to the output, and as noisy if they
# differ by less.
MIN_RANDOM_SPREAD = 1e-3
FINITE_INPUTS = "the inputs are finite: look for a logarithm, root, division or exponential that leaves its domain or overflows"


@dataclass(frozen=True)
class Preconditions:
    """Findings of two evaluations at the primal.

    Attributes:
        contracts: the contracts that were checked.
        spread: how far repeated evaluations differ, (M,).
        stop: why the derivative cannot be judged; None if it can.
        message: what led to `stop`.
    """

    contracts: tuple[Contract, ...]
    spread: F64
    stop: Reason | None
    message: str = ""


def check_preconditions(evaluator: Evaluator, *, random: bool = False) -> Preconditions:
    """Evaluate the function at the primal a second time and compare.

    Args:
        evaluator: of the function.
        random: whether the user declared that the function returns another value on every call.

    Raises:
        TargetError: if the function raises on its second call.
    """
    program = evaluator.program
    value = program.value
    no_spread = np.zeros(value.shape)
    if program.point.size == 0 or value.size == 0:
        empty = [leaf.path for leaf in (*program.leaves, *program.outputs) if leaf.entries == 0]
        return Preconditions((), no_spread, Reason.EMPTY, f"{', '.join(empty)} has no entry")
    if not np.all(np.isfinite(value)):
        inputs = describe_non_finite(program.point, program.leaves)
        cause = f"so are inputs: {inputs}; give finite ones" if inputs else FINITE_INPUTS
        message = f"{describe_non_finite(value, program.outputs)}; {cause}"
        return Preconditions((), no_spread, Reason.NON_FINITE, message)
    second_value = evaluator(program.point)
    if evaluator.last_error is not None:
        error = evaluator.last_error
        raise TargetError(f"the function raised on its second call: {summarise_error(error)}", format_user_frames(error))
    if not np.all(np.isfinite(second_value)):
        message = "the second call returned another shape, or values that are not finite"
        return Preconditions((), no_spread, Reason.NONDETERMINISTIC, message)
    same = bool(np.array_equal(second_value, value))
    spread = no_spread if same else noise.measure_spread(lambda _: evaluator(program.point), value)
    is_random = bool(np.any(spread > MIN_RANDOM_SPREAD * np.maximum(np.abs(value), np.max(np.abs(value)))))
    stop = Reason.NONDETERMINISTIC if is_random and not random else None
    determinism = _judge_determinism(spread, value, same=same, counts_as_noise=stop is None)
    return Preconditions((determinism, _judge_mutation(program.mutated_inputs(), program)), spread, stop)


def describe_non_finite(numbers: F64, leaves: Sequence[Leaf]) -> str:
    """Describe for each leaf the first entry that is not finite, and how many there are; '' if all are finite."""
    positions_of = {leaf: leaf.start + np.flatnonzero(~np.isfinite(numbers[leaf.span])) for leaf in leaves}
    return "; ".join(
        f"{leaf.entry(positions[0])} is {numbers[positions[0]]} ({positions.size} of {leaf.entries * leaf.width} not finite)"
        for leaf, positions in positions_of.items()
        if positions.size
    )


def _judge_determinism(spread: F64, value: F64, *, same: bool, counts_as_noise: bool) -> Contract:
    if same:
        return Contract("deterministic", Verdict.PASS, "the same value on every call")
    size = float(np.max(spread) / max(np.max(np.abs(value)), np.max(spread)))
    message = f"repeated calls differ by {size:.1e} of the output{', counted as noise' if counts_as_noise else ''}"
    return Contract("deterministic", Verdict.INCONCLUSIVE, message)


def _judge_mutation(mutated: list[str], program: Program) -> Contract:
    """Judge which inputs changed: running statistics and others that are not differentiated may be updated in place.

    The derivative of a plain function is right all the same. Autograd must know of what an `autograd.Function` changes.
    """
    differentiable = {leaf.path for leaf in program.leaves}
    wrong = [path for path in mutated if path in differentiable]
    if not wrong:
        others = f"; {', '.join(mutated)}, not differentiated, is updated in place" if mutated else ""
        return Contract("inputs-intact", Verdict.PASS, f"the differentiable inputs are unchanged{others}")
    layer, paths = program.capabilities.layer, ", ".join(wrong)
    message = f"the function changes its input {paths} in place"
    if layer is not None and layer.user_functions:
        return Contract("inputs-intact", Verdict.FAIL, f"{message}: declare it with ctx.mark_dirty, or write to a new tensor")
    advice = f"the derivative is that at the values given; a caller that uses {paths} again needs a copy"
    return Contract("inputs-intact", Verdict.INCONCLUSIVE, f"{message}: {advice}")
