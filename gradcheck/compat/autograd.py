"""HIPS autograd's checkers, answered by gradcheck.

Change `from autograd.test_util import check_grads` to `from gradcheck.compat.autograd import check_grads`. The functions have
the arguments of the originals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

from gradcheck.compat.answer import Answer, CheckCall, Translation, ask, passes
from gradcheck.compat.checker import Arguments, Checker

MODULE = "autograd.test_util"
MODES = ("fwd", "rev")
Function = Callable[[Any], Any]  # of one argument, as autograd's own functions are inside `unary_to_nary`


def check_grads(fun: Callable[..., Any], argnum: Any = 0, *nary_op_args: Any, **nary_op_kwargs: Any) -> Callable[..., None]:
    """Check the derivatives that autograd computes, as `autograd.test_util.check_grads` does.

    Args:
        fun: the function to differentiate.
        argnum: the number of the argument to differentiate by, or a tuple of numbers.
        *nary_op_args: `modes`, a list of 'fwd' and 'rev', and `order`, the highest order of the derivatives; 2 by default.
        **nary_op_kwargs: the same by name.

    Returns:
        A function that takes the arguments of `fun` and checks there. It raises AssertionError if a derivative is wrong.
    """
    from autograd.wrap_util import unary_to_nary

    checked: Callable[..., None] = unary_to_nary(_check_unary_grads)(fun, argnum, *nary_op_args, **nary_op_kwargs)
    return checked


def combo_check(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., None]:
    """Check derivatives at all combinations of arguments, as `autograd.test_util.combo_check` does.

    Args:
        fun: the function to differentiate.
        *args: further arguments of `check_grads`.
        **kwargs: further arguments of `check_grads`.

    Returns:
        A function that takes a list of values for each argument of `fun`. It raises AssertionError if a derivative is wrong.
    """

    def check_combinations(*args_lists: Any, **kwargs_lists: Any) -> None:
        for values in product(*args_lists, *kwargs_lists.values()):
            by_position, by_name = values[: len(args_lists)], values[len(args_lists) :]
            check_grads(fun, *args, **kwargs)(*by_position, **dict(zip(kwargs_lists, by_name, strict=True)))

    return check_combinations


def check_vjp(f: Function, x: Any) -> None:
    """Check the first derivative that autograd computes in reverse mode.

    Args:
        f: function of one argument.
        x: an array, a number, or a tuple, list or dictionary of them.

    Raises:
        AssertionError: if the derivative is wrong.
    """
    _conclude(ask(_translate(f, x, ("rev",), 1)))


def check_jvp(f: Function, x: Any) -> None:
    """Check the first derivative that autograd computes in forward mode.

    Args:
        f: function of one argument.
        x: an array, a number, or a tuple, list or dictionary of them.

    Raises:
        AssertionError: if the derivative is wrong.
    """
    _conclude(ask(_translate(f, x, ("fwd",), 1)))


def _check_unary_grads(f: Function, x: Any, modes: Sequence[str] = MODES, order: int = 2) -> None:
    _conclude(ask(_translate(f, x, modes, order)), stacklevel=4)


def _conclude(answer: Answer, _: Arguments = ((), {}), *, stacklevel: int = 3) -> None:
    """Raise an AssertionError unless the answer counts as passed."""
    if not passes(answer, stacklevel=stacklevel):
        raise AssertionError(answer.describe())


def _translate_grads(arguments: Arguments) -> Translation:
    return _translate(*_bind_unary(*arguments[0], **arguments[1]))


def _translate_vjp(arguments: Arguments) -> Translation:
    f, x, *_ = _bind_unary(*arguments[0], **arguments[1])
    return _translate(f, x, ("rev",), 1)


def _translate_jvp(arguments: Arguments) -> Translation:
    f, x, *_ = _bind_unary(*arguments[0], **arguments[1])
    return _translate(f, x, ("fwd",), 1)


def _bind_unary(f: Function, x: Any, modes: Sequence[str] = MODES, order: int = 2) -> tuple[Function, Any, Sequence[str], int]:
    return f, x, modes, order


def _translate(f: Function, x: Any, modes: Sequence[str], order: int) -> Translation:
    for mode in modes:
        if mode not in MODES:
            raise AssertionError(f"modes={modes!r}: expected a list of 'fwd' and 'rev'")
    with _drawing_alone():
        return Translation(tuple(_list_checks(f, _make_arrays(x), modes, order)))


@contextmanager
def _drawing_alone() -> Iterator[None]:
    """Seed NumPy's global generator, from which autograd draws, and restore it on exit."""
    import numpy as np

    from gradcheck.backends.global_state import preserving

    with preserving():
        np.random.seed(0)
        yield


def _list_checks(f: Function, x: Any, modes: Sequence[str], order: int) -> Iterator[CheckCall]:
    """List the checks of a function and, for higher orders, those of its derivatives by point and direction.

    Each derivative is computed once here, so that exceptions reach the caller as they do in the original.
    """
    from autograd.core import vspace
    from autograd.wrap_util import get_name

    for mode in (mode for mode in MODES if mode in modes):
        differentiate, kind = (_push_forward, "jvp") if mode == "fwd" else (_pull_back, "vjp")

        def derivative(xv: Any, differentiate: Callable[..., Any] = differentiate) -> Any:
            return differentiate(f, *_unpack_pair(xv))

        v = vspace(x if mode == "fwd" else f(x)).randn()
        derivative((x, v))
        claim = _make_claim(mode, f)
        arguments = {"framework": "numpy", "methods": ("analytic", "numeric"), "name": get_name(f), kind: claim}
        yield CheckCall(lambda x: f(x), (x,), arguments)
        if order > 1:
            derivative.__name__ = f"{kind}_{get_name(f)}"
            yield from _list_checks(derivative, (x, v), modes, order - 1)


def _unpack_pair(xv: Any) -> tuple[Any, Any]:
    return xv[0], xv[1]  # a pair that autograd traces cannot be iterated


def _push_forward(f: Function, x: Any, tangent: Any) -> Any:
    """Return autograd's jvp of a function."""
    from autograd.core import make_jvp

    return make_jvp(f, x)(tangent)[1]


def _pull_back(f: Function, x: Any, cotangent: Any) -> Any:
    """Return autograd's vjp of a function, in autograd's convention for complex numbers."""
    from autograd.core import make_vjp

    return make_vjp(f, x)[0](cotangent)


def _make_claim(mode: str, f: Function) -> Callable[[Any, Any], Any]:
    """Make the hand-written derivative for `gradcheck.check`: (direction, point) -> derivative."""
    from autograd.core import vspace

    def vjp(cotangent: Any, x: Any) -> Any:
        gradient = _pull_back(f, x, vspace(cotangent).covector(cotangent))
        if vspace(gradient) != vspace(x):
            raise TypeError(f"the vjp is in {vspace(gradient)}, and its input in {vspace(x)}")
        return vspace(x).covector(gradient)

    return vjp if mode == "rev" else lambda tangent, x: _push_forward(f, x, tangent)


def _make_arrays(x: Any) -> Any:
    """Turn the Python numbers of a structure into NumPy's, which are floats too, and which gradcheck differentiates."""
    import numpy as np

    from gradcheck.trees import tree_map

    return tree_map(lambda leaf: np.asarray(leaf)[()] if isinstance(leaf, float | complex) else leaf, x)


def _with_zero_gradient(arguments: Arguments) -> Arguments:
    """Replace the function by a primitive of the same value whose derivative is zero."""
    from autograd.core import defjvp, defvjp, vspace
    from autograd.extend import primitive

    (f, *rest), kwargs = _by_position(*arguments)
    constant = primitive(lambda x: f(x))
    defvjp(constant, lambda ans, x: lambda g: vspace(x).zeros())
    defjvp(constant, lambda g, ans, x: vspace(ans).zeros())
    return (constant, *rest), kwargs


def _by_position(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    """Put a function that was passed by name in front."""
    return (args, kwargs) if args else ((kwargs["f"],), {name: value for name, value in kwargs.items() if name != "f"})


def _make_checker(attribute: str, translate: Callable[[Arguments], Translation]) -> Checker:
    return Checker(
        name=f"{MODULE}.{attribute}",
        module=MODULE,
        attribute=attribute,
        translate=translate,
        conclude=_conclude,
        has_passed=lambda _: True,  # a wrong derivative raises
        with_zero_gradient=_with_zero_gradient,
    )


# The functions inside `unary_to_nary`, which take a function of one argument and its point.
CHECKERS: tuple[Checker, ...] = (
    _make_checker("check_grads", _translate_grads),
    _make_checker("check_vjp", _translate_vjp),
    _make_checker("check_jvp", _translate_jvp),
)
