"""What a value-and-gradient function returns: where the value is, and where the gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck.backends.forms.places import is_floating_array
from gradcheck.errors import ClaimError
from gradcheck.trees import flatten


@dataclass(frozen=True)
class ReturnedParts:
    """Where the value and the gradients are in what a function returns.

    Attributes:
        value: the indices that lead to the value, one after the other.
        gradients: the indices of the gradients.
        note: a remark about the order or about what is left out; '' for the common form.
    """

    value: tuple[int, ...]
    gradients: tuple[int, ...]
    note: str = ""

    def pick_value(self, returned: Any) -> Any:
        """Return the value."""
        for index in self.value:
            returned = returned[index]
        return returned

    def pick_gradients(self, returned: Any) -> Any:
        """Return the gradients: one item alone, or several as a tuple."""
        if len(self.gradients) == 1:
            return returned[self.gradients[0]]
        return tuple(returned[index] for index in self.gradients)


def find_parts(returned: Any, arguments: Sequence[tuple[str, ...]], label: str) -> ReturnedParts:
    """Find the value in (value, gradient), (value, gradient, gradient, ...) or (value, gradients, rest).

    Also understood are ((value, rest), gradients), which JAX returns with `has_aux`, and the order (gradients, value) where
    only the last item is one number.

    Args:
        returned: by the function.
        arguments: of each argument, the paths of its leaves without its name: a tuple of trees may hold the gradients of each.
        label: the option, as messages call it.

    Raises:
        ClaimError: if there is no value or no gradient.
    """
    items = list(returned) if isinstance(returned, tuple | list) else [returned]
    if len(items) < 2:
        raise ClaimError(
            f"{label} means that the function returns (value, gradient), and it returned {_describe(returned)}: return both, or"
            " give the function that computes the gradient, as in gradient=f_gradient"
        )
    has_rest = isinstance(items[0], tuple | list) and len(items[0]) > 0 and _is_number(items[0][0])
    if not has_rest and not _is_number(items[0]):
        if len(items) == 2 and _is_number(items[1]):
            return ReturnedParts((1,), (0,), "the function returns (gradient, value): its last item is the value")
        raise ClaimError(
            f"{label} means that the function returns (value, gradient), the value one real number, and it returned"
            f" {', '.join(map(_describe, items))}: for an output of several numbers use vjp=, jacobian= or backward="
        )
    gradients = _find_gradients(items, arguments)
    left = len(items) - 1 - len(gradients)
    note = f"left out: {left} more of what the function returns" if left else ""
    return ReturnedParts((0, 0) if has_rest else (0,), gradients, note)


def _find_gradients(items: Sequence[Any], arguments: Sequence[tuple[str, ...]]) -> tuple[int, ...]:
    """Return the indices of the gradients among the items after the value.

    These are arrays and numbers up to the first container; or that container, without the numbers before it; or one tree for
    each argument.
    """
    trees = [flatten(item, none_is_leaf=True).paths for item in items[1:]]
    if len(trees) > 1 and len(trees) <= len(arguments) and all(a == b for a, b in zip(trees, arguments, strict=False)):
        return tuple(range(1, len(items)))
    chosen: list[int] = []
    for i, item in enumerate(items[1:], 1):
        if isinstance(item, tuple | list | Mapping):
            return (*(k for k in chosen if not _is_number(items[k])), i)
        if not (item is None or hasattr(type(item), "shape") or isinstance(item, float | int)):
            break
        chosen.append(i)
    return tuple(chosen) or (1,)


def _is_number(value: Any) -> bool:
    """Whether a value is one real number, alone or as an array of one entry."""
    is_array = is_floating_array(value) and "complex" not in str(value.dtype) and int(np.prod(value.shape)) == 1
    return is_array or (isinstance(value, float | int) and not isinstance(value, bool))


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a mapping with the keys {', '.join(map(str, value))}"
    if hasattr(type(value), "shape"):
        return f"an array of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
