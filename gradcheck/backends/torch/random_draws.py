"""Random numbers of a float64 twin: drawn in the target's own dtype, since PyTorch draws other ones in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from gradcheck.backends.torch.twin_precision import DynamoSafeMode

if TYPE_CHECKING:
    from gradcheck.backends.flat_call import Binding

# Operations that only draw. Those that also compute, such as fused dropout, would lose the precision of the twin.
SAMPLERS = ("rand", "randn", "rand_like", "randn_like", "bernoulli", "poisson", "normal")
FILLERS = ("bernoulli_", "normal_", "uniform_", "exponential_", "log_normal_", "cauchy_", "geometric_")


def draw_in_dtype(run: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    """Return a function that draws its random numbers in a dtype where it is called with `twin=True`."""

    def call(leaves: Sequence[Any], binding: Binding, *, twin: bool, **options: Any) -> Any:
        if not twin:
            return run(leaves, binding, twin=False, **options)
        with _DrawingMode(dtype):
            return run(leaves, binding, twin=True, **options)

    return call


class _DrawingMode(DynamoSafeMode):  # type: ignore[no-untyped-call]
    """Draws what is asked for in float64 in a lower dtype, and converts it."""

    def __init__(self, low: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.low = low

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        if name in FILLERS and args[0].dtype is torch.float64:
            with _disable_current_modes():
                drawn = func(torch.empty_like(args[0], dtype=self.low), *map(self._narrow, args[1:]), **kwargs)
                return args[0].copy_(drawn)
        if name in SAMPLERS and kwargs.get("dtype") in (None, torch.float64) and not _has_tensor_mean(name, args):
            takes_dtype = any(argument.name == "dtype" for argument in func._schema.arguments)
            with _disable_current_modes():
                drawn = func(*map(self._narrow, args), **{**kwargs, **({"dtype": self.low} if takes_dtype else {})})
                return drawn.to(torch.float64) if drawn.is_floating_point() else drawn
        return func(*args, **kwargs)

    def _narrow(self, value: Any) -> Any:
        return value.to(self.low) if isinstance(value, torch.Tensor) and value.dtype is torch.float64 else value


def _has_tensor_mean(name: str, args: Sequence[Any]) -> bool:
    """Say whether numbers are drawn around tensors, which a lower dtype would round."""
    return name == "normal" and any(isinstance(x, torch.Tensor) for x in args)
