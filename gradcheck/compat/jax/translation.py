"""What the calls of JAX's checkers ask for, as calls of `gradcheck.check`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck.compat.answer import MAX_ENTRIES, CheckCall, Translation
from gradcheck.compat.jax import products
from gradcheck.compat.jax.tolerances import find_chosen_tolerance, merge_with_defaults
from gradcheck.run.api import get_target_name

METHODS = {"fwd": "forward", "rev": "reverse"}  # gradcheck's methods for JAX's modes
PUSH_FORWARD = {"fwd": products.push_forward, "lin": products.linearize}
MODES = ("fwd", "rev", "lin")
# JAX compares the outputs of a rule with those of its function, too, and a product that is not linear with differences.
COMMON: Mapping[str, Any] = {"framework": "jax", "contract": ("primal", "linear-vjp", "linear-jvp")}
MAX_ORDER = 3  # of `gradcheck.check`
EPS = 1e-4
STEP_NOTE = "eps={!r} has no meaning: gradcheck fits its step sizes to the function"

Call = Mapping[str, Any]  # the arguments of a checker by name


def translate_grads(call: Call) -> Translation:
    """Return the checks that a call of `check_grads` asks for.

    Raises:
        ValueError: if a mode is unknown, which JAX ignores.
        AssertionError: if the outputs that come with a derivative are not within the tolerances that the call chooses.
    """
    modes = call["modes"]
    if isinstance(modes, str):
        modes = [mode for mode in MODES if mode in modes] or [modes]  # JAX looks for each name inside the string
    for mode in modes:
        if mode not in MODES:
            raise ValueError(f"modes={modes!r}: expected a sequence of {', '.join(map(repr, MODES))}")
    f, args = call["f"], _make_arrays(call["args"])
    translation = _make_translation(call, tuple(_list_checks(f, args, get_target_name(f), call["order"], modes)))
    if not (translation.atol or translation.rtol):
        return translation
    _compare_primal(call, args, modes)
    return replace(translation, checks=tuple(map(_without_primal, translation.checks)))


def translate_jvp(call: Call) -> Translation:
    """Return the check that a call of `check_jvp` asks for.

    Raises:
        AssertionError: if the outputs that come with the tangents are not those of the function.
    """
    args = _make_arrays(call["args"])
    outputs, _ = call["f_jvp"](args, products.fill_tree(args, products.keep_floating(args)))
    _compare_outputs(call, outputs, args)
    return _make_translation(
        call, (_check_claim(call["f"], args, get_target_name(call["f"]), jvp=products.adapt_jvp(call["f_jvp"])),)
    )


def translate_vjp(call: Call) -> Translation:
    """Return the check that a call of `check_vjp` asks for.

    Raises:
        AssertionError: if the outputs that come with the gradients are not those of the function.
        ValueError: if the gradients are no tuple.
    """
    args = _make_arrays(call["args"])
    outputs, pull = call["f_vjp"](*args)
    _compare_outputs(call, outputs, args)
    gradients = pull(products.fill_tree(outputs, products.keep_floating(outputs)))
    if not isinstance(gradients, tuple | list):
        raise ValueError(f"f_vjp: expected a tuple of gradients, one for each argument, got {type(gradients).__name__}")
    return _make_translation(
        call, (_check_claim(call["f"], args, get_target_name(call["f"]), vjp=products.adapt_vjp(call["f_vjp"])),)
    )


def _compare_outputs(call: Call, outputs: Any, args: tuple[Any, ...]) -> None:
    """Compare the outputs that come with a derivative with those of the function, as JAX does."""
    from jax._src.public_test_util import check_close

    tolerances = {name: merge_with_defaults(call[name]) for name in ("atol", "rtol")}
    check_close(outputs, call["f"](*args), **tolerances, err_msg=f"{call.get('err_msg', '')} primal".strip())


def _compare_primal(call: Call, args: tuple[Any, ...], modes: Sequence[str]) -> None:
    """Compare the outputs that come with JAX's own derivatives, within the tolerances of a call, as JAX does."""
    import jax

    if "rev" in modes:
        _compare_outputs(call, jax.vjp(call["f"], *args)[0], args)
    if "fwd" in modes or "lin" in modes:
        tangents = products.fill_tree(args, products.keep_floating(args))
        _compare_outputs(call, jax.jvp(call["f"], args, tangents)[0], args)


def _without_primal(check: CheckCall) -> CheckCall:
    linear = tuple(name for name in COMMON["contract"] if name != "primal")
    arguments = {**check.arguments, "contract": linear, "no_contract": ("primal",)}
    return replace(check, arguments=arguments, parts=tuple(map(_without_primal, check.parts)))


def _make_arrays(args: Sequence[Any]) -> tuple[Any, ...]:
    """Turn the floating Python numbers among some arguments into arrays."""
    import jax

    return tuple(jax.tree.map(lambda x: jax.numpy.asarray(x) if isinstance(x, float | complex) else x, tuple(args)))


def _make_translation(call: Call, checks: tuple[CheckCall, ...]) -> Translation:
    atol, rtol = (find_chosen_tolerance(call[name], call["args"]) for name in ("atol", "rtol"))
    if not (atol or rtol):
        checks = tuple(replace(check, parts=()) for check in checks)
    elif sum(math.prod(np.shape(leaf)) for leaf in products.keep_floating(call["args"])) <= MAX_ENTRIES:
        checks = tuple(map(_compare_every_entry, checks))
    notes = () if call["eps"] in (None, EPS) else (STEP_NOTE.format(call["eps"]),)
    return Translation(checks, atol, rtol, notes)


def _compare_every_entry(check: CheckCall) -> CheckCall:
    arguments = {**check.arguments, "mode": "full"}
    return replace(check, arguments=arguments, parts=tuple(map(_compare_every_entry, check.parts)))


def _list_checks(
    f: products.Function, args: tuple[Any, ...], name: str, order: int, modes: Sequence[str]
) -> Iterator[CheckCall]:
    """List the checks of JAX's derivatives of a function.

    `gradcheck.check` differentiates the vjp again, up to its highest order. Other derivatives of higher orders are those of a
    function that computes a derivative. Each is computed once here, so that exceptions reach the caller as they do in JAX.
    """
    methods = tuple(method for mode, method in METHODS.items() if mode in modes)
    if methods:
        repeated = order if "rev" in modes and order <= MAX_ORDER else 1
        yield _check_orders(f, args, name, max(repeated, 1), methods)
    if "rev" in modes:
        products.pull_back(f, *args)
        if order > MAX_ORDER:
            yield from _list_checks(functools.partial(products.pull_back, f), args, f"vjp of {name}", order - 1, modes)
    for mode, push_forward in PUSH_FORWARD.items():
        if mode in modes:
            tangents = products.keep_floating(args)
            push_forward(f, args, tangents)
            if mode == "lin":
                yield _check_claim(f, args, name, jvp=products.adapt_linearize(f))
            if order > 1 and "rev" not in modes:
                g, inputs = functools.partial(push_forward, f), (args, tangents)
                yield from _list_checks(g, inputs, f"jvp of {name}", order - 1, (mode,))


def _check_orders(f: products.Function, args: tuple[Any, ...], name: str, order: int, methods: tuple[str, ...]) -> CheckCall:
    """Make the check of some orders, with parts for the first derivative, which may be off but tolerated, and for the vjp."""
    arguments = {**COMMON, "name": name, "methods": (*methods, "numeric"), "order": order}
    if order == 1:
        return CheckCall(f, args, arguments)
    first = CheckCall(f, args, {**arguments, "order": 1})
    rest = _check_orders(functools.partial(products.pull_back, f), args, f"vjp of {name}", order - 1, methods)
    return CheckCall(f, args, arguments, (first, rest))


def _check_claim(f: products.Function, args: tuple[Any, ...], name: str, **claim: Callable[..., Any]) -> CheckCall:
    """Make the check of a derivative that is given. JAX's own derivative of the function plays no part in it."""
    import jax

    @functools.wraps(f)
    def without_derivative(*args: Any) -> Any:
        return jax.tree.map(jax.lax.stop_gradient, f(*args))

    return CheckCall(without_derivative, args, {**COMMON, "name": name, "methods": ("analytic", "numeric"), **claim})
