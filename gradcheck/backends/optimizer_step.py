"""One step of a user's optimiser, from float64 numbers to float64 numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat import F64, Leaf, from_flat, to_flat
from gradcheck.errors import TargetError
from gradcheck.tracebacks import one_line, user_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stepped(
    leaves: Sequence[Leaf], to_own: Callable[[NDArray[Any]], Any], to_numpy: Callable[[Any], NDArray[Any]]
) -> Callable[[Callable[..., Any], F64, F64, float], F64]:
    """Make the function (optimizer, point, gradient, learning rate) -> new point, of float64 copies.

    Args:
        to_own, to_numpy: from NumPy to the framework's arrays and back.
    """

    def step(optimizer: Callable[..., Any], point: F64, gradient: F64, rate: float) -> F64:
        given = [[to_own(from_flat(flat[o.span], o)) for o in leaves] for flat in (point, gradient)]
        try:
            if _is_torch_optimizer(optimizer):
                found = _by_torch(optimizer, given[0], given[1], rate)
            else:
                parameters, gradients = (parts[0] if len(leaves) == 1 else tuple(parts) for parts in given)
                found = optimizer(parameters, gradients, rate)
        except Exception as error:
            raise TargetError(f"the optimizer raised {one_line(error)}", user_frames(error)) from None
        if len(leaves) > 1 and not isinstance(found, list | tuple):
            got = type(found).__name__
            raise TargetError(f"the optimizer returned {got}: expected a tuple of the {len(leaves)} new parameters")
        parts = list(found) if isinstance(found, list | tuple) else [found]
        shapes = [np.shape(to_numpy(p)) for p in parts]
        if shapes != [o.shape for o in leaves]:
            raise TargetError(
                f"the optimizer returned arrays of shapes {shapes}: expected the new parameters, {[o.shape for o in leaves]}"
            )
        return np.concatenate([to_flat(to_numpy(p)) for p in parts])

    return step


def _is_torch_optimizer(optimizer: Any) -> bool:
    bases = getattr(optimizer, "__mro__", ())
    return any(c.__module__ == "torch.optim.optimizer" and c.__name__ == "Optimizer" for c in bases)


def _by_torch(optimizer: Callable[..., Any], parameters: list[Any], gradients: list[Any], rate: float) -> list[Any]:
    import torch  # for targets of any framework; loaded only where its optimiser was asked for

    held = [torch.nn.Parameter(torch.as_tensor(p).clone()) for p in parameters]
    for parameter, gradient in zip(held, gradients, strict=True):
        parameter.grad = torch.as_tensor(gradient).clone()
    optimizer(held, lr=rate).step()
    return [
        p.detach().numpy() if isinstance(given, np.ndarray) else p.detach() for p, given in zip(held, parameters, strict=True)
    ]
