"""SciPy's checkers, answered by gradcheck: they return a number, which the caller compares with a tolerance of their own.

The number is 0 if the derivative is right. If it is wrong, the number is at least as large as the relative error of the worst
entry, so that no assertion such as `< 1e-6` passes because all numbers are small.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcheck.compat.answer import (
    Answer,
    CheckCall,
    InconclusiveWarning,
    Translation,
    ask,
    has_lost_its_value,
    passes,
    say_once,
)
from gradcheck.compat.checker import Arguments, Checker, bind_arguments
from gradcheck.compat.policies import current_policy
from gradcheck.errors import GradientError
from gradcheck.glossary.verdicts import Verdict
from gradcheck.results import CheckResult, Comparison

EPSILON = float(np.sqrt(np.finfo(float).eps))  # SciPy's own default step
UNBOUNDED = (-math.inf, math.inf)
# The claim and the evidence; without the other methods, NumPy code is not traced by PyTorch, which is slow.
METHODS = ("analytic", "numeric")
NO_STEP = "scipy.optimize.check_grad: epsilon= is ignored, since the steps are fitted to the function"
Function = Callable[..., Any]
F64 = np.ndarray[Any, np.dtype[np.float64]]


class GradientWarning(UserWarning):
    """The derivative that a drop-in was asked about is wrong; the message contains the table."""


def check_grad(
    func: Function,
    grad: Function,
    x0: Any,
    *args: Any,
    epsilon: Any = EPSILON,
    direction: str = "all",
    rng: Any = None,
    seed: Any = None,
) -> np.floating[Any]:
    """Compare a gradient with numerical evidence, as `scipy.optimize.check_grad` does with forward differences.

    Args:
        func: function of an array of shape (n,) and `args`; returns one number, or an array of shape (m,).
        grad: its gradient of shape (n,), or its Jacobian of shape (m, n), with the same arguments.
        x0: the point, of shape (n,) or a number. Integers become floats.
        *args: further arguments of `func` and `grad`.
        epsilon: ignored.
        direction: 'all', or 'random' to compare along random directions.
        rng: for 'random', an integer that seeds the directions. A generator is not drawn from.
        seed: the older name of `rng`.

    Returns:
        0 if the gradient is right. If it is wrong, the norm of the difference from the numerical gradient or the largest
        relative error of an entry, whichever is larger; infinite if there is no such number.

    Raises:
        ValueError: if `direction` is unknown, or shapes do not fit, as SciPy's function does.
        GradientError: if the gradient is wrong and the policy says `tolerances="gradcheck"`.

    Warns:
        GradientWarning: if the gradient is wrong.
        InconclusiveWarning: if the evidence cannot decide; the returned number is 0, or NaN if the function returns no number.
    """
    arguments = (func, grad, x0, *args), {"epsilon": epsilon, "direction": direction, "rng": rng, "seed": seed}
    return _answer(CHECK_GRAD, arguments)


def check_derivative(
    fun: Function, jac: Function, x0: Any, bounds: Any = UNBOUNDED, args: Any = (), kwargs: Any = None
) -> np.floating[Any]:
    """Compare a gradient or Jacobian with numerical evidence, as `scipy.optimize._numdiff.check_derivative` does.

    Args:
        fun: function of an array of shape (n,); returns one number, or an array of shape (m,).
        jac: its gradient of shape (n,), or its Jacobian of shape (m, n), as an array or a sparse array.
        x0: the point, of shape (n,) or a number.
        bounds: lower and upper bounds within which `fun` may be evaluated: numbers, or arrays of shape (n,).
        args: further arguments of `fun` and `jac`.
        kwargs: further arguments by name.

    Returns:
        0 if the derivative is right. If it is wrong, the largest error of an entry: absolute for derivatives below 1, or
        relative, whichever is larger; infinite if there is no such number.

    Raises:
        ValueError: if `x0` violates the bounds, or shapes do not fit, as SciPy's function does.
        GradientError: if the derivative is wrong and the policy says `tolerances="gradcheck"`.

    Warns:
        GradientWarning: if the derivative is wrong.
        InconclusiveWarning: if the evidence cannot decide; the returned number is 0, or NaN if the function returns no number.
    """
    return _answer(CHECK_DERIVATIVE, ((fun, jac, x0, bounds, args, kwargs), {}))


def _answer(checker: Checker, arguments: Arguments) -> np.floating[Any]:
    translation = checker.translate(arguments)
    say_once(translation.notes)
    number: np.floating[Any] = checker.conclude(ask(translation), arguments)
    return number


# --- what a call asks for


@dataclass(frozen=True)
class _Claim:
    """A function of one array, and its derivative, as a call of SciPy describes them.

    Attributes:
        function: the function.
        derivative: the claimed gradient or Jacobian.
        x0: the point.
        bounds: where the function may be evaluated.
        args: further arguments of both.
        kwargs: further arguments of both by name.
        options: options of the check.
        axes_error: what SciPy raises if the function returns an array of several axes.
    """

    function: Function
    derivative: Function
    x0: Any
    bounds: Any = UNBOUNDED
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    axes_error: Exception = field(default_factory=lambda: ValueError("`f0` passed has more than 1 dimension."))


def _translate_check_grad(arguments: Arguments) -> Translation:
    call = bind_arguments(check_grad, arguments).arguments
    if call["rng"] is not None and call["seed"] is not None:
        raise TypeError("check_grad() got multiple values for argument now known as `rng`. Specify one of `rng` or `seed`.")
    direction, seed = call["direction"], call["rng"] if call["seed"] is None else call["seed"]
    if direction not in ("all", "random"):
        raise ValueError(f"{direction} is not a valid string for ``direction`` argument")
    options: dict[str, Any] = {}
    if direction == "random":
        if np.ndim(call["grad"](np.asarray(call["x0"]), *call["args"])) > 1:
            raise ValueError("'random' can only be used with scalar valued func")
        if not hasattr(seed, "random"):  # of generators, old and new
            np.random.default_rng(seed)  # refuses what is no seed, as SciPy does
        options = {"mode": "probe", "seed": abs(int(seed)) if isinstance(seed, int | np.integer) else 0}
    has_step = not np.array_equal(call["epsilon"], EPSILON)
    claim = _Claim(call["func"], call["grad"], call["x0"], args=call["args"], options=options)
    return Translation(_make_checks(claim), notes=(NO_STEP,) * has_step)


def _translate_check_derivative(arguments: Arguments) -> Translation:
    fun, jac, x0, bounds, args, kwargs = bind_arguments(check_derivative, arguments).arguments.values()
    axes_error = RuntimeError("`fun` return value has more than 1 dimension.")
    return Translation(_make_checks(_Claim(fun, jac, x0, bounds, args, kwargs or {}, axes_error=axes_error)))


def _make_checks(claim: _Claim) -> tuple[CheckCall, ...]:
    """Return the check of a claim; none if there is no input.

    Both functions are called once, so that an exception of theirs goes to the caller.

    Raises:
        ValueError: if the point or the shape of the claimed derivative is wrong.
        TypeError: if the point is complex.
    """
    given = np.asarray(claim.x0)
    if given.dtype.kind == "c":
        raise TypeError(f"x0: expected real numbers, got {given.dtype}")
    x = np.atleast_1d(given).astype(float)
    if x.ndim > 1:
        raise ValueError("`x0` must have at most 1 dimension.")
    is_within = _make_bounds_test(claim.bounds, x)

    def evaluate(x: F64) -> F64:
        value = np.atleast_1d(claim.function(x.copy(), *claim.args, **claim.kwargs))
        return value.astype(float) if value.dtype.kind in "biu" else value

    def evaluate_derivative(x: F64) -> F64:
        returned = claim.derivative(x.reshape(given.shape).copy(), *claim.args, **claim.kwargs)
        return _fit_shape(np.asarray(returned.toarray() if _is_sparse(returned) else returned), shape)

    value = evaluate(x)
    if value.ndim > 1:
        raise claim.axes_error
    shape = x.shape if value.size == 1 else (value.size, x.size)
    evaluate_derivative(x)

    def evaluate_within(x: F64) -> Any:
        result = evaluate(x) if is_within(x) else np.full(value.shape, np.nan)
        return result[0] if value.size == 1 else result

    kind = "gradient" if value.size == 1 else "jacobian"
    arguments = {kind: evaluate_derivative, "framework": "numpy", "methods": METHODS, "contracts": False, **claim.options}
    name = getattr(claim.function, "__name__", type(claim.function).__name__)
    return (CheckCall(evaluate_within, (x,), {**arguments, "name": name}),) if x.size else ()


def _make_bounds_test(bounds: Any, x0: F64) -> Callable[[F64], bool]:
    """Return a function that says whether a point lies within bounds.

    Raises:
        ValueError: if the shape of a bound is wrong, or the start lies outside.
    """
    low, high = (np.resize(bound, x0.shape) if np.ndim(bound) == 0 else np.asarray(bound, float) for bound in bounds)
    if low.shape != x0.shape or high.shape != x0.shape:
        raise ValueError("Inconsistent shapes between bounds and `x0`.")

    def is_within(x: F64) -> bool:
        return not np.any((x < low) | (x > high))

    if not is_within(x0):
        raise ValueError("`x0` violates bound constraints.")
    return is_within


def _fit_shape(claimed: F64, shape: tuple[int, ...]) -> F64:
    """Return a claimed derivative in the expected shape, where SciPy's subtraction would broadcast it to as many entries.

    Raises:
        ValueError: if SciPy could not subtract the derivative from one of the expected shape.
    """
    subtracted = claimed - np.zeros(shape)
    return subtracted.reshape(shape) if subtracted.size == math.prod(shape) else claimed


def _is_sparse(matrix: Any) -> bool:
    """Whether something is a sparse array of SciPy; if it is, SciPy is loaded."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(matrix))


# --- what it returns


def _conclude_norm(answer: Answer, _: Arguments) -> np.floating[Any]:
    return _conclude(answer, lambda claimed, estimate: float(np.linalg.norm(claimed - estimate)))


def _conclude_accuracy(answer: Answer, _: Arguments) -> np.floating[Any]:
    return _conclude(answer, lambda claimed, estimate: float(np.max(abs(claimed - estimate) / np.maximum(1, abs(estimate)))))


def _conclude(answer: Answer, measure: Callable[[F64, F64], float]) -> np.floating[Any]:
    """Return 0 for a right derivative, and the error of a wrong one, with a warning.

    Args:
        answer: the answer.
        measure: takes the claimed and the numerical derivative of each entry; returns the number of the checker.

    Raises:
        GradientError: if the derivative is wrong and the policy ignores the caller's tolerances.
    """
    if has_lost_its_value(answer):
        warnings.warn(InconclusiveWarning(answer.describe()), stacklevel=5)
        return np.float64(math.nan)
    if passes(answer, stacklevel=5):
        return np.float64(0.0)
    failed = next(result for result in answer.results if not result.ok)
    if current_policy().tolerances == "gradcheck":
        raise GradientError(answer.describe(), failed)
    warnings.warn(GradientWarning(answer.describe()), stacklevel=5)
    wrong = [row for row in failed.comparisons if row.verdict is Verdict.FAIL]
    if not wrong:
        return np.float64(math.inf)
    claimed, estimate = np.array(_list_pairs(failed, wrong)).T
    error = max(measure(claimed, estimate), *(row.rel_err for row in wrong))
    return np.float64(error if math.isfinite(error) else math.inf)


def _list_pairs(result: CheckResult, wrong: list[Comparison]) -> list[tuple[float, float]]:
    """List claim and estimate of every entry, or of the worst entries where the input is large."""
    if result.partials:
        return [(partial.values["analytic"], partial.values["numeric"]) for partial in result.partials]
    listed = [(entry.claimed, entry.estimate) for row in wrong if row.where for entry in row.where.entries]
    return listed or [(row.claimed, row.estimate) for row in wrong]


# --- the checkers of a takeover


def _replace_by_zero(function: Function, name: str) -> Callable[[Arguments], Arguments]:
    """Return what replaces the derivative in a call of `function`, its argument `name`, by zeros."""

    def replace_derivative(arguments: Arguments) -> Arguments:
        call = bind_arguments(function, arguments)
        derivative = call.arguments[name]
        call.arguments[name] = lambda *args, **kwargs: np.zeros(np.shape(derivative(*args, **kwargs)))
        return call.args, call.kwargs

    return replace_derivative


CHECK_GRAD = Checker(
    name="scipy.optimize.check_grad",
    module="scipy.optimize._optimize",
    attribute="check_grad",
    translate=_translate_check_grad,
    conclude=_conclude_norm,
    has_passed=lambda _: None,
    with_zero_gradient=_replace_by_zero(check_grad, "grad"),
)
CHECK_DERIVATIVE = Checker(
    name="scipy.optimize._numdiff.check_derivative",
    module="scipy.optimize._numdiff",
    attribute="check_derivative",
    translate=_translate_check_derivative,
    conclude=_conclude_accuracy,
    has_passed=lambda _: None,
    with_zero_gradient=_replace_by_zero(check_derivative, "jac"),
)
CHECKERS: tuple[Checker, ...] = (CHECK_GRAD, CHECK_DERIVATIVE)
