"""JAX's checkers: functions with their signatures, and what a takeover needs of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradcheck.compat.answer import Answer, Translation, ask, passes, say_once
from gradcheck.compat.checker import Arguments, Checker, bind_arguments
from gradcheck.compat.jax.tolerances import read_tolerance, scale_tolerance
from gradcheck.compat.jax.translation import EPS, translate_grads, translate_jvp, translate_vjp
from gradcheck.glossary.verdicts import Reason

MODULE = "jax._src.public_test_util"


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: Any = None,
    rtol: Any = None,
    eps: float | None = None,
) -> None:
    """Check the derivatives that JAX computes, as `jax.test_util.check_grads` does.

    Args:
        f: the function to differentiate.
        args: its arguments.
        order: the highest order of the derivatives to check.
        modes: any of 'fwd', 'rev' and 'lin', which is `jax.linearize`.
        atol: the absolute error that you tolerate, a number or a mapping from dtypes to numbers; None: none.
        rtol: the relative error that you tolerate, likewise.
        eps: ignored.

    Raises:
        AssertionError: if a derivative is wrong.
        ValueError: if a mode is unknown.
    """
    _answer(CHECK_GRADS, f, args, order, modes=modes, atol=atol, rtol=rtol, eps=eps)


def check_jvp(
    f: Callable[..., Any],
    f_jvp: Callable[..., Any],
    args: Sequence[Any],
    atol: Any = None,
    rtol: Any = None,
    eps: float = EPS,
    err_msg: str = "",
) -> None:
    """Check a Jacobian-vector product, as `jax.test_util.check_jvp` does.

    Args:
        f: the function.
        f_jvp: (arguments, tangents) -> outputs and their tangents, such as `functools.partial(jax.jvp, f)`.
        args: the arguments of `f`.
        atol: the absolute error that you tolerate, a number or a mapping from dtypes to numbers; None: none.
        rtol: the relative error that you tolerate, likewise.
        eps: ignored.
        err_msg: put in front of the message.

    Raises:
        AssertionError: if an output or a tangent is wrong.
    """
    _answer(CHECK_JVP, f, f_jvp, args, atol=atol, rtol=rtol, eps=eps, err_msg=err_msg)


def check_vjp(
    f: Callable[..., Any],
    f_vjp: Callable[..., Any],
    args: Sequence[Any],
    atol: Any = None,
    rtol: Any = None,
    eps: float = EPS,
    err_msg: str = "",
) -> None:
    """Check a vector-Jacobian product, as `jax.test_util.check_vjp` does.

    Args:
        f: the function.
        f_vjp: arguments -> outputs and a function from cotangents to gradients, such as `functools.partial(jax.vjp, f)`.
        args: the arguments of `f`.
        atol: the absolute error that you tolerate, a number or a mapping from dtypes to numbers; None: none.
        rtol: the relative error that you tolerate, likewise.
        eps: ignored.
        err_msg: put in front of the message.

    Raises:
        AssertionError: if an output or a gradient is wrong.
    """
    _answer(CHECK_VJP, f, f_vjp, args, atol=atol, rtol=rtol, eps=eps, err_msg=err_msg)


def _answer(checker: Checker, *args: Any, **kwargs: Any) -> None:
    translation = checker.translate((args, kwargs))
    say_once(translation.notes)
    checker.conclude(ask(translation), (args, kwargs))


def _conclude(answer: Answer, prefix: str) -> None:
    """Raise an AssertionError, whose message starts with a prefix, unless the answer counts as passed.

    A derivative of a requested order that does not exist is an error here, as it is in JAX, and not a matter of policy.
    """
    is_missing = any(result.reason is Reason.ONCE_DIFFERENTIABLE for result in answer.results)
    if is_missing or not passes(answer, stacklevel=5):
        raise AssertionError(f"{prefix}\n{answer.describe()}".lstrip("\n"))


def _zero_function(call: dict[str, Any]) -> dict[str, Any]:
    """Return a function with the value of the checked one, and no derivative."""
    import jax

    return {"f": lambda *args: jax.tree.map(jax.lax.stop_gradient, call["f"](*args))}


def _zero_jvp(call: dict[str, Any]) -> dict[str, Any]:
    import jax
    import numpy as np

    def f_jvp(primals: Any, tangents: Any) -> Any:
        outputs, derivatives = call["f_jvp"](primals, tangents)
        return outputs, jax.tree.map(np.zeros_like, derivatives)

    return {"f_jvp": f_jvp}


def _zero_vjp(call: dict[str, Any]) -> dict[str, Any]:
    import jax
    import numpy as np

    def f_vjp(*args: Any) -> Any:
        outputs, pull_back = call["f_vjp"](*args)
        return outputs, lambda cotangents: jax.tree.map(np.zeros_like, pull_back(cotangents))

    return {"f_vjp": f_vjp}


def _make_checker(
    function: Callable[..., None],
    translate: Callable[[dict[str, Any]], Translation],
    zero: Callable[[dict[str, Any]], dict[str, Any]],
) -> Checker:
    """Make the description of a checker for a takeover.

    Args:
        function: the drop-in.
        translate: takes the arguments by name.
        zero: takes the arguments by name; returns those to replace for a derivative of zero.
    """

    def scale_tolerances(arguments: Arguments, factor: float) -> Arguments:
        call = bind_arguments(function, arguments).arguments
        return (), {**call, **{name: scale_tolerance(call[name], factor) for name in ("atol", "rtol")}}

    def read_tolerances(arguments: Arguments) -> dict[str, float]:
        call = bind_arguments(function, arguments).arguments
        return {name: read_tolerance(call[name], call["args"]) for name in ("atol", "rtol")}

    def with_zero_gradient(arguments: Arguments) -> Arguments:
        call = bind_arguments(function, arguments).arguments
        return (), {**call, **zero(call)}

    return Checker(
        name=f"jax.test_util.{function.__name__}",
        module=MODULE,
        attribute=function.__name__,
        translate=lambda arguments: translate(bind_arguments(function, arguments).arguments),
        conclude=lambda answer, arguments: _conclude(answer, bind_arguments(function, arguments).arguments.get("err_msg", "")),
        has_passed=lambda _: True,  # a wrong derivative raises
        with_zero_gradient=with_zero_gradient,
        scale_tolerances=scale_tolerances,
        read_tolerances=read_tolerances,
    )


CHECK_GRADS = _make_checker(check_grads, translate_grads, _zero_function)
CHECK_JVP = _make_checker(check_jvp, translate_jvp, _zero_jvp)
CHECK_VJP = _make_checker(check_vjp, translate_vjp, _zero_vjp)
CHECKERS: tuple[Checker, ...] = (CHECK_GRADS, CHECK_JVP, CHECK_VJP)
