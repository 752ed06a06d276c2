"""Parameters that live in an object: found there or named by the user, moved on a private copy, with their gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck.backends.forms.gradient_names import strip_marks
from gradcheck.backends.forms.places import Place, find_places, get_owner, is_floating_array
from gradcheck.errors import InputError, UsageError
from gradcheck.tracebacks import summarise_error

PARAMETER_NAMES = ("params", "parameters", "weights")  # attributes that hold parameters, by themselves or by name
GRADIENT_NAMES = ("grads", "gradients", "grad", "dparams")  # attributes that hold their gradients
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


def name_parameters(params: Any, functions: Sequence[Any], copies: Mapping[int, Any]) -> list[Parameter]:
    """Find the parameters that the user named.

    Args:
        params: a container of arrays, an object with arrays in its attributes, or paths of attributes such as 'layers[0].W'.
        functions: what reads them, on private copies.
        copies: the copies by the `id` of the original.

    Raises:
        UsageError: if a path leads nowhere, or nothing there is a floating-point array.
        InputError: if the functions do not read these arrays.
    """
    if isinstance(params, str) or (isinstance(params, tuple | list) and params and all(isinstance(p, str) for p in params)):
        places = _find_named((params,) if isinstance(params, str) else params, functions)
    else:
        root = _find_copy(params, copies)
        is_container = isinstance(root, Mapping | list | tuple)
        places = [place for place in find_places(root, "params" if is_container else "") if _can_move(place, is_container)]
        _refuse_unused(root, params, places, functions)
    if not places:
        raise UsageError(f"params={_describe(params)}: expected floating-point arrays, got none there")
    return _group(places, functions)


def list_fixed_values(params: Any) -> dict[str, Any]:
    """Return what a container of parameters holds besides floating-point arrays and floats: path and value of each."""
    if not isinstance(params, Mapping):
        return {}
    values = {place.path: place.read() for place in _places_in_mapping(params)}
    return {path: value for path, value in values.items() if not (is_floating_array(value) or isinstance(value, float))}


def _places_in_mapping(params: Mapping[Any, Any]) -> list[Place]:
    return [place for place in find_places(params, "params") if place.holder is params]


def _find_copy(value: Any, copies: Mapping[int, Any]) -> Any:
    """Return the copy of a value, or a container of copies if only its items were copied, as in `[net.W, net.b]`."""
    if id(value) in copies:
        return copies[id(value)]
    if type(value) is dict:
        return {key: _find_copy(item, copies) for key, item in value.items()}
    return type(value)(_find_copy(item, copies) for item in value) if type(value) in (list, tuple) else value


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


def _refuse_unused(root: Any, params: Any, places: Sequence[Place], functions: Sequence[Any]) -> None:
    """Refuse parameters that the functions cannot reach: moving them would change nothing."""
    reached = {id(value) for f in functions for place in find_places(f) for value in (place.holder, place.read())}
    if not {id(root), *(id(place.holder) for place in places), *(id(place.read()) for place in places)} & reached:
        name = getattr(functions[0], "__qualname__", type(functions[0]).__name__)
        raise InputError(
            f"params={_describe(params)}: {name} does not read these arrays; give the container that it reads, as in"
            " params=net.params"
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
    return [
        Parameter(
            place.path,
            _as_array(place),
            _distinct([place, *(everywhere.get(key, ()) if is_floating_array(place.read()) else ())]),
            (gradients or {}).get(id(place)),
        )
        for key, place in named.items()
    ]


def _as_array(place: Place) -> Any:
    value = place.read()
    return np.asarray(value) if isinstance(value, np.memmap) else value


def _distinct(places: Sequence[Place]) -> tuple[Place, ...]:
    return tuple({(id(place.holder), place.key, place.is_attribute): place for place in places}.values())


def find_trained_parameters(owner: Any, functions: Sequence[Any], kept: Sequence[Any]) -> list[Parameter]:
    """Find the parameters of an object after a backward: arrays next to which there is a gradient.

    These are attributes `W` with `dW`, `grad_W` or `W_grad`, parameter objects with `data` and `grad`, and containers
    `params` with `grads`.

    Args:
        owner: the object.
        functions: what reads the parameters.
        kept: the values in the object before the latest forward, which replaces its intermediate values.
    """
    identities = set(map(id, kept))
    places = list(find_places(owner))
    by_holder: dict[int, list[Place]] = {}
    for place in places:
        by_holder.setdefault(id(place.holder), []).append(place)
    pairs = [pair for siblings in by_holder.values() for pair in _pair_siblings(siblings) if id(pair[0].read()) in identities]
    return _group([value for value, _ in pairs], functions, {id(value): gradient for value, gradient in pairs})


def _pair_siblings(siblings: Sequence[Place]) -> Iterator[tuple[Place, Place]]:
    """Yield the attributes of one object that are a parameter and its gradient."""
    by_name = {place.key: place for place in siblings if place.is_attribute}
    for name, place in by_name.items():
        value = place.read()
        if is_floating_array(value):
            names = ("grad", "gradient") if name in VALUE_NAMES else ()
            gradients = [p for key, p in by_name.items() if key != name and (name in strip_marks(key) or key in names)]
            yield from ((place, g) for g in gradients[:1] if np.ndim(g.read()) or np.shape(g.read()) == np.shape(value))
    holders = [by_name[name] for name in PARAMETER_NAMES if name in by_name]
    gradients = [by_name[name] for name in GRADIENT_NAMES if name in by_name]
    if holders and gradients:
        yield from _pair_containers(holders[0], gradients[0])


def _pair_containers(params: Place, grads: Place) -> Iterator[tuple[Place, Place]]:
    """Yield the items of two containers that belong together: by the same key, or by a key with a mark of a gradient."""
    values = [p for p in find_places(params.read(), params.path) if is_floating_array(p.read())]
    found = {p.path.removeprefix(grads.path): p for p in find_places(grads.read(), grads.path) if is_floating_array(p.read())}
    by_key = {mark: p for p in found.values() for mark in reversed(strip_marks(str(p.key)))}
    for place in values:
        gradient = found.get(place.path.removeprefix(params.path)) or by_key.get(str(place.key))
        if gradient is not None:
            yield place, gradient
