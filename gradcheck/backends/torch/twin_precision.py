"""The precision of a target's twin, and an emulation of half precision.

Code for half precision casts to float32 inside, and back. In a float64 twin such a cast would be the coarsest operation of all,
so the twin turns casts to lower dtypes into casts to float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from gradcheck.backends.flat import F64, HALF_EPS, Leaf
from gradcheck.backends.flat_call import Binding
from gradcheck.backends.torch.tensors import TWIN_DTYPES, dtype_name, flatten_outputs, leaves_at, using_default_dtype

HALF_DTYPES = tuple(getattr(torch, name) for name in HALF_EPS)
SUMS = ("add", "add_", "sub", "sub_", "sum")  # operations that may continue a sum


class DynamoSafeMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that does not make PyTorch import torch.compile, which takes seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class WideningMode(DynamoSafeMode):  # type: ignore[no-untyped-call]
    """Replaces floating dtypes among the arguments of operations by the twin's, and widens constants in half precision."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation with the twin's dtypes."""
        widened_kwargs = {name: _widen_dtype(_widen_constant(func, value)) for name, value in (kwargs or {}).items()}
        return func(*(_widen_dtype(_widen_constant(func, x)) for x in args), **widened_kwargs)


class RoundingMode(DynamoSafeMode):  # type: ignore[no-untyped-call]
    """Emulates a plain implementation in a low dtype: each operation is computed in float64, and its result is rounded.

    Tensors that the code asks for in the low dtype are float64 and rounded; float32 stays float32. A sum of many terms, added
    one by one, is rounded only when another operation uses it, as a single operation would round it.
    """

    def __init__(self, low: torch.dtype, *, every_operation: bool = False) -> None:
        """Choose how to round.

        Args:
            low: dtype to round to.
            every_operation: whether to round each partial sum, too, and to the range of the low dtype.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.low, self.every_operation, self.sums = low, every_operation, () if every_operation else SUMS
        self.splitter = 2.0 * HALF_EPS[dtype_name(low)] / torch.finfo(torch.float64).eps / 2 + 1
        self.open_sums = WeakIdKeyDictionary()  # sums that may be continued

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation on rounded tensors, and round what it returns."""
        widened_args = [self._widen_dtype(_widen_constant(func, x)) for x in args]
        widened_kwargs = {key: self._widen_dtype(_widen_constant(func, value)) for key, value in (kwargs or {}).items()}
        is_sum = func.overloadpacket.__name__ in self.sums
        if not (is_sum or func.is_view):
            for t in filter(self.open_sums.__contains__, _tensors((widened_args, tuple(widened_kwargs.values())))):
                self._round(t)
        returned = func(*widened_args, **widened_kwargs)
        for t in _tensors(returned):
            if t.dtype is torch.float64 and (is_sum or (func.is_view and widened_args[0] in self.open_sums)):
                self.open_sums[t] = True
            elif t.dtype is torch.float64 and not func.is_view:
                self._round(t)
        return returned

    def _widen_dtype(self, value: Any) -> Any:
        return torch.float64 if value is self.low else value

    def _round(self, t: torch.Tensor) -> None:
        """Round in place to the digits of the low dtype, by G. W. Veltkamp's splitting.

        The range stays that of float64, since overflow is reported elsewhere.
        """
        if t._is_zerotensor() or t.layout is not torch.strided:
            return  # Autograd keeps such zeros without memory; writing to them would crash the process.
        if self.every_operation:
            t.copy_(t.to(self.low))
            return
        split = t * self.splitter
        rounded = split - (split - t)
        t.copy_(torch.where(rounded.isfinite(), rounded, t))
        self.open_sums.pop(t, None)  # type: ignore[no-untyped-call]


def _widen_constant(func: Any, value: Any) -> Any:
    """Convert a constant in half precision to float64, as all inputs are; a tensor that is written to stays."""
    if isinstance(value, list | tuple):
        return type(value)(_widen_constant(func, x) for x in value)
    is_half_tensor = isinstance(value, torch.Tensor) and value.dtype in HALF_DTYPES
    return value.double() if is_half_tensor and not func._schema.is_mutable else value


def _tensors(values: Any) -> list[torch.Tensor]:
    """Return the tensors in nested tuples and lists."""
    if isinstance(values, torch.Tensor):
        return [values]
    return [t for value in values for t in _tensors(value)] if isinstance(values, tuple | list) else []


@contextmanager
def twin_precision(twin: bool, leaves: Sequence[Leaf]) -> Iterator[None]:
    """Make float64 the default dtype inside the context: tensors that a twin creates must be as wide as its inputs.

    Args:
        twin: whether to do so; otherwise nothing changes.
        leaves: of the target. If one is in half precision, casts inside the target lead to float64, too.
    """
    if not twin:
        yield
        return
    with using_default_dtype(torch.float64), WideningMode() if is_half(leaves) else nullcontext():  # type: ignore[no-untyped-call]
        yield


def evaluate_target(run: Callable[..., Any], binding: Binding, at: F64, *, twin: bool) -> F64:
    """Return the outputs (M,) of a target or its twin at a point (N,)."""
    with twin_precision(twin, binding.leaves):
        return flatten_outputs(run(leaves_at(binding, at, twin=twin), binding, twin=twin), binding)


@contextmanager
def emulated_half_precision(_twin: bool, leaves: Sequence[Leaf], *, every_operation: bool = False) -> Iterator[None]:
    """Compute as a plain implementation in the half-precision dtype of the leaves would.

    Args:
        leaves: of the target; one of them is in half precision.
        every_operation: whether to round each partial sum, too, and to the range of that dtype.
    """
    low = max((leaf.dtype for leaf in leaves if leaf.dtype in HALF_EPS), key=HALF_EPS.__getitem__)
    with using_default_dtype(torch.float64), RoundingMode(getattr(torch, low), every_operation=every_operation):
        yield


def is_half(leaves: Sequence[Leaf]) -> bool:
    """Say whether some of the leaves are in half precision."""
    return any(leaf.dtype in HALF_EPS for leaf in leaves)


def _widen_dtype(value: Any) -> Any:
    return TWIN_DTYPES.get(value, value) if isinstance(value, torch.dtype) else value
