"""Functions on arrays of some other namespace of the array API standard, such as array-api-strict's.

They are called with its arrays, and evaluated as functions on NumPy arrays: each array crosses as one on the host.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import InputError
from gradcheck.targets.signature import Inputs
from gradcheck.trees import flatten, tree_map

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.targets.case import Case


def hosted(case: Case, target: Callable[..., Any], inputs: Inputs) -> tuple[Case, Callable[..., Any], Inputs]:
    """A case, its target and inputs in NumPy arrays; as they are, where no array is of another namespace.

    Raises:
        InputError: where arrays of two namespaces are mixed, or one cannot be read on the host.
    """
    leaves = flatten((inputs.args, inputs.kwargs)).leaves
    like = next((x for x in leaves if is_foreign(x)), None)
    if like is None:
        return case, target, inputs
    others = sorted({_package(x) for x in leaves if is_foreign(x) or isinstance(x, np.ndarray)})
    if len(others) > 1:
        raise InputError(f"inputs mix arrays of {' and '.join(others)}: give all of them in the namespace of the target")
    xp, device = like.__array_namespace__(), getattr(like, "device", None)

    def taking(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            given = flatten((args, kwargs))
            made = [xp.asarray(x, device=device) if isinstance(x, np.ndarray | np.generic) else x for x in given.leaves]
            positional, named = given.rebuild(made)
            returned = tree_map(_on_host, function(*positional, **named))
            for x, crossed in zip(given.leaves, made, strict=True):
                if isinstance(x, np.ndarray) and x.flags.writeable:
                    np.copyto(x, _on_host(crossed))  # what the function wrote to its own is to be seen
            return returned

        return called

    args, kwargs = tree_map(_on_host, (inputs.args, inputs.kwargs))
    claims = {kind: taking(function) for kind, function in case.claims.items()}
    return replace(case, claims=claims), taking(target), Inputs(args, kwargs, inputs.labels)


def is_foreign(x: Any) -> bool:
    """Whether it is an array of a namespace other than NumPy's."""
    return hasattr(type(x), "__array_namespace__") and not isinstance(x, np.ndarray | np.generic)


def _package(x: Any) -> str:
    return type(x).__module__.partition(".")[0]


def _on_host(x: Any) -> Any:
    if not is_foreign(x):
        return x
    try:
        return np.array(np.from_dlpack(x))
    except Exception as error:
        raise InputError(
            f"an array of {_package(x)} on {getattr(x, 'device', 'its device')} cannot be read as a NumPy array ({error}): "
            "give arrays on the host"
        ) from None
