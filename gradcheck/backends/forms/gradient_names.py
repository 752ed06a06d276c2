"""Gradients as people return them, matched with the inputs that they belong to: by name, by order, or by shape."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.backends.forms.gradient_words import (
    CLOSE,
    QUOTES,
    NamedValues,
    describe_count,
    describe_match,
    describe_unknown_keys,
    describe_unlooked,
    holder_of,
    last_name_of,
    list_inputs,
    name_source,
    strip_marks,
)
from gradcheck.errors import ClaimError
from gradcheck.trees import flatten


@dataclass(frozen=True)
class GradientPlan:
    """Where the gradient of each input is among the arrays that a hand-written derivative returns.

    Attributes:
        paths: of the inputs that the derivative is checked for, in the order of the call.
        shapes: the shape of each input.
        sources: the path of each input's gradient among what is returned; None: there is none, which counts as zero.
        is_flat: whether one vector holds all gradients, one after the other.
        notes: how the gradients were matched, for the report.
        unlooked: gradients that were returned and not compared, although they may be those of inputs; '' if there are none.
    """

    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    sources: tuple[str | None, ...]
    is_flat: bool = False
    notes: tuple[str, ...] = ()
    unlooked: str = ""

    def arrange(self, returned: Any, label: str) -> tuple[Any, ...]:
        """Return the gradients in the order of the inputs.

        Raises:
            ClaimError: if what is returned has another form than in the first call.
        """
        if self.is_flat:
            return self._split(returned, label)
        found = dict(_list_gradients(returned))
        missing = [source for source in self.sources if source is not None and source not in found]
        if missing:
            raise ClaimError(
                f"{label} returned no {name_source(missing[0])} in a later call: expected the form of the first call"
            )
        pairs = zip(self.sources, self.shapes, strict=True)
        return tuple(np.zeros(shape) if source is None else found[source] for source, shape in pairs)

    def select(self, paths: Sequence[str]) -> GradientPlan:
        """Return the plan for some of the inputs."""
        places = [self.paths.index(path) for path in paths]
        return replace(
            self,
            paths=tuple(paths),
            shapes=tuple(self.shapes[i] for i in places),
            sources=tuple(self.sources[i] for i in places),
            notes=(),
        )

    def _split(self, returned: Any, label: str) -> tuple[Any, ...]:
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        vector = returned.reshape(-1)
        if vector.shape != (sum(sizes),):
            raise ClaimError(
                f"{label} returned {vector.shape[0]} numbers in a later call: expected {sum(sizes)}, as in the first"
            )
        ends = np.cumsum(sizes)
        return tuple(vector[end - n : end].reshape(s) for end, n, s in zip(ends, sizes, self.shapes, strict=True))


def plan_gradients(returned: Any, inputs: NamedValues, label: str, *, complete: bool) -> GradientPlan:
    """Match what a derivative returns with the inputs of the function.

    Args:
        returned: one array, a tuple, a mapping, or a tree of them.
        inputs: path and value of each input that can be differentiated.
        label: the derivative, as messages call it: 'backward='.
        complete: whether every input that is an array of its own needs a gradient.

    Raises:
        ClaimError: if the match is not clear; the message names what is missing or superfluous.
    """
    gradients = _list_gradients(returned)
    _require_arrays(gradients, returned, inputs, label)
    named = {path: value for path, value in gradients if last_name_of(path)}
    by_name, unmatched = _match_names(named, inputs)
    is_none = {path for path, source in by_name.items() if named[source] is None}
    matched: dict[str, str | None] = {path: source for path, source in by_name.items() if path not in is_none}
    rest = [(path, value) for path, value in gradients if not last_name_of(path) and not (named and value is None)]
    if named and not by_name and not rest:
        raise ClaimError(describe_unknown_keys(named, inputs, label))
    remaining = [(path, value) for path, value in inputs if path not in by_name]
    _refuse_misspelt_keys(unmatched, remaining, label)
    if not rest:
        missing = [(path, value) for path, value in remaining if complete and _is_alone(path, value)]
        if missing:
            unknown = f"; {', '.join(map(name_source, unmatched))}: no input has this name" if unmatched else ""
            raise ClaimError(f"{label} returned no gradient for {list_inputs(missing)}{unknown}")
        return _plan_by_name(matched, unmatched, gradients, inputs, is_none)
    if not named and len(rest) == 1 and _is_flat_vector(rest[0][1], remaining):
        shapes = tuple(np.shape(value) for _, value in remaining)
        note = f"the gradient is one vector: {list_inputs(remaining)}, in this order"
        return GradientPlan(tuple(path for path, _ in remaining), shapes, (None,) * len(shapes), is_flat=True, notes=(note,))
    rest, notes = (rest, ()) if complete else _leave_out_numbers(rest, remaining)
    by_order, remarks = _match_order(rest, remaining, label, complete=complete)
    return _make_plan({**matched, **by_order}, inputs, gradients, unmatched, (*notes, *remarks))


def match_mapping(returned: Mapping[Any, Any], inputs: NamedValues) -> list[Any] | None:
    """Return the gradients in a mapping in the order of the inputs, by name; None if an input or a gradient is left over."""
    found = dict(_list_gradients(returned))
    matched, unmatched = _match_names(found, inputs)
    return [found[matched[path]] for path, _ in inputs] if len(matched) == len(inputs) and not unmatched else None


def refuse_fixed_inputs(returned: Any, fixed: Mapping[str, Any], label: str) -> None:
    """Refuse a gradient whose name is that of an input that is no floating-point array, so that it cannot be moved.

    Args:
        returned: by the derivative.
        fixed: path and value of each input that is not differentiable.
        label: the derivative, as messages call it.

    Raises:
        ClaimError: with what the input is.
    """
    for source, value in _list_gradients(returned):
        name = last_name_of(source)
        for path, x in fixed.items() if name and value is not None else ():
            if last_name_of(path) in strip_marks(name) and (np.shape(x) == np.shape(value) or isinstance(x, list)):
                kind = f"an array of {x.dtype}" if hasattr(type(x), "dtype") else f"a {type(x).__name__}"
                raise ClaimError(
                    f"{label} returned a gradient for {path}, which is {kind}: only floating-point arrays can be moved; make it"
                    " one, as in np.asarray(..., dtype=float)"
                )


def _plan_by_name(
    by_name: dict[str, str | None], unmatched: list[str], gradients: NamedValues, inputs: NamedValues, is_none: set[str]
) -> GradientPlan:
    """Plan gradients that are matched by name alone.

    If a sister of an input with a gradient has none, it counts as zero, unless None was returned for it.
    """
    holders = {holder_of(path) for path in by_name if holder_of(path)}
    others = [(path, value) for path, value in inputs if path not in by_name and path not in is_none]
    sisters = [path for path, value in others if holder_of(path) in holders and _is_array(value)]
    notes = (f"{', '.join(sisters)}: no gradient counts as zero; name the others in wrt= to leave it out",) if sisters else ()
    return _make_plan({**by_name, **dict.fromkeys(sisters)}, inputs, gradients, unmatched, notes)


def _make_plan(
    matched: Mapping[str, str | None],
    inputs: NamedValues,
    gradients: NamedValues,
    unmatched: Sequence[str],
    notes: tuple[str, ...],
) -> GradientPlan:
    chosen = [(path, np.shape(value), matched[path]) for path, value in inputs if path in matched]
    paths, shapes, sources = zip(*chosen, strict=True)
    without = [(path, value) for path, value in inputs if path not in matched and _is_array(value)]
    described = (*describe_match(matched, without, unmatched), *notes)
    return GradientPlan(
        paths, shapes, sources, notes=described, unlooked=describe_unlooked(matched, without, unmatched, gradients)
    )


def _list_gradients(returned: Any) -> list[tuple[str, Any]]:
    """Return path and value of each gradient; a list of plain numbers is one array."""
    flat = flatten(_join_numbers(returned), none_is_leaf=True)
    return list(zip(flat.paths, flat.leaves, strict=True))


def _join_numbers(returned: Any) -> Any:
    """Replace each list of plain numbers in a tree by an array."""
    if isinstance(returned, list) and returned and all(isinstance(x, float | int) for x in flatten(returned).leaves):
        return np.asarray(returned, dtype=float)
    if type(returned) in (tuple, list):
        return tuple(map(_join_numbers, returned))
    return {key: _join_numbers(value) for key, value in returned.items()} if type(returned) is dict else returned


def _require_arrays(gradients: NamedValues, returned: Any, inputs: NamedValues, label: str) -> None:
    """Refuse what holds no gradient, or something else than arrays and numbers.

    Raises:
        ClaimError: with what was returned.
    """
    other = next((x for _, x in gradients if not (x is None or hasattr(type(x), "shape") or isinstance(x, float | int))), None)
    if other is not None:
        raise ClaimError(f"{label} returned a {type(other).__name__}: expected arrays, one for each of {list_inputs(inputs)}")
    if all(value is None for _, value in gradients):
        got = "None" if returned is None else f"{type(returned).__name__} without an array"
        raise ClaimError(f"{label} returned {got}: expected a gradient for {list_inputs(inputs)}")


def _keys(path: str) -> str:
    """Return the keys in a path, with dots in between: `params.0` for `params[0]`."""
    return ".".join(re.findall(r"\w+", path))


def _match_names(gradients: Mapping[str, Any], inputs: NamedValues) -> tuple[dict[str, str], list[str]]:
    """Return the source of each input whose name a gradient has, and the sources that match no input."""
    matched: dict[str, str] = {}
    unmatched = []
    for source, value in gradients.items():
        target = _find_input(source, value, [pair for pair in inputs if pair[0] not in matched])
        if target is None:
            unmatched.append(source)
        else:
            matched[target] = source
    return matched, unmatched


def _find_input(source: str, value: Any, inputs: NamedValues) -> str | None:
    """Return the path of the input that a gradient's name means.

    Of several, it is the one in the same place of its container, then the one of the same shape, then the first.
    """
    key = source[2:-2] if source.startswith(QUOTES) else source
    container = _keys(holder_of(source))
    for fold in (str, str.lower):
        for name in (key, *strip_marks(last_name_of(source))):
            matches = [(path, x) for path, x in inputs if fold(name) in (fold(path), fold(last_name_of(path)))]
            if matches:
                same_place = [pair for pair in matches if container and _is_in(container, pair[0])]
                candidates = same_place or matches
                same_shape = [path for path, x in candidates if np.shape(x) == np.shape(value)]
                return (same_shape or [path for path, _ in candidates])[0]
    return None


def _is_in(container: str, path: str) -> bool:
    """Whether the keys before the last one in a path end with those of a container."""
    return f".{_keys(holder_of(path))}".endswith(f".{container}")


def _leave_out_numbers(gradients: NamedValues, inputs: NamedValues) -> tuple[list[tuple[str, Any]], tuple[str, ...]]:
    """Leave out plain numbers, such as an accuracy, if there is no input that is a number."""
    if any(not np.shape(value) for _, value in inputs) or all(not np.shape(g) for _, g in gradients if g is not None):
        return list(gradients), ()
    kept = [(path, g) for path, g in gradients if g is None or np.shape(g)]
    return kept, ("numbers beside the gradients are left out",) if len(kept) < len(gradients) else ()


def _match_order(
    gradients: NamedValues, inputs: NamedValues, label: str, *, complete: bool
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Match gradients with inputs by their order: with all, with the first ones that fit, or with the only ones that do.

    Returns:
        The source of each input, and a remark if another choice would fit as well.

    Raises:
        ClaimError: if no or several choices of inputs fit, or an input has no gradient although it needs one.
    """
    required = [(path, value) for path, value in inputs if _is_alone(path, value)] if complete else list(inputs)
    note: tuple[str, ...] = ()
    if len(required) == len(gradients):
        chosen = required  # If the number alone is right, the shapes are compared later.
        if not _fits(gradients, chosen) and sorted(map(_shape_of, gradients)) == sorted(map(_shape_of, chosen)):
            raise ClaimError(f"{describe_count(gradients, required, label)}; the shapes are those of another order")
    else:
        choices = _choose_inputs(gradients, inputs)
        if not choices or (len(choices) > 1 and len(gradients) > 1):
            raise ClaimError(describe_count(gradients, required, label, ambiguous=bool(choices)))
        chosen = choices[0]
        if len(choices) > 1:
            note = (f"the gradient is read as that of {chosen[0][0]}, the first input of its shape; name another in wrt=",)
    missing = [pair for pair in required if pair[0] not in dict(chosen)]
    if complete and missing:
        raise ClaimError(describe_count(gradients, required, label, missing=missing))
    pairs = zip(gradients, chosen, strict=True)
    return {path: source for (source, value), (path, _) in pairs if value is not None}, note


def _is_array(value: Any) -> bool:
    return hasattr(type(value), "shape")


def _is_alone(path: str, value: Any) -> bool:
    """Whether an input is an argument of its own and an array, so that a layer owes it a gradient."""
    return not holder_of(path) and _is_array(value)


def _shape_of(pair: tuple[str, Any]) -> tuple[int, ...]:
    return tuple(np.shape(pair[1])) if pair[1] is not None else ()


def _refuse_misspelt_keys(unmatched: Sequence[str], remaining: NamedValues, label: str) -> None:
    """Refuse a key that names no input, but nearly one that has no gradient.

    Raises:
        ClaimError: with both names.
    """
    names = {last_name_of(path): path for path, _ in remaining if last_name_of(path)}
    for source in unmatched:
        key = last_name_of(source)
        near = next((m for name in strip_marks(key)[1:] for m in difflib.get_close_matches(name, names, 1, CLOSE)), None)
        if near is not None:
            raise ClaimError(
                f"{label} returned the key {key!r}, which names no input: did you mean {names[near]}, which has none?"
            )


def _fits(gradients: NamedValues, inputs: NamedValues) -> bool:
    pairs = zip(gradients, inputs, strict=True)
    return all(gradient is None or np.shape(gradient) == np.shape(value) for (_, gradient), (_, value) in pairs)


def _choose_inputs(gradients: NamedValues, inputs: NamedValues) -> list[list[tuple[str, Any]]]:
    """Return the ways to choose inputs, in their order, that have the shapes of the gradients: at most two of them."""
    if not gradients:
        return [[]]
    choices: list[list[tuple[str, Any]]] = []
    for i, candidate in enumerate(inputs):
        if _fits(gradients[:1], [candidate]):
            choices += [[candidate, *rest] for rest in _choose_inputs(gradients[1:], inputs[i + 1 :])]
        if len(choices) > 1:
            break
    return choices[:2]


def _is_flat_vector(gradient: Any, inputs: NamedValues) -> bool:
    """Whether an array is the gradients of all inputs in one vector: it has their size, and no input has its shape."""
    size, shape = sum(int(np.prod(np.shape(value))) for _, value in inputs), np.shape(gradient)
    is_vector = int(np.prod(shape)) == max(shape, default=0) == size
    return len(inputs) > 1 and is_vector and all(np.shape(value) != shape for _, value in inputs)
