"""Gradients as people return them, matched with the inputs that they belong to: by name, by order, or by shape."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck.errors import ClaimError
from gradcheck.trees import flatten

PREFIXES = re.compile(r"^(?:d|d_|grad_?|g_|delta_?|del_|∂|d[LJE]_?d_?)(?=.)")
SUFFIXES = re.compile(r"(?<=.)(?:\.grad|_?grads?|_?gradients?|_g|_bar)$")
QUOTES = ("['", '["')  # before a key in a path; a key that has quotes of one kind is written in the other
# The last name in a path: W1 in params['W1'], W in layers[0].W.
LAST_NAME = re.compile(r"""(?:\['([^']+)'\]|\["([^"]+)"\]|(?:^|\.)([^\W\d]\w*))$""")


@dataclass(frozen=True)
class GradientPlan:
    """Where the gradient of each input is among the arrays that a hand-written derivative returns.

    Attributes:
        paths: of the inputs that the derivative is checked for, in the order of the call.
        shapes: the shape of each input.
        sources: the path of each input's gradient among what is returned; None: there is none, which counts as zero.
        is_flat: whether one vector holds all gradients, one after the other.
        notes: how the gradients were matched, for the report.
    """

    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    sources: tuple[str | None, ...]
    is_flat: bool = False
    notes: tuple[str, ...] = ()

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
                f"{label} returned no {_name_source(missing[0])} in a later call: expected the form of the first call"
            )
        pairs = zip(self.sources, self.shapes, strict=True)
        return tuple(np.zeros(shape) if source is None else found[source] for source, shape in pairs)

    def _split(self, returned: Any, label: str) -> tuple[Any, ...]:
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        vector = returned.reshape(-1)
        if vector.shape != (sum(sizes),):
            raise ClaimError(
                f"{label} returned {vector.size} numbers in a later call: expected {sum(sizes)}, as in the first call"
            )
        ends = np.cumsum(sizes)
        return tuple(vector[end - n : end].reshape(s) for end, n, s in zip(ends, sizes, self.shapes, strict=True))


def plan_gradients(returned: Any, inputs: Sequence[tuple[str, Any]], label: str, *, complete: bool) -> GradientPlan:
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
    nothing = [path for path, value in gradients if value is None]
    if len(nothing) == len(gradients):
        raise ClaimError(f"{label} returned {_describe(returned)}: expected a gradient for {_list_inputs(inputs)}")
    named = {path: value for path, value in gradients if _last_name(path) and value is not None}
    by_name, unmatched = _match_names(named, inputs)
    rest = [(path, value) for path, value in gradients if not _last_name(path)]
    if named and not by_name and not rest:
        raise ClaimError(_describe_unknown_keys(named, inputs, label))
    remaining = [(path, value) for path, value in inputs if path not in by_name]
    _refuse_misspelt_keys(unmatched, remaining, label)
    if not rest:
        missing = [(path, value) for path, value in remaining if complete and _is_alone(path, value)]
        if missing and named:
            raise ClaimError(
                f"{_describe_unknown_keys(named, inputs, label)}; missing: {', '.join(path for path, _ in missing)}"
            )
        return _plan_by_name(by_name, unmatched, inputs)
    if not named and len(rest) == 1 and _is_flat_vector(rest[0][1], remaining):
        shapes = tuple(np.shape(value) for _, value in remaining)
        note = f"the gradient is one vector: {_list_inputs(remaining)}, in this order"
        return GradientPlan(tuple(path for path, _ in remaining), shapes, (None,) * len(shapes), is_flat=True, notes=(note,))
    by_order = _match_order(rest, remaining, label, complete=complete)
    matched = {**by_name, **by_order}
    return _make_plan(matched, inputs, _describe_match(matched, inputs, unmatched))


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
        name = _last_name(source)
        for path, x in fixed.items() if name and value is not None else ():
            if _last_name(path) in strip_marks(name) and (np.shape(x) == np.shape(value) or isinstance(x, list)):
                kind = f"an array of {x.dtype}" if hasattr(type(x), "dtype") else f"a {type(x).__name__}"
                raise ClaimError(
                    f"{label} returned a gradient for {path}, which is {kind}: only floating-point arrays can be moved; make it"
                    " one, as in np.asarray(..., dtype=float)"
                )


def match_mapping(returned: Mapping[Any, Any], inputs: Sequence[tuple[str, Any]]) -> list[Any] | None:
    """Return the gradients in a mapping in the order of the inputs, matched by name; None if an input has no gradient."""
    found = dict(_list_gradients(returned))
    matched, _ = _match_names(found, inputs)
    return [found[matched[path]] for path, _ in inputs] if len(matched) == len(inputs) else None


def _plan_by_name(by_name: dict[str, str], unmatched: list[str], inputs: Sequence[tuple[str, Any]]) -> GradientPlan:
    """Plan gradients that are matched by name alone. A sister of an input with a gradient has none: it counts as zero."""
    holders = {_holder(path) for path in by_name if _holder(path)}
    sisters = [path for path, value in inputs if path not in by_name and _holder(path) in holders and np.ndim(value)]
    notes = _describe_match(by_name, [pair for pair in inputs if pair[0] not in sisters], unmatched)
    if sisters:
        notes += (f"{', '.join(sisters)}: no gradient counts as zero; name the others in wrt= to leave it out",)
    return _make_plan({**by_name, **dict.fromkeys(sisters)}, inputs, notes)


def _make_plan(matched: Mapping[str, str | None], inputs: Sequence[tuple[str, Any]], notes: tuple[str, ...]) -> GradientPlan:
    chosen = [(path, np.shape(value), matched[path]) for path, value in inputs if path in matched]
    paths, shapes, sources = zip(*chosen, strict=True)
    return GradientPlan(paths, shapes, sources, notes=notes)


def _list_gradients(returned: Any) -> list[tuple[str, Any]]:
    flat = flatten(returned, none_is_leaf=True)
    return list(zip(flat.paths, flat.leaves, strict=True))


def _last_name(path: str) -> str:
    """Return the last key or attribute in a path if it is a name; '' for a place in a sequence."""
    match = LAST_NAME.search(path)
    return next(filter(None, match.groups())) if match else ""


def _holder(path: str) -> str:
    """Return the container of a leaf: `params` for `params['W']`; '' for an argument that is an array of its own."""
    match = LAST_NAME.search(path)
    return path[: match.start()] if match else path.rpartition("[")[0]


def strip_marks(name: str) -> tuple[str, ...]:
    """Return what a gradient's name may mean: the name itself, and what is left without `d`, `grad_`, `_grad` and the like."""
    stripped = [name]
    for pattern in (PREFIXES, SUFFIXES):
        stripped += [text for text in (pattern.sub("", name, count=1),) if text and text != name]
    return tuple(dict.fromkeys(stripped))


def _match_names(gradients: Mapping[str, Any], inputs: Sequence[tuple[str, Any]]) -> tuple[dict[str, str], list[str]]:
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


def _find_input(source: str, value: Any, inputs: Sequence[tuple[str, Any]]) -> str | None:
    """Return the path of the input that a gradient's name means; of several, the one with its shape, then the first."""
    key = source[2:-2] if source.startswith(QUOTES) else source
    for name in (key, *strip_marks(_last_name(source))):
        for fold in (str, str.lower):
            matches = [(path, x) for path, x in inputs if fold(name) in (fold(path), fold(_last_name(path)))]
            same_shape = [path for path, x in matches if np.shape(x) == np.shape(value)]
            if matches:
                return (same_shape or [path for path, _ in matches])[0]
    return None


def _match_order(
    gradients: list[tuple[str, Any]], inputs: Sequence[tuple[str, Any]], label: str, *, complete: bool
) -> dict[str, str]:
    """Match gradients with inputs by their order: with the first inputs if the shapes fit, else with the only ones that do.

    Raises:
        ClaimError: if no or several choices of inputs fit, or an input has no gradient although it needs one.
    """
    required = [(path, value) for path, value in inputs if _is_alone(path, value)] if complete else list(inputs)
    first = (required if len(required) == len(gradients) else inputs)[: len(gradients)]
    if len(first) == len(gradients) and (_fits(gradients, first) or len(required) == len(gradients)):
        chosen = first  # If the number alone is right, the shapes are compared later.
        if not _fits(gradients, first) and sorted(map(_shape_of, gradients)) == sorted(map(_shape_of, first)):
            raise ClaimError(f"{_describe_count(gradients, required, label)}; the shapes are those of another order")
    else:
        choices = _choose_inputs(gradients, inputs)
        if len(choices) != 1:
            raise ClaimError(_describe_count(gradients, required, label, ambiguous=len(choices) > 1))
        (chosen,) = choices
    missing = [pair for pair in required if pair[0] not in dict(chosen)]
    if complete and missing:
        raise ClaimError(_describe_count(gradients, required, label, missing=missing))
    pairs = zip(gradients, chosen, strict=True)
    return {path: source for (source, value), (path, _) in pairs if value is not None}


def _is_alone(path: str, value: Any) -> bool:
    """Whether an input is an argument of its own and an array, so that a layer owes it a gradient."""
    return not _holder(path) and hasattr(type(value), "shape")


def _shape_of(pair: tuple[str, Any]) -> tuple[int, ...]:
    return tuple(np.shape(pair[1])) if pair[1] is not None else ()


def _refuse_misspelt_keys(unmatched: Sequence[str], remaining: Sequence[tuple[str, Any]], label: str) -> None:
    """Refuse a key that names no input, but nearly one that has no gradient.

    Raises:
        ClaimError: with both names.
    """
    names = {_last_name(path): path for path, _ in remaining if _last_name(path)}
    for source in unmatched:
        key = _last_name(source)
        near = next((m for name in strip_marks(key)[1:] for m in difflib.get_close_matches(name, names, 1)), None)
        if near is not None:
            raise ClaimError(
                f"{label} returned the key {key!r}, which names no input: did you mean {names[near]}, which has none?"
            )


def _fits(gradients: Sequence[tuple[str, Any]], inputs: Sequence[tuple[str, Any]]) -> bool:
    pairs = zip(gradients, inputs, strict=True)
    return all(gradient is None or np.shape(gradient) == np.shape(value) for (_, gradient), (_, value) in pairs)


def _choose_inputs(gradients: Sequence[tuple[str, Any]], inputs: Sequence[tuple[str, Any]]) -> list[list[tuple[str, Any]]]:
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


def _is_flat_vector(gradient: Any, inputs: Sequence[tuple[str, Any]]) -> bool:
    """Whether an array is the gradients of all inputs in one vector: it has their size, and no input has its shape."""
    size = sum(int(np.prod(np.shape(value))) for _, value in inputs)
    shape = np.shape(gradient)
    return len(inputs) > 1 and max(shape, default=0) == size and all(np.shape(value) != shape for _, value in inputs)


def _describe_match(matched: Mapping[str, str], inputs: Sequence[tuple[str, Any]], unmatched: Sequence[str]) -> tuple[str, ...]:
    """Say which gradient belongs to which input unless that is plain, and which inputs and gradients were left out."""
    renamed = [
        (_name_source(source), path) for path, source in matched.items() if _last_name(source) not in (path, _last_name(path))
    ]
    by_name = [f"{source} → {path}" for source, path in renamed if not source.startswith("gradient")]
    without = [path for path, value in inputs if path not in matched and np.ndim(value)]
    notes = [f"gradients: {', '.join(by_name)}"] if by_name else []
    if unmatched:
        notes.append(f"not compared, as they name no input: {', '.join(map(_name_source, unmatched))}")
    if without:
        notes.append(f"no gradient is returned for {', '.join(without)}, so none is checked")
    return tuple(notes)


def _name_source(source: str) -> str:
    """Name a gradient for a reader: `dW1` for `['dW1']`, `the 2nd` for `[1]`."""
    name = _last_name(source)
    if name or not source:
        return name or "gradient"
    numbers = re.findall(r"\d+", source)
    return f"gradient {int(numbers[0]) + 1}" if len(numbers) == 1 else f"gradient {source}"


def _list_inputs(inputs: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{path} {np.shape(value)}" for path, value in inputs) or "an input, but there is none"


def _describe(returned: Any) -> str:
    return "None" if returned is None else f"{type(returned).__name__} without an array"


def _describe_count(
    gradients: Sequence[tuple[str, Any]],
    inputs: Sequence[tuple[str, Any]],
    label: str,
    missing: Sequence[tuple[str, Any]] = (),
    *,
    ambiguous: bool = False,
) -> str:
    shapes = ", ".join("None" if value is None else str(tuple(np.shape(value))) for _, value in gradients)
    count = f"{len(gradients)} gradient{'s' * (len(gradients) != 1)} of shape {shapes}"
    head = f"{label} returned {count}: expected one for each of {_list_inputs(inputs)}, in this order"
    if missing:
        return f"{head}; missing: {', '.join(path for path, _ in missing)}"
    if len(gradients) == len(inputs):
        return head
    advice = "; several inputs fit" if ambiguous else ""
    return f"{head}{advice}; name the inputs that have a gradient in wrt=, or return a mapping by their names"


def _describe_unknown_keys(named: Mapping[str, Any], inputs: Sequence[tuple[str, Any]], label: str) -> str:
    names = [_last_name(path) for path, _ in inputs]
    keys = [_name_source(source) for source in named]
    near = [(key, match) for key in keys for match in difflib.get_close_matches(strip_marks(key)[-1], names, 1)]
    hint = (
        f"; did you mean {near[0][1]!r} by {near[0][0]!r}?"
        if near
        else "; rename the keys, return a tuple in the order of the inputs, or name the container of parameters in params="
    )
    return f"{label} returned the keys {', '.join(keys)}, which name no input (inputs: {_list_inputs(inputs)}){hint}"
