"""Parameters that live in an object: named by the user or found there, moved on a private copy, with their gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.backends.forms.gradient_words import strip_marks
from gradcheck.backends.forms.places import Place, find_places, get_owner, is_floating_array, share_memory
from gradcheck.errors import InputError, UsageError
from gradcheck.tracebacks import summarise_error

PARAMETER_NAMES = ("params", "parameters", "weights")  # attributes that hold parameters by name
GRADIENT_NAMES = ("grads", "gradients", "grad", "dparams")  # attributes that hold their gradients
INPUT_GRADIENT_NAMES = ("dinputs", "dinput", "dx", "dX", "grad_input")  # attributes that hold the gradient of the input
VALUE_NAMES = ("data", "value", "val")  # attributes of a parameter object that hold its array; the gradient is in `grad`


@dataclass(frozen=True)
class Parameter:
    """An array that a target reads from an object, and that is moved there.

    Attributes:
        path: for the report, such as `params['W1']` or `layers[0].W`.
        value: the array.
        places: every place that holds this array, so that a second name for it moves, too.
        gradient: the place in which the backward leaves its gradient; None: it returns the gradient.
    """

    path: str
    value: Any
    places: tuple[Place, ...]
    gradient: Place | None = None


def copy_code(case_name: str, functions: Sequence[Any]) -> tuple[tuple[Any, ...], dict[int, Any]]:
    """Copy the objects that some functions are bound to, all in one copy; plain functions stay.

    Returns:
        The functions on the copies, and the copies by the `id` of the original.

    Raises:
        InputError: if an object cannot be copied.
    """
    memo: dict[int, Any] = {}
    if all(get_owner(function) is None for function in functions):
        return tuple(functions), memo
    try:
        return tuple(copy.deepcopy(tuple(functions), memo)), memo
    except Exception as error:
        owner = next(type(get_owner(f)).__name__ for f in functions if get_owner(f) is not None)
        raise InputError(
            f"{case_name}: the {owner} cannot be copied ({summarise_error(error)}), and nothing of yours is changed: give a"
            " function of the parameters, or define __deepcopy__"
        ) from None


def name_parameters(
    params: Any, originals: Sequence[Any], functions: Sequence[Any], copies: Mapping[int, Any]
) -> list[Parameter]:
    """Find the parameters that the user named.

    Args:
        params: a container of arrays, an object with arrays in its attributes, or paths of attributes such as 'layers[0].W'.
        originals: the user's functions that read them.
        functions: the same on private copies.
        copies: the copies by the `id` of the original.

    Raises:
        UsageError: if a path leads nowhere, or nothing there is a floating-point array.
        InputError: if the functions do not read these arrays, or two of them share memory.
    """
    are_names = isinstance(params, tuple | list) and params and all(isinstance(p, str) for p in params)
    if isinstance(params, str) or are_names:
        places = _find_named((params,) if isinstance(params, str) else params, functions)
    else:
        places = _find_in_container(params, functions, copies)
    tables = [place for place in find_places(copies.get(id(params), params), "params") if hasattr(place.read(), "to_numpy")]
    if tables and not are_names:
        path, kind = tables[0].path, type(tables[0].read()).__name__
        raise UsageError(f"{path} is a {kind}: parameters are arrays, so keep {path}.to_numpy() there")
    if not places:
        advice = "; the items of a tuple cannot be moved, so give a list or a dictionary" if isinstance(params, tuple) else ""
        raise UsageError(f"params={_describe(params)}: expected floating-point arrays, got none there{advice}")
    parameters = _group(places, functions)
    _refuse_shared_memory(parameters, originals, functions, copies)
    return parameters


def list_fixed_values(params: Any) -> dict[str, Any]:
    """Return what a mapping of parameters holds besides floating-point arrays and floats: path and value of each."""
    if not isinstance(params, Mapping):
        return {}
    values = {place.path: place.read() for place in find_places(params, "params") if place.holder is params}
    return {path: value for path, value in values.items() if not (is_floating_array(value) or isinstance(value, float))}


def _find_in_container(params: Any, functions: Sequence[Any], copies: Mapping[int, Any]) -> list[Place]:
    """Find the places of the arrays in a container or an object, in the copy that the functions read."""
    is_container = isinstance(params, Mapping | list | tuple)
    root = copies.get(id(params), params)
    places = [place for place in find_places(root, "params" if is_container else "") if _can_move(place, is_container)]
    reachable = [place for function in functions for place in find_places(function)]
    holders = {id(value) for place in reachable for value in (place.holder, place.read())} | {id(f) for f in functions}
    if {id(root), *(id(place.holder) for place in places)} & holders:
        return places
    # A new container of the object's own arrays, such as net.parameters(): we move the arrays where the object keeps them.
    by_array = {id(place.read()): place for place in reversed(reachable)}
    kept = [(place, by_array.get(id(copies.get(id(place.read()), place.read())))) for place in places]
    found = [replace(home, path=place.path) for place, home in kept if home is not None and is_floating_array(place.read())]
    if places and not found:
        name = getattr(functions[0], "__qualname__", type(functions[0]).__name__)
        raise InputError(
            f"params={_describe(params)}: {name} does not read these arrays; give the container that it reads, as in"
            " params=net.params"
        )
    return found


def _can_move(place: Place, is_container: bool) -> bool:
    value = place.read()
    return is_floating_array(value) or (is_container and isinstance(value, float) and isinstance(place.holder, Mapping))


def _find_named(paths: Sequence[str], functions: Sequence[Any]) -> list[Place]:
    owners = [owner for owner in map(get_owner, functions) if owner is not None]
    if not owners:
        raise UsageError(f"params={paths[0]!r}: names are for attributes of an object; give the container itself, params=...")
    reachable = list(find_places(owners[0]))
    found = []
    for path in paths:
        matches = [place for place in reachable if place.path == path or place.path.startswith((f"{path}[", f"{path}."))]
        arrays = [place for place in matches if is_floating_array(place.read()) or isinstance(place.read(), float)]
        if not arrays:
            known = ", ".join(dict.fromkeys(place.path for place in reachable if is_floating_array(place.read()))) or "none"
            what = "holds no floating-point array" if matches else "does not exist"
            raise UsageError(f"params={path!r}: {type(owners[0]).__name__}.{path} {what} (arrays there: {known})")
        found += arrays
    return found


def _refuse_shared_memory(
    parameters: Sequence[Parameter], originals: Sequence[Any], functions: Sequence[Any], copies: Mapping[int, Any]
) -> None:
    """Refuse a parameter that is a view of another array, or has one: the copy that we move would not move the other.

    Raises:
        InputError: with both names.
    """
    arrays = {id(place.read()): place for f in originals for place in find_places(f) if is_floating_array(place.read())}
    by_copy = {id(copies.get(key, place.read())): place for key, place in arrays.items()}
    for parameter in parameters:
        own = by_copy.get(id(parameter.value))
        for place in arrays.values() if own is not None else ():
            if own is not None and place.read() is not own.read() and share_memory(place.read(), own.read()):
                raise InputError(
                    f"params: {parameter.path} shares its memory with {place.path}, so that one cannot be moved without the"
                    f" other: give the array that owns the memory, or make a copy of {place.path}"
                )


def _describe(params: Any) -> str:
    return f"{type(params).__name__}" + (f" of {len(params)}" if hasattr(params, "__len__") else "")


def _group(places: Sequence[Place], functions: Sequence[Any], gradients: Mapping[int, Place] | None = None) -> list[Parameter]:
    """Make one parameter of all places that hold the same array; others that the functions reach are added."""
    named: dict[int, Place] = {}
    for place in places:
        value = place.read()
        named.setdefault(id(value) if is_floating_array(value) else id(place), place)
    everywhere: dict[int, list[Place]] = {}
    for place in (place for function in functions for place in find_places(function)):
        everywhere.setdefault(id(place.read()), []).append(place)
    parameters = []
    for key, place in named.items():
        value = place.read()
        same = [place, *(everywhere.get(key, ()) if is_floating_array(value) else ())]
        distinct = {(id(other.holder), other.key, other.is_attribute): other for other in same}
        array = np.asarray(value) if isinstance(value, np.memmap) else value
        parameters.append(Parameter(place.path, array, tuple(distinct.values()), (gradients or {}).get(id(place))))
    return parameters


@dataclass(frozen=True)
class TrainedParameters:
    """The parameters of an object that a backward trains, and its arrays without a gradient.

    Attributes:
        parameters: each with the place of its gradient.
        without: paths of the arrays that have no gradient although the output depends on them.
    """

    parameters: tuple[Parameter, ...] = ()
    without: tuple[str, ...] = ()


def find_input_gradients(owner: Any, inputs: Sequence[str]) -> dict[str, Place]:
    """Find the gradients of inputs that a backward leaves in attributes of its object, such as `dinputs`, by input."""
    by_name = {place.key: place for place in find_places(owner) if place.holder is owner and place.is_attribute}
    found = {name: _find_sibling(name, by_name) for name in inputs}
    if inputs and found[inputs[0]] is None:
        found[inputs[0]] = next((by_name[name] for name in INPUT_GRADIENT_NAMES if name in by_name), None)
    return {name: place for name, place in found.items() if place is not None}


def list_kept_arrays(owner: Any) -> dict[int, Place]:
    """Return the places of an object that hold floating-point arrays, by the `id` of the array."""
    places = [place for place in find_places(owner) if is_floating_array(place.read())]
    return {id(place.read()): place for place in reversed(places)}


def find_trained(
    owner: Any, functions: Sequence[Any], before: Mapping[int, Any], depends_on: Callable[[Place], bool]
) -> TrainedParameters:
    """Find the parameters of an object after a forward and a backward: arrays that stay, with a gradient by their name.

    These are attributes `W` with `dW`, `grad_W` or `W_grad`, parameter objects with `data` and `grad`, and containers
    `params` with `grads`. An array that the forward or the backward binds anew is an intermediate value.

    Args:
        functions: its methods.
        before: the arrays that it held before the forward, by their `id`.
        depends_on: says whether the outputs depend on the array in a place.
    """
    places = list(find_places(owner))
    by_holder: dict[int, list[Place]] = {}
    for place in places:
        by_holder.setdefault(id(place.holder), []).append(place)
    pairs = [pair for siblings in by_holder.values() for pair in _pair_siblings(siblings, before)]
    parameters = _group([value for value, _ in pairs], functions, {id(value): gradient for value, gradient in pairs})
    known = {id(p.value) for p in parameters} | {id(p.gradient.read()) for p in parameters if p.gradient is not None}
    others = {id(p.read()): p for p in reversed(places) if id(p.read()) in before and id(p.read()) not in known}
    without = [place.path for place in reversed(others.values()) if is_floating_array(place.read()) and depends_on(place)]
    return TrainedParameters(tuple(parameters), tuple(without))


def _pair_siblings(siblings: Sequence[Place], before: Mapping[int, Any]) -> Iterator[tuple[Place, Place]]:
    """Yield the arrays of one object that stay, each with its gradient."""
    by_name = {place.key: place for place in siblings if place.is_attribute}
    grads = next((by_name[name] for name in GRADIENT_NAMES if name in by_name), None)
    by_key = _index_gradients(grads) if grads is not None and not is_floating_array(grads.read()) else {}
    for name, place in by_name.items():
        if is_floating_array(place.read()) and id(place.read()) in before:
            gradient = _find_sibling(name, by_name) or by_key.get(name)
            if gradient is not None and gradient.read() is not None:
                yield place, gradient
    holder = next((by_name[name] for name in PARAMETER_NAMES if name in by_name), None)
    for place in find_places(holder.read(), holder.path) if holder is not None else ():
        if is_floating_array(place.read()) and id(place.read()) in before and holder is not None:
            gradient = by_key.get(place.path.removeprefix(holder.path)) or by_key.get(str(place.key))
            if gradient is not None:
                yield place, gradient


def _find_sibling(name: str, by_name: Mapping[str, Place]) -> Place | None:
    """Find the attribute that is the gradient of another by its name."""
    names = ("grad", "gradient") if name in VALUE_NAMES else ()
    plain = name.lstrip("_")
    for fold in (str, str.lower):
        for key, place in by_name.items():
            marks = [fold(mark) for mark in strip_marks(key.lstrip("_"))[1:]]
            if key != name and (fold(plain) in marks or key in names) and is_floating_array(place.read()):
                return place
    return None


def _index_gradients(grads: Place) -> dict[str, Place]:
    """Index the items of a container of gradients by their path in it, and by what their keys may mean."""
    found = [p for p in find_places(grads.read(), grads.path) if is_floating_array(p.read())]
    by_key = {mark: p for p in found for mark in reversed(strip_marks(str(p.key)))}
    return {**by_key, **{p.path.removeprefix(grads.path): p for p in found}}
