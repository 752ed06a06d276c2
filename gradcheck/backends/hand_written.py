"""Derivatives written by hand: what the user's function returns, checked for its form and laid out as a flat vector."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat import F64, Leaf, to_flat
from gradcheck.backends.flat_call import FlatCall, array_path, flatten_arguments, root_of
from gradcheck.backends.forms.backward_call import CACHE_NAMES
from gradcheck.backends.forms.gradient_names import match_mapping
from gradcheck.backends.global_state import replaying
from gradcheck.backends.program import DIRECTION, Arguments, Claim, DirectCall
from gradcheck.backends.user_code import call_derivative, find_changed_arrays
from gradcheck.errors import ClaimError
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.global_state import States
    from gradcheck.targets.case import Case

NO_LEAF = Leaf("", (), "float64", 0)  # of an argument that is not differentiated


@dataclass(frozen=True)
class Adapter:
    """The conversions between flat vectors and the arrays of a framework that a hand-written derivative is called with.

    Attributes:
        call: the flat call.
        leaves: the differentiable inputs.
        outputs: the differentiable outputs.
        eps: relative spacing of floats in the dtype that the derivative computes in.
        arguments: point (N,) -> the call's (args, kwargs), as the user's function takes them.
        cotangent: cotangent (M,) -> arrays in the structure of what the target returns.
        tangents: tangent (N,) -> one array per leaf.
        to_numpy: (array of the framework, its leaf) -> array of NumPy.
        paths: of every leaf of the arguments.
        params: point (N,) -> a module's parameters by name; None for functions.
        rebuild: every leaf of the call, maybe traced -> the call's (args, kwargs, params); None if they cannot be traced.
        rebuild_outputs: one array for each output, maybe traced -> the structure of what the target returns.
    """

    call: FlatCall
    leaves: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    eps: float
    arguments: Callable[[F64], Arguments]
    cotangent: Callable[[F64], Any]
    tangents: Callable[[F64], list[Any]]
    to_numpy: Callable[[Any, Leaf], NDArray[Any]]
    paths: tuple[str, ...]
    params: Callable[[F64], dict[str, Any]] | None = None
    rebuild: Callable[[Sequence[Any]], tuple[Any, Any, Any]] | None = None
    rebuild_outputs: Callable[[Sequence[Any]], Any] | None = None


def replay_draws(case: Case, draws: States) -> Case:
    """Return a case whose hand-written derivatives draw the random numbers that the function drew."""
    return replace(case, claims={kind: replaying(function, draws) for kind, function in case.claims.items()})


def make_claims(functions: Mapping[str, Callable[..., Any]], adapter: Adapter) -> tuple[Claim, ...]:
    """Make the claims from what the user gave: 'analytic', and 'forward' for a `jvp` that is given with another derivative.

    Args:
        functions: the user's, by the name of the option.
        adapter: of the framework.

    Raises:
        ClaimError: if the form does not fit the inputs and outputs.
    """
    claims: list[Claim] = []
    for kind, function in sorted(functions.items(), key=lambda item: item[0] == "jvp"):
        call = _make_direct_call(kind, function, adapter)
        product = _make_product(call, adapter)
        vjp, jvp = (None, product) if kind == "jvp" else (product, None)
        name = "forward" if claims else "analytic"
        joint = _make_joint(call, adapter)
        claims.append(Claim(name, adapter.eps, vjp, jvp, linear=kind != "vjp", direct_calls=(call,), joint=joint))
    return tuple(claims)


def _make_product(call: DirectCall, adapter: Adapter) -> Callable[[F64, F64], F64]:
    """Make the vjp of a gradient, a Jacobian or a vjp, or the jvp of a jvp: (point, directions (K, ...)) -> (K, ...)."""
    if call.kind == "gradient":
        return lambda point, cotangents: cotangents[:, :1] * call.evaluate(point, cotangents[0])
    if call.kind == "jacobian":
        shape = (sum(leaf.entries for leaf in adapter.outputs), sum(leaf.entries for leaf in adapter.leaves))
        return lambda point, cotangents: np.asarray(cotangents @ call.evaluate(point, cotangents[0]).reshape(shape))
    return lambda point, directions: np.stack([call.evaluate(point, direction) for direction in directions])


def _make_direct_call(kind: str, function: Callable[..., Any], adapter: Adapter) -> DirectCall:
    """Check that the form fits the inputs and outputs, and make the call.

    Raises:
        ClaimError: if the form does not fit.
    """
    _refuse_unfit_form(kind, adapter)
    label = getattr(function, "label", f"{kind}=")
    takes_params = adapter.params is not None and "params" in _parameter_names(function)

    def make_arguments(point: F64, direction: F64) -> Arguments:
        args, kwargs = adapter.arguments(point)
        if takes_params and adapter.params is not None:
            kwargs = {**kwargs, "params": adapter.params(point)}
        return (*_leading_arguments(kind, direction, adapter), *args), kwargs

    def call(arguments: Arguments) -> Any:
        args, kwargs = arguments
        return call_derivative(label, function, args, kwargs, lambda error: _advise_on_cache(kind, function, error))

    def read(returned: Any) -> F64:
        if kind == "jacobian":
            return np.ravel(np.block(_read_blocks(returned, adapter)))
        leaves = adapter.outputs if kind == "jvp" else adapter.leaves
        return _flatten_gradients(label, returned, _list_parts(kind, returned, adapter), leaves, adapter)

    def find_changed(arguments: Arguments, point: F64, direction: F64) -> list[str]:
        args, kwargs = adapter.arguments(point)
        leading = _leading_arguments(kind, direction, adapter)
        paths = [*(DIRECTION for x in leading for _ in flatten(x).leaves), *adapter.paths]
        pairs = zip(paths, *map(flatten_arguments, (((*leading, *args), kwargs), arguments)), strict=False)
        arrays = [(path, before, after) for path, before, after in pairs if hasattr(before, "shape")]
        before, after = ([adapter.to_numpy(pair[k], NO_LEAF) for pair in arrays] for k in (1, 2))
        return find_changed_arrays(tuple(path for path, _, _ in arrays), before, after)

    return DirectCall(kind, function, make_arguments, call, read, find_changed, int(kind in ("vjp", "jvp")))


def _make_joint(call: DirectCall, adapter: Adapter) -> Callable[[Sequence[Any], Sequence[Any]], list[Any]] | None:
    """Make the function that calls a derivative with traced arrays, if the adapter takes them; see `Claim.joint`."""
    rebuild, rebuild_outputs = adapter.rebuild, adapter.rebuild_outputs
    if rebuild is None or rebuild_outputs is None:
        return None

    def evaluate(leaves: Sequence[Any], vectors: Sequence[Any]) -> list[Any]:
        args, kwargs, params = rebuild(leaves)
        traced = replace(
            adapter,
            arguments=lambda _: (args, kwargs),
            params=adapter.params and (lambda _: params),
            cotangent=lambda _: rebuild_outputs(vectors),
            tangents=lambda _: list(vectors),
        )
        args, kwargs = _make_direct_call(call.kind, call.function, traced).make_arguments(np.empty(0), np.empty(0))
        return _combine_parts(call.kind, call.function(*args, **kwargs), vectors, adapter)

    return evaluate


def _combine_parts(kind: str, returned: Any, vectors: Sequence[Any], adapter: Adapter) -> list[Any]:
    """Return the vjp or jvp that a derivative claims, one array for each leaf, or for each output of a `jvp`."""
    if kind == "gradient":
        return [vectors[0].reshape(()) * part for part in _list_parts(kind, returned, adapter)]
    if kind != "jacobian":
        return _list_parts(kind, returned, adapter)
    rows = [returned] if len(adapter.outputs) == 1 else _as_sequence(returned, len(adapter.outputs), "jacobian=", "output")
    totals: list[Any] = [0] * len(adapter.leaves)
    for g, row in zip(vectors, rows, strict=True):
        for k, (leaf, block) in enumerate(zip(adapter.leaves, _match_to_leaves(row, adapter.leaves), strict=True)):
            totals[k] = totals[k] + (g.reshape((1, -1)) @ block.reshape((-1, leaf.entries))).reshape(leaf.shape)
    return totals


def _list_parts(kind: str, returned: Any, adapter: Adapter) -> list[Any]:
    """Return what a derivative returned as one array for each leaf, or for each output of a `jvp`."""
    return list(flatten(returned, none_is_leaf=True).leaves) if kind == "jvp" else _match_to_leaves(returned, adapter.leaves)


def _advise_on_cache(kind: str, function: Callable[..., Any], error: BaseException) -> str:
    """Say which option takes a backward with a cache, if a vjp has a parameter for one."""
    is_misplaced = kind == "vjp" and isinstance(error, TypeError)
    takes_cache = is_misplaced and any(CACHE_NAMES.search(name) for name in _parameter_names(function))
    return "; a backward that takes the cache of its forward is given as backward=" if takes_cache else ""


def _refuse_unfit_form(kind: str, adapter: Adapter) -> None:
    """Raise a ClaimError if a gradient or a Jacobian does not fit the outputs."""
    size = sum(leaf.entries * leaf.width for leaf in adapter.outputs)
    if kind == "gradient" and size != 1:
        shapes = ", ".join(f"{leaf.path} of shape {leaf.shape}" for leaf in adapter.outputs)
        alone = len(adapter.outputs) > 1 and adapter.outputs[0].entries * adapter.outputs[0].width == 1
        path = adapter.outputs[0].path
        advice = f"check {path} alone, as in lambda *x: f(*x)[0], or say gradient='returned' if the rest is its gradient, or "
        advice = advice if alone else ""
        raise ClaimError(f"gradient= is for one real number as output, got {shapes}: {advice}use jacobian= or vjp=")
    if kind == "jacobian" and any(leaf.width == 2 for leaf in (*adapter.leaves, *adapter.outputs)):
        raise ClaimError("jacobian= is for real inputs and outputs; use vjp= for complex ones")


def _leading_arguments(kind: str, direction: F64, adapter: Adapter) -> tuple[Any, ...]:
    """Return the arguments before those of the call: the cotangent of a vjp, the tangents of a jvp."""
    if kind == "vjp":
        return (adapter.cotangent(direction),)
    if kind == "jvp":
        tangents = _build_tangents(adapter, direction)
        return (tangents[0] if len(tangents) == 1 else tuple(tangents),)
    return ()


def _build_tangents(adapter: Adapter, u: F64) -> list[Any]:
    """Build the tangent of each differentiable argument, in its own structure; those of parameters are a mapping by name.

    Leaves that are not differentiated are None.
    """
    tangents = {array_path(leaf.path): t for leaf, t in zip(adapter.leaves, adapter.tangents(u), strict=True)}
    flats = [
        flat for flat in (*adapter.call.positional, *adapter.call.named.values()) if not tangents.keys().isdisjoint(flat.paths)
    ]
    trees = [flat.rebuild([tangents.pop(path, None) for path in flat.paths]) for flat in flats]
    parameters = {ast.literal_eval(path.removeprefix("params[").removesuffix("]")): t for path, t in tangents.items()}
    return [*trees, parameters] if parameters else trees


def _read_blocks(returned: Any, adapter: Adapter) -> list[list[F64]]:
    rows = [returned] if len(adapter.outputs) == 1 else _as_sequence(returned, len(adapter.outputs), "jacobian=", "output")
    blocks = []
    for out, row in zip(adapter.outputs, rows, strict=True):
        parts = _match_to_leaves(row, adapter.leaves)
        _check_count("jacobian=", row, parts, adapter.leaves)
        blocks.append([_read_block(out, leaf, part, adapter) for leaf, part in zip(adapter.leaves, parts, strict=True)])
    return blocks


def _read_block(out: Leaf, leaf: Leaf, part: Any, adapter: Adapter) -> F64:
    numbers = _read_numbers("jacobian=", part, leaf, adapter)
    if numbers.shape not in ((*out.shape, *leaf.shape), (out.entries, leaf.entries)):
        raise ClaimError(
            f"jacobian= returned shape {numbers.shape} for d {out.path} / d {leaf.path}: "
            f"expected {(*out.shape, *leaf.shape)}, the output's shape and then the input's"
        )
    return to_flat(numbers).reshape(out.entries, leaf.entries)


def _as_sequence(returned: Any, count: int, label: str, what: str) -> list[Any]:
    items = list(returned.values()) if isinstance(returned, Mapping) else returned
    if not isinstance(items, list | tuple) or len(items) != count:
        got = f"{len(items)} items" if isinstance(items, list | tuple) else type(returned).__name__
        raise ClaimError(f"{label} returned {got}: expected a sequence of {count}, one per {what}")
    return list(items)


def _parameter_names(function: Callable[..., Any]) -> Sequence[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


def _match_to_leaves(returned: Any, leaves: tuple[Leaf, ...]) -> list[Any]:
    """Return the user's arrays in the order of the leaves: by path if their paths are those of the inputs, else in order."""
    roots = list(dict.fromkeys(root_of(leaf.path) for leaf in leaves))
    parts = _split_by_argument(returned, roots, alone=leaves[0].path == roots[0])
    flats = [flatten(part, root, none_is_leaf=True) for root, part in parts.items()]
    by_path = {_key_as_attribute(path): leaf for flat in flats for path, leaf in zip(flat.paths, flat.leaves, strict=True)}
    expected = [_key_as_attribute(array_path(leaf.path)) for leaf in leaves]
    others = [leaf for path, leaf in by_path.items() if path not in expected]
    if by_path.keys() >= set(expected) and all(leaf is None for leaf in others):
        return [by_path[path] for path in expected]
    return list(by_path.values()) if len(parts) == len(roots) else list(flatten(returned, none_is_leaf=True).leaves)


def _split_by_argument(returned: Any, roots: list[str], *, alone: bool) -> dict[str, Any]:
    """Split what was returned into parts by argument name; {} if its form does not say which part belongs to which argument.

    Args:
        returned: by the user's derivative.
        roots: names of the differentiable arguments.
        alone: whether the first argument is one array, not a tree.

    Raises:
        ClaimError: if a mapping has other keys than the arguments.
    """
    if isinstance(returned, Mapping) and set(returned) == set(roots):
        return {root: returned[root] for root in roots}
    if len(roots) == 1 and not (isinstance(returned, Mapping) and alone):
        return {roots[0]: returned}
    if isinstance(returned, Mapping):
        matched = match_mapping(returned, [(root, None) for root in roots])  # `dw` means `w`
        if matched is not None:
            return dict(zip(roots, matched, strict=True))
        got, expected = ", ".join(map(str, returned)), ", ".join(roots)
        raise ClaimError(f"a mapping with the keys {got} was returned: expected the differentiable inputs, {expected}")
    return dict(zip(roots, returned, strict=True)) if isinstance(returned, tuple) and len(returned) == len(roots) else {}


def _key_as_attribute(path: str) -> str:
    """Write a key in a path as an attribute: the gradient of a dataclass may come as a dictionary."""
    return re.sub(r"\['([^\W\d]\w*)'\]", r".\1", path)


def _describe_unmatched_keys(returned: Any, leaves: tuple[Leaf, ...]) -> str:
    """Name the keys that were returned for no input, and the inputs without a key; '' if what was returned has no keys.

    With one argument, the keys are those of the argument; with several, each has its name or its place in front.
    """
    roots = list(dict.fromkeys(root_of(leaf.path) for leaf in leaves))
    by_name = isinstance(returned, Mapping)
    fronts = {root: (f"[{root!r}]" if by_name else f"[{i}]") if len(roots) > 1 else "" for i, root in enumerate(roots)}
    expected = {fronts[root_of(leaf.path)] + leaf.path.removeprefix(root_of(leaf.path)): leaf.path for leaf in leaves}
    paths = flatten(returned, none_is_leaf=True).paths
    if not any("['" in path for path in paths):
        return ""
    superfluous = [path for path in paths if path not in expected]
    missing = [path for key, path in expected.items() if key not in paths]
    return "".join(
        f"; {what}: {', '.join(names)}"
        for what, names in (("no input has the keys", superfluous), ("missing", missing))
        if names
    )


def _check_count(label: str, returned: Any, parts: list[Any], leaves: tuple[Leaf, ...]) -> None:
    if len(parts) != len(leaves):
        names = ", ".join(f"{leaf.path} {leaf.shape}" for leaf in leaves)
        got = ", ".join(str(tuple(np.shape(part))) for part in parts)
        counts = f"returned {len(parts)} array{'s' * (len(parts) != 1)} of shape {got}: expected {len(leaves)}, for {names}"
        with_value = label == "gradient=" and len(parts) == len(leaves) + 1 and np.shape(parts[0]) == () != leaves[0].shape
        advice = "; return the gradient alone, without the value" if with_value else ""
        (root, *others) = dict.fromkeys(root_of(leaf.path) for leaf in leaves)
        if len(parts) == 1 and not others and all(leaf.path.startswith(f"{root}[") and not leaf.shape for leaf in leaves):
            advice = f"; {root} is a list of numbers: pass np.array({root}) for one array"
        raise ClaimError(f"{label} {counts}{_describe_unmatched_keys(returned, leaves)}{advice}")


def _flatten_gradients(label: str, returned: Any, parts: list[Any], leaves: tuple[Leaf, ...], adapter: Adapter) -> F64:
    _check_count(label, returned, parts, leaves)
    pieces = []
    for part, leaf in zip(parts, leaves, strict=True):
        numbers = _read_numbers(label, part, leaf, adapter)
        if numbers.shape != leaf.shape:
            raise ClaimError(
                f"{label} returned shape {numbers.shape} for {leaf.path}: expected {leaf.shape}, the shape of {leaf.path}"
            )
        pieces.append(to_flat(numbers.astype(np.complex128) if leaf.width == 2 else numbers))
    return np.concatenate(pieces)


def _read_numbers(label: str, part: Any, leaf: Leaf, adapter: Adapter) -> NDArray[Any]:
    if part is None:
        raise ClaimError(
            f"{label} returned None for {leaf.path}: expected an array of shape {leaf.shape}; zeros if it has no influence"
        )
    try:
        numbers = np.asarray(adapter.to_numpy(part, leaf))
    except Exception as error:
        raise ClaimError(
            f"{label} returned {type(part).__name__} for {leaf.path}: expected an array ({summarise_error(error)})"
        ) from None
    allowed = "ifc" if leaf.width == 2 else "if"
    if numbers.dtype.kind not in allowed:
        raise ClaimError(f"{label} returned dtype {numbers.dtype} for {leaf.path}: expected {leaf.dtype}")
    return numbers
