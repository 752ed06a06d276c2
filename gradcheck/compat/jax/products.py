"""JAX's products with a Jacobian as functions of floating arrays alone, and those of a caller for `gradcheck.check`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Function = Callable[..., Any]


def pull_back(f: Function, *args: Any) -> list[Any]:
    """Return the vjp of a function, with its outputs as the cotangents: the floating gradients in a list."""
    import jax

    outputs, pull = jax.vjp(f, *args)
    return keep_floating(pull(fill_tree(outputs, keep_floating(outputs))))


def push_forward(f: Function, args: tuple[Any, ...], tangents: Sequence[Any]) -> list[Any]:
    """Return the jvp of a function: the floating tangents of its outputs in a list.

    Args:
        tangents: one for each floating array among the arguments.
    """
    import jax

    outputs, derivatives = jax.jvp(f, args, fill_tree(args, tangents))
    return _select(outputs, derivatives)


def linearize(f: Function, args: tuple[Any, ...], tangents: Sequence[Any]) -> list[Any]:
    """Return what `push_forward` does, by `jax.linearize`."""
    import jax

    outputs, linear = jax.linearize(f, *args)
    return _select(outputs, linear(*fill_tree(args, tangents)))


def adapt_linearize(f: Function) -> Function:
    """Make `jvp=` of `gradcheck.check` from a function."""
    return lambda tangent, *args: linearize(f, args, keep_floating(tangent))


def adapt_jvp(f_jvp: Function) -> Function:
    """Make `jvp=` of `gradcheck.check` from (arguments, tangents) -> outputs and their tangents."""

    def jvp(tangent: Any, *args: Any) -> list[Any]:
        return _select(*f_jvp(args, fill_tree(args, keep_floating(tangent))))

    return jvp


def adapt_vjp(f_vjp: Function) -> Function:
    """Make `vjp=` of `gradcheck.check` from arguments -> outputs and a function from cotangents to gradients."""

    def vjp(cotangent: Any, *args: Any) -> list[Any]:
        outputs, pull = f_vjp(*args)
        return _select(args, pull(fill_tree(outputs, keep_floating(cotangent))))

    return vjp


def keep_floating(tree: Any) -> list[Any]:
    """Return the floating and complex leaves of a tree."""
    import jax

    return [leaf for leaf in jax.tree.leaves(tree) if _is_floating(leaf)]


def _select(primals: Any, directions: Any) -> list[Any]:
    """Return the tangents or cotangents of the floating leaves of a tree."""
    import jax

    pairs = zip(jax.tree.leaves(primals), jax.tree.leaves(directions), strict=True)
    return [direction for primal, direction in pairs if _is_floating(primal)]


def fill_tree(primals: Any, directions: Sequence[Any]) -> Any:
    """Return a tree of tangents or cotangents: those of the floating leaves are given, all others have the dtype `float0`."""
    import jax
    import numpy as np

    rest = iter(directions)
    return jax.tree.map(lambda x: next(rest) if _is_floating(x) else np.zeros(np.shape(x), jax.dtypes.float0), primals)


def _is_floating(leaf: Any) -> bool:
    from gradcheck.backends.jax.arrays import is_differentiable

    return is_differentiable(leaf) or isinstance(leaf, float | complex)
