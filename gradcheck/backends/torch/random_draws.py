"""Random numbers of a float64 twin: drawn in the target's own dtype, since PyTorch draws other ones in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from gradcheck.backends.torch.tensors import TWIN_DTYPES
from gradcheck.backends.torch.twin_precision import DynamoSafeMode

if TYPE_CHECKING:
    from gradcheck.backends.flat_call import Binding

# Operations that only draw. Those that also compute, such as fused dropout, would lose the precision of the twin.
SAMPLERS = ("rand", "randn", "rand_like", "randn_like", "bernoulli", "poisson", "normal")
FILLERS = ("bernoulli_", "normal_", "uniform_", "exponential_", "log_normal_", "cauchy_", "geometric_")


def draw_as_target(run: Callable[..., Any], leaves: Sequence[Any], binding: Binding) -> Callable[..., Any]:
    """Return a function that draws in the target's own dtypes where it is called with `twin=True`.

    Args:
        run: (leaves of the call, binding, twin=) -> what the target returns. It draws the same numbers on every call.
    """
    recording = _DrawingMode()
    with recording:
        run(leaves, binding, twin=False)
    dtypes = recording.dtypes
    if all(dtype not in TWIN_DTYPES for dtype in dtypes):
        return run

    def call(leaves: Sequence[Any], binding: Binding, *, twin: bool, **options: Any) -> Any:
        if not twin:
            return run(leaves, binding, twin=False, **options)
        with _DrawingMode(dtypes):
            return run(leaves, binding, twin=True, **options)

    return call


class _DrawingMode(DynamoSafeMode):  # type: ignore[no-untyped-call]
    """Records the dtype of every draw; or draws in the recorded dtypes, and converts the numbers to float64.

    Attributes:
        dtypes: of the draws so far.
    """

    def __init__(self, wanted: Sequence[torch.dtype] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wanted, self.dtypes = wanted, list[torch.dtype]()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation; a draw in the next of the wanted dtypes."""
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        if name not in (*SAMPLERS, *FILLERS) or _has_tensor_mean(name, args):
            return func(*args, **kwargs)
        count = len(self.dtypes)
        low = self.wanted[count] if count < len(self.wanted) else None
        drawn = func(*args, **kwargs) if low not in TWIN_DTYPES else _draw_in_dtype(func, name, args, kwargs, low)
        self.dtypes.append(drawn.dtype)
        return drawn


def _draw_in_dtype(func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], low: torch.dtype) -> torch.Tensor:
    """Call an operation that draws in a lower dtype, outside of all modes, and convert the numbers."""
    first, *others = (x.to(low) if isinstance(x, torch.Tensor) and x.dtype is torch.float64 else x for x in args)
    if any(argument.name == "dtype" for argument in func._schema.arguments):
        kwargs = {**kwargs, "dtype": low}
    with _disable_current_modes():
        if name in FILLERS:
            return args[0].copy_(func(torch.empty_like(args[0], dtype=low), *others, **kwargs))  # type: ignore[no-any-return]
        return func(first, *others, **kwargs).to(torch.float64)  # type: ignore[no-any-return]


def _has_tensor_mean(name: str, args: Sequence[Any]) -> bool:
    """Say whether numbers are drawn around tensors, which a lower dtype would round."""
    return name == "normal" and any(isinstance(x, torch.Tensor) for x in args)
