"""Derivatives written by hand: what the user's function returned, checked for form and laid out as a flat vector."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.binding import root_of, stem
from gradcheck.backends.flat import F64, Leaf, to_flat
from gradcheck.backends.program import Claim
from gradcheck.errors import ClaimError, DerivativeError
from gradcheck.tracebacks import one_line, user_frames
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Host:
    """What a hand-written derivative needs of a framework.

    Attributes:
        arguments: (N,) -> the call's (args, kwargs), as the user's function takes them.
        cotangent: (M,) -> the outputs' structure.
        tangents: (N,) -> one array per leaf.
        to_numpy: one of the framework's arrays, for a leaf -> NumPy.
        params: (N,) -> a module's parameters by name; None for functions.
    """

    leaves: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    eps: float
    arguments: Callable[[F64], Arguments]
    cotangent: Callable[[F64], Any]
    tangents: Callable[[F64], list[Any]]
    to_numpy: Callable[[Any, Leaf], NDArray[Any]]
    params: Callable[[F64], dict[str, Any]] | None = None


def claim(written: Mapping[str, Callable[..., Any]], host: Host) -> Claim | None:
    """The 'analytic' claim from `gradient`, `jacobian`, `vjp` or `jvp`; None where none was written."""
    makers = {"gradient": _from_gradient, "jacobian": _from_jacobian, "vjp": _from_vjp}
    vjps = [makers[kind](function, host) for kind, function in written.items() if kind in makers]
    jvp = _from_jvp(written["jvp"], host) if "jvp" in written else None
    if not vjps and jvp is None:
        return None
    return Claim("analytic", host.eps, vjps[0] if vjps else None, jvp, linear="vjp" not in written)


def _from_gradient(gradient: Callable[..., Any], host: Host) -> Callable[[F64, F64], F64]:
    size = sum(leaf.entries * leaf.width for leaf in host.outputs)
    if size != 1:
        shapes = ", ".join(f"{leaf.path} of shape {leaf.shape}" for leaf in host.outputs)
        raise ClaimError(f"gradient= is for one real number as output, got {shapes}: use jacobian= or vjp=")

    def vjp(point: F64, cotangents: F64) -> F64:
        returned = _called("gradient", gradient, host, point)
        return cotangents[:, :1] * _flat("gradient", _by_leaf(returned, host.leaves), host.leaves, host)

    return vjp


def _from_vjp(written: Callable[..., Any], host: Host) -> Callable[[F64, F64], F64]:
    def vjp(point: F64, cotangents: F64) -> F64:
        rows = []
        for v in cotangents:
            returned = _called("vjp", written, host, point, host.cotangent(v))
            rows.append(_flat("vjp", _by_leaf(returned, host.leaves), host.leaves, host))
        return np.stack(rows)

    return vjp


def _from_jvp(written: Callable[..., Any], host: Host) -> Callable[[F64, F64], F64]:
    def jvp(point: F64, tangents: F64) -> F64:
        rows = []
        for u in tangents:
            given = host.tangents(u)
            returned = _called("jvp", written, host, point, given[0] if len(given) == 1 else tuple(given))
            rows.append(_flat("jvp", list(flatten(returned, none_is_leaf=True).leaves), host.outputs, host))
        return np.stack(rows)

    return jvp


def _from_jacobian(written: Callable[..., Any], host: Host) -> Callable[[F64, F64], F64]:
    if any(leaf.width == 2 for leaf in (*host.leaves, *host.outputs)):
        raise ClaimError("jacobian= is for real inputs and outputs; use vjp= for complex ones")

    def vjp(point: F64, cotangents: F64) -> F64:
        blocks = _blocks(_called("jacobian", written, host, point), host)
        return np.asarray(cotangents @ np.block(blocks))

    return vjp


def _blocks(returned: Any, host: Host) -> list[list[F64]]:
    rows = [returned] if len(host.outputs) == 1 else _sequence(returned, len(host.outputs), "jacobian", "output")
    blocks = []
    for out, row in zip(host.outputs, rows, strict=True):
        parts = _by_leaf(row, host.leaves)
        _count("jacobian", parts, host.leaves)
        blocks.append([_block(out, leaf, part, host) for leaf, part in zip(host.leaves, parts, strict=True)])
    return blocks


def _block(out: Leaf, leaf: Leaf, part: Any, host: Host) -> F64:
    numbers = _numbers("jacobian", part, leaf, host)
    if numbers.shape not in ((*out.shape, *leaf.shape), (out.entries, leaf.entries)):
        raise ClaimError(
            f"jacobian= returned shape {numbers.shape} for d {out.path} / d {leaf.path}: "
            f"expected {(*out.shape, *leaf.shape)}, the output's shape and then the input's"
        )
    return to_flat(numbers).reshape(out.entries, leaf.entries)


def _sequence(returned: Any, count: int, kind: str, what: str) -> list[Any]:
    items = list(returned.values()) if isinstance(returned, Mapping) else returned
    if not isinstance(items, list | tuple) or len(items) != count:
        got = f"{len(items)} items" if isinstance(items, list | tuple) else type(returned).__name__
        raise ClaimError(f"{kind}= returned {got}: expected a sequence of {count}, one per {what}")
    return list(items)


def _called(kind: str, function: Callable[..., Any], host: Host, point: F64, *first: Any) -> Any:
    """Call the user's derivative; one with an argument `params` is given a module's parameters by name."""
    args, kwargs = host.arguments(point)
    if host.params is not None and "params" in _parameters(function):
        kwargs = {**kwargs, "params": host.params(point)}
    try:
        return function(*first, *args, **kwargs)
    except Exception as error:
        raise DerivativeError(f"{kind}= raised {one_line(error)}", user_frames(error)) from None


def _parameters(function: Callable[..., Any]) -> Sequence[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


def _by_leaf(returned: Any, leaves: tuple[Leaf, ...]) -> list[Any]:
    """The returned arrays in the leaves' order: found by their paths where these are the inputs', else taken in order."""
    roots = list(dict.fromkeys(root_of(leaf.path) for leaf in leaves))
    parts = _by_root(returned, roots, alone=leaves[0].path == roots[0])
    flats = [flatten(part, root, none_is_leaf=True) for root, part in parts.items()]
    found = {_like_an_attribute(path): leaf for flat in flats for path, leaf in zip(flat.paths, flat.leaves, strict=True)}
    wanted = [_like_an_attribute(stem(leaf.path)) for leaf in leaves]
    others = [leaf for path, leaf in found.items() if path not in wanted]
    if found.keys() >= set(wanted) and all(leaf is None for leaf in others):
        return [found[path] for path in wanted]
    return list(found.values()) if len(parts) == len(roots) else list(flatten(returned, none_is_leaf=True).leaves)


def _by_root(returned: Any, roots: list[str], *, alone: bool) -> dict[str, Any]:
    """What was returned for each argument, by its name; {} where its form does not tell.

    Args:
        alone: the first argument is one array, and no tree.
    """
    if isinstance(returned, Mapping) and set(returned) == set(roots):
        return {root: returned[root] for root in roots}
    if len(roots) == 1 and not (isinstance(returned, Mapping) and alone):
        return {roots[0]: returned}
    if isinstance(returned, Mapping):
        got, expected = ", ".join(map(str, returned)), ", ".join(roots)
        raise ClaimError(f"a mapping with the keys {got} was returned: expected the differentiable inputs, {expected}")
    return dict(zip(roots, returned, strict=True)) if isinstance(returned, tuple) and len(returned) == len(roots) else {}


def _like_an_attribute(path: str) -> str:
    """A path that does not tell a key from an attribute: the gradient of a dataclass may come as a dictionary."""
    return re.sub(r"\['([^\W\d]\w*)'\]", r".\1", path)


def _count(kind: str, parts: list[Any], leaves: tuple[Leaf, ...]) -> None:
    if len(parts) != len(leaves):
        names = ", ".join(f"{leaf.path} {leaf.shape}" for leaf in leaves)
        raise ClaimError(f"{kind}= returned {len(parts)} array{'s' * (len(parts) != 1)}: expected {len(leaves)}, for {names}")


def _flat(kind: str, parts: list[Any], leaves: tuple[Leaf, ...], host: Host) -> F64:
    _count(kind, parts, leaves)
    pieces = []
    for part, leaf in zip(parts, leaves, strict=True):
        numbers = _numbers(kind, part, leaf, host)
        if numbers.shape != leaf.shape:
            raise ClaimError(
                f"{kind}= returned shape {numbers.shape} for {leaf.path}: expected {leaf.shape}, the shape of {leaf.path}"
            )
        pieces.append(to_flat(numbers.astype(np.complex128) if leaf.width == 2 else numbers))
    return np.concatenate(pieces)


def _numbers(kind: str, part: Any, leaf: Leaf, host: Host) -> NDArray[Any]:
    if part is None:
        raise ClaimError(
            f"{kind}= returned None for {leaf.path}: expected an array of shape {leaf.shape}; zeros if it has no influence"
        )
    try:
        numbers = np.asarray(host.to_numpy(part, leaf))
    except Exception as error:
        raise ClaimError(
            f"{kind}= returned {type(part).__name__} for {leaf.path}: expected an array ({one_line(error)})"
        ) from None
    allowed = "ifc" if leaf.width == 2 else "if"
    if numbers.dtype.kind not in allowed:
        raise ClaimError(f"{kind}= returned dtype {numbers.dtype} for {leaf.path}: expected {leaf.dtype}")
    return numbers
