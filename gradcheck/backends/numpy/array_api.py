"""Functions on arrays of another namespace of the array API standard, such as array-api-strict's.

They are called with arrays of that namespace and evaluated as functions on NumPy arrays: each array is converted on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import InputError
from gradcheck.targets.signature import Inputs
from gradcheck.trees import flatten, tree_map

if TYPE_CHECKING:
    from gradcheck.targets.case import Case


def convert_to_numpy(case: Case, target: Callable[..., Any], inputs: Inputs) -> tuple[Case, Callable[..., Any], Inputs]:
    """Return a case, its target and its inputs in NumPy arrays; unchanged if no array is of another namespace.

    Raises:
        InputError: if arrays of two namespaces are mixed or an array cannot be read on the host.
    """
    leaves = flatten((inputs.args, inputs.kwargs)).leaves
    foreign = next((x for x in leaves if is_foreign(x)), None)
    if foreign is None:
        return case, target, inputs
    packages = sorted({_package(x) for x in leaves if is_foreign(x) or isinstance(x, np.ndarray)})
    if len(packages) > 1:
        raise InputError(f"inputs mix arrays of {' and '.join(packages)}: give all of them in the namespace of the target")
    xp, device = foreign.__array_namespace__(), getattr(foreign, "device", None)

    def accepting_numpy(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            flat = flatten((args, kwargs))
            converted = [xp.asarray(x, device=device) if isinstance(x, np.ndarray | np.generic) else x for x in flat.leaves]
            own_args, own_kwargs = flat.rebuild(converted)
            returned = tree_map(_on_host, function(*own_args, **own_kwargs))
            for x, array in zip(flat.leaves, converted, strict=True):
                if isinstance(x, np.ndarray) and x.flags.writeable:
                    np.copyto(x, _on_host(array))  # What the function wrote to its own array must show.
            return returned

        return call

    claims = {kind: accepting_numpy(function) for kind, function in case.claims.items()}
    return replace(case, claims=claims), accepting_numpy(target), inputs.map_leaves(_on_host)


def is_foreign(x: Any) -> bool:
    """Say whether a value is an array of another namespace than NumPy's."""
    return hasattr(type(x), "__array_namespace__") and not isinstance(x, np.ndarray | np.generic)


def _package(x: Any) -> str:
    return type(x).__module__.partition(".")[0]


def _on_host(x: Any) -> Any:
    """Convert an array of another namespace to one of NumPy; anything else stays."""
    if not is_foreign(x):
        return x
    try:
        return np.array(np.from_dlpack(x))
    except Exception as error:
        raise InputError(
            f"an array of {_package(x)} on {getattr(x, 'device', 'its device')} cannot be read as a NumPy array ({error}): "
            "give arrays on the host"
        ) from None
