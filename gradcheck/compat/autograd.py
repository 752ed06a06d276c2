"""HIPS autograd's checkers, answered by gradcheck.

Change `from autograd.test_util import check_grads` to `from gradcheck.compat.autograd import check_grads`. The functions have
the arguments of the originals.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcheck.compat.answer import Answer, CheckCall, Translation, ask, has_lost_its_value, passes
from gradcheck.compat.checker import Arguments, Checker
from gradcheck.glossary.verdicts import Verdict

if TYPE_CHECKING:
    from gradcheck.results import CheckResult

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
        for values in itertools.product(*args_lists, *kwargs_lists.values()):
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
    """Raise an AssertionError, whose message starts as autograd's does, unless the answer counts as passed."""
    if has_lost_its_value(answer) or not passes(answer, stacklevel=stacklevel):
        failed = next((result for result in answer.results if not result.ok), None)
        raise AssertionError(f"Derivative {'check' if failed is None else _name_check(failed)} failed\n{answer.describe()}")


def _name_check(failed: CheckResult) -> str:
    """Name a check that failed as autograd does: '(VJP) check of f'."""
    methods = {row.method for row in failed.comparisons if row.verdict is Verdict.FAIL}
    product = "JVP" if "forward" in methods else "VJP"
    return failed.case.replace("(JVP, VJP)", f"({product})")


def _bind_unary(f: Function, x: Any, modes: Sequence[str] = MODES, order: int = 2) -> tuple[Function, Any, Sequence[str], int]:
    return f, x, modes, order


def _translate(f: Function, x: Any, modes: Sequence[str], order: int) -> Translation:
    """Return the checks that a call asks for.

    For higher orders, the function and its derivatives become one function, whose derivatives are checked. Each derivative is
    computed once here, so that exceptions reach the caller as they do in autograd.
    """
    from autograd.wrap_util import get_name

    for mode in modes:
        if mode not in MODES:
            raise AssertionError(f"modes={modes!r}: expected a list of 'fwd' and 'rev'")
    products = [product for mode, product in PRODUCTS.items() if mode in modes]
    with _drawing_alone():
        return Translation(_list_checks(f, _make_arrays(x), get_name(f), products, order))


@contextmanager
def _drawing_alone() -> Iterator[None]:
    """Seed NumPy's global generator, from which autograd draws, and restore it on exit."""
    import numpy as np

    from gradcheck.backends.global_state import preserving

    with preserving():
        np.random.seed(0)
        yield


def _list_checks(f: Function, x: Any, name: str, products: Sequence[_Product], order: int) -> tuple[CheckCall, ...]:
    """Make one check. Each product is computed once, so that exceptions reach the caller as in autograd.

    For higher orders, a function and its derivatives become one function, whose derivatives are checked; the parts of such a
    check are those of each alone.
    """
    if not products:
        return ()
    check = _make_check(f, x, name, products)
    for _ in range(order - 1):
        derivatives = [product.make_function(f) for product in products]
        point = (x, *(product.draw_direction(f, x) for product in products))
        names = [f"{product.name}_{name}" for product in products]
        joined = _join(f, derivatives)
        name = f"({', '.join([name, *(f'its {product.name}' for product in products)])})"
        pairs = zip(derivatives, point[1:], names, strict=True)
        parts = (check, *(_make_check(g, (x, v), label, products) for g, v, label in pairs))
        f, x = joined, point
        check = _make_check(f, x, name, products, parts)
    for product in products:
        product.evaluate(f, x, product.draw_direction(f, x))
    return (check,)


def _make_check(f: Function, x: Any, name: str, products: Sequence[_Product], parts: tuple[CheckCall, ...] = ()) -> CheckCall:
    """Make the check of some products of a function, which share the evidence."""
    claims = {product.name: product.make_claim(f) for product in products}
    methods = ("analytic", *["forward"] * (len(claims) > 1), "numeric")
    label = f"({', '.join(claims).upper()}) check of {name}"
    # Nonlinear products can be right along the directions that are compared. Of further contracts autograd checks none.
    linear = {"contracts": False, "contract": tuple(f"linear-{product}" for product in claims)}
    arguments = {"framework": "numpy", "methods": methods, "name": label, **linear, **claims}
    return CheckCall(lambda x: f(x), (x,), arguments, parts)


def _join(f: Function, derivatives: Sequence[Function]) -> Function:
    """Return (x, directions) -> (f(x), derivatives), each derivative along a direction of its own."""
    from autograd.builtins import tuple as traced_tuple

    def joined(inputs: Any) -> Any:
        return traced_tuple([f(inputs[0]), *(g((inputs[0], inputs[i])) for i, g in enumerate(derivatives, start=1))])

    return joined


def _push_forward(f: Function, x: Any, tangent: Any) -> Any:
    """Return autograd's jvp of a function."""
    from autograd.core import make_jvp

    return make_jvp(f, x)(tangent)[1]


def _pull_back(f: Function, x: Any, cotangent: Any) -> Any:
    """Return autograd's vjp of a function, in autograd's convention for complex numbers."""
    from autograd.core import make_vjp

    return make_vjp(f, x)[0](cotangent)


def _claim_jvp(f: Function) -> Callable[[Any, Any], Any]:
    """Make `jvp=` of `gradcheck.check`."""
    return lambda tangent, x: _push_forward(f, x, tangent)


def _claim_vjp(f: Function) -> Callable[[Any, Any], Any]:
    """Make `vjp=` of `gradcheck.check`."""
    from autograd.core import vspace

    def vjp(cotangent: Any, x: Any) -> Any:
        gradient = _pull_back(f, x, vspace(cotangent).covector(cotangent))
        if vspace(gradient) != vspace(x):
            raise TypeError(f"the vjp is in {vspace(gradient)}, and its input in {vspace(x)}")
        return vspace(x).covector(gradient)

    return vjp


@dataclass(frozen=True)
class _Product:
    """A product with the Jacobian of a function.

    Attributes:
        name: 'jvp' or 'vjp'.
        evaluate: takes the function, a point and a tangent or cotangent.
        make_claim: takes the function; returns what `gradcheck.check` takes by this name.
        find_space: takes the function and a point; returns a value of the kind that the tangents or cotangents are.
    """

    name: str
    evaluate: Callable[[Function, Any, Any], Any]
    make_claim: Callable[[Function], Callable[[Any, Any], Any]]
    find_space: Callable[[Function, Any], Any]

    def draw_direction(self, f: Function, x: Any) -> Any:
        """Draw a tangent or cotangent from NumPy's global generator."""
        from autograd.core import vspace

        return vspace(self.find_space(f, x)).randn()

    def make_function(self, f: Function) -> Function:
        """Return (point, direction) -> product, as a function of a pair."""
        return lambda pair: self.evaluate(f, pair[0], pair[1])


PRODUCTS = {
    "fwd": _Product("jvp", _push_forward, _claim_jvp, lambda f, x: x),
    "rev": _Product("vjp", _pull_back, _claim_vjp, lambda f, x: f(x)),
}


def _make_arrays(x: Any) -> Any:
    """Turn the Python numbers of a structure into NumPy's, which are floats too, and which gradcheck differentiates."""
    import numpy as np

    from gradcheck.trees import tree_map

    return tree_map(lambda leaf: np.asarray(leaf)[()] if isinstance(leaf, float | complex) else leaf, x)


def _with_zero_gradient(arguments: Arguments) -> Arguments:
    """Replace the function by a primitive of the same value whose derivative is zero."""
    from autograd.core import defjvp, defvjp, vspace
    from autograd.extend import primitive

    args, kwargs = arguments
    f = args[0] if args else kwargs["f"]
    constant = primitive(lambda x: f(x))
    defvjp(constant, lambda ans, x: lambda g: vspace(x).zeros())
    defjvp(constant, lambda g, ans, x: vspace(ans).zeros())
    return ((constant, *args[1:]), kwargs) if args else ((), {**kwargs, "f": constant})


def _make_checker(attribute: str, modes: Sequence[str] = ()) -> Checker:
    """Make the description of a checker for a takeover: of one that checks first derivatives in some modes, or of any order."""

    def translate(arguments: Arguments) -> Translation:
        f, x, chosen_modes, order = _bind_unary(*arguments[0], **arguments[1])
        return _translate(f, x, modes or chosen_modes, 1 if modes else order)

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
    _make_checker("check_grads"),
    _make_checker("check_vjp", ("rev",)),
    _make_checker("check_jvp", ("fwd",)),
)
