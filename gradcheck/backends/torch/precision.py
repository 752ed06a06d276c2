"""What a target in half precision computes apart from rounding: its casts to other dtypes lead to float64, in its twin.

Code for half precision casts to float32 inside, and back. In a float64 twin that would be the coarsest step of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from gradcheck.backends.flat import HALF, Leaf
from gradcheck.backends.torch.tensors import WIDE, default_of, name_of

LOW = tuple(getattr(torch, name) for name in HALF)
SUMS = ("add", "add_", "sub", "sub_", "sum")  # what a sum is continued by


class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that is nothing to torch.compile, whose import takes seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class Widening(Mode):  # type: ignore[no-untyped-call]
    """Every operation that is asked for a floating dtype gets the wide one, and constants in half precision are widened."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation with wide dtypes."""
        widened = {name: _wide(_constant(func, value)) for name, value in (kwargs or {}).items()}
        return func(*(_wide(_constant(func, x)) for x in args), **widened)


class Rounding(Mode):  # type: ignore[no-untyped-call]
    """A plain implementation in a low dtype, in float64 numbers: each operation is exact, and its result is rounded.

    What is asked for in the low dtype is float64 and rounded; float32 stays what it is. A sum of many terms, added one by one,
    is rounded once it is used for something else, as one operation would do it.
    """

    def __init__(self, low: torch.dtype, *, every: bool = False) -> None:
        """Say how to round.

        Args:
            every: also each partial sum, and to the range of the low dtype.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.low, self.every, self.sums = low, every, () if every else SUMS
        self.splitter = 2.0 * HALF[name_of(low)] / torch.finfo(torch.float64).eps / 2 + 1
        self.open = WeakIdKeyDictionary()  # sums that may go on

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation on what is rounded, and round what it returns."""
        name, given = func.overloadpacket.__name__, [self._low(_constant(func, x)) for x in args]
        told = {key: self._low(_constant(func, value)) for key, value in (kwargs or {}).items()}
        summing = name in self.sums
        if not (summing or func.is_view):
            for t in filter(self.open.__contains__, _tensors((given, tuple(told.values())))):
                self._round(t)
        found = func(*given, **told)
        for t in _tensors(found):
            if t.dtype is torch.float64 and (summing or (func.is_view and given[0] in self.open)):
                self.open[t] = True
            elif t.dtype is torch.float64 and not func.is_view:
                self._round(t)
        return found

    def _low(self, value: Any) -> Any:
        return torch.float64 if value is self.low else value

    def _round(self, t: torch.Tensor) -> None:
        """To as many digits, by G. W. Veltkamp's splitting; the range stays that of float64, as overflow is told elsewhere."""
        if t._is_zerotensor() or t.layout is not torch.strided:
            return  # zeros that autograd keeps without memory: to write there ends the process
        if self.every:
            t.copy_(t.to(self.low))
            return
        wide = t * self.splitter
        rounded = wide - (wide - t)
        t.copy_(torch.where(rounded.isfinite(), rounded, t))
        self.open.pop(t, None)  # type: ignore[no-untyped-call]


def _constant(func: Any, value: Any) -> Any:
    """A constant in half precision as float64, as all inputs are; what is written to stays what it is."""
    if isinstance(value, list | tuple):
        return type(value)(_constant(func, x) for x in value)
    low = isinstance(value, torch.Tensor) and value.dtype in LOW
    return value.double() if low and not func._schema.is_mutable else value


def _tensors(values: Any) -> list[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        return [values]
    return [t for value in values for t in _tensors(value)] if isinstance(values, tuple | list) else []


@contextmanager
def wide_default(wide: bool, leaves: Sequence[Leaf]) -> Iterator[None]:
    """Make float64 the default dtype for a while, if asked for: what a twin creates inside must be as wide as its inputs.

    Args:
        leaves: of the target; where one is in half precision, casts inside lead to float64, too.
    """
    if not wide:
        yield
        return
    with default_of(torch.float64), Widening() if is_half(leaves) else nullcontext():  # type: ignore[no-untyped-call]
        yield


@contextmanager
def plainly(_wide: bool, leaves: Sequence[Leaf], *, every: bool = False) -> Iterator[None]:
    """Compute as a plain implementation in the low dtype of the leaves would.

    Args:
        every: round each partial sum, too, and to the range of that dtype.
    """
    low = max((leaf.dtype for leaf in leaves if leaf.dtype in HALF), key=HALF.__getitem__)
    with default_of(torch.float64), Rounding(getattr(torch, low), every=every):
        yield


def is_half(leaves: Sequence[Leaf]) -> bool:
    """Whether some of the leaves are in half precision."""
    return any(leaf.dtype in HALF for leaf in leaves)


def _wide(value: Any) -> Any:
    return WIDE.get(value, value) if isinstance(value, torch.dtype) else value
