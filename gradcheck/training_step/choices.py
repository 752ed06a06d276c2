"""The discrete choices of a computation, such as the experts that a router takes: recorded in one run, held in another."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gradcheck.backends.torch.twin_precision import DynamoSafeMode

# The operators that choose, by what they return: which numbers are larger, or the places of the largest, smallest or k-th.
CHOOSERS = {
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne", "relu"), (torch.bool,)),
    **dict.fromkeys(("topk", "sort", "max", "min", "argmax", "argmin", "kthvalue", "median"), (torch.long,)),
    "max_pool2d_with_indices": (torch.long,),
}
TINY = 1e-30


class Choices(DynamoSafeMode):  # type: ignore[no-untyped-call]
    """Records the choices between floating numbers, or replaces them by those of a recorded run.

    Attributes:
        made: the operator of each choice, and what it chose.
        flipped: how many entries of the choices were replaced by others.
    """

    def __init__(self, recorded: Choices | None = None, near: float = math.inf) -> None:
        """Choose what to do.

        Args:
            recorded: the run whose choices to make; None: record.
            near: replace only choices between numbers that differ by less, relative to the largest.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: list[tuple[str, Tensor]] = []
        self.flipped, self.near = 0, near
        self._left = recorded.made[::-1] if recorded else []

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operator; record or replace what it chose."""
        returned, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        chosen = (
            returned > 0 if name == "relu" else returned[-1] if isinstance(returned, tuple | list) and returned else returned
        )
        is_choice = isinstance(chosen, Tensor) and chosen.dtype in CHOOSERS.get(name, ()) and args[0].is_floating_point()
        if not is_choice:
            return returned
        self.made.append((name, chosen))
        before, held = self._left.pop() if self._left else ("", chosen)
        if before != name or held.shape != chosen.shape:
            self._left = []  # nothing is held, or the code takes another path from here on
            return returned
        values = chosen
        if chosen.dtype is torch.long:
            entries, axis = _find_axis(func, args, kwargs or {})
            values = _take(entries, axis, held)
            off, scale = _take(entries, axis, chosen) - values, _size(entries)
        else:
            limit = 0.0 if name == "relu" else args[1]
            off, scale = args[0] - limit, max(_size(args[0]), _size(limit))
        flips = chosen != held
        if not flips.any() or _size(off.reshape(flips.shape)[flips]) > self.near * scale:
            return returned
        self.flipped += int(flips.sum())
        if name == "relu":
            return torch.where(held, args[0].abs() + TINY, 0.0)  # its backward reads from the output what was chosen
        return (values.reshape(held.shape), held) if isinstance(returned, tuple | list) else held


def _size(x: Any) -> float:
    return abs(x) if not isinstance(x, Tensor) else float(x.abs().max()) if x.numel() else 0.0


def _find_axis(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Tensor, int]:
    """Return the entries that a selection takes its indices from, and their axis."""
    if func.overloadpacket.__name__ == "max_pool2d_with_indices":
        return args[0].flatten(-2), -1
    names = [argument.name for argument in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    axis = given.get("dim", next((a.default_value for a in func._schema.arguments if a.name == "dim"), None))
    return (args[0].reshape(-1), 0) if axis is None else (args[0], axis)


def _take(entries: Tensor, axis: int, indices: Tensor) -> Tensor:
    """Return the entries at some indices; without the axis if the indices are without it."""
    if indices.dim() > entries.dim():  # of a pooled plane
        return entries.gather(axis, indices.flatten(-2)).reshape(indices.shape)
    if indices.dim() == entries.dim():
        return entries.gather(axis, indices)
    return entries.gather(axis, indices.unsqueeze(axis)).squeeze(axis)
