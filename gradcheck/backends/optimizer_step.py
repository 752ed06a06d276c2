"""One step of a user's optimiser, from float64 numbers to float64 numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat import F64, Leaf, from_flat, to_flat
from gradcheck.errors import TargetError
from gradcheck.tracebacks import format_user_frames, summarise_error

if TYPE_CHECKING:
    from numpy.typing import NDArray


def make_step(
    leaves: Sequence[Leaf], from_numpy: Callable[[NDArray[Any]], Any], to_numpy: Callable[[Any], NDArray[Any]]
) -> Callable[[Callable[..., Any], F64, F64, float], F64]:
    """Make the function (optimizer, point (N,), gradient (N,), learning rate) -> new point (N,), which computes in float64.

    Args:
        leaves: the parameters.
        from_numpy: from NumPy to the framework's arrays.
        to_numpy: back from there.
    """

    def step(optimizer: Callable[..., Any], point: F64, gradient: F64, rate: float) -> F64:
        parameters, gradients = (
            [from_numpy(from_flat(flat[leaf.span], leaf)) for leaf in leaves] for flat in (point, gradient)
        )
        try:
            if _is_torch_optimizer(optimizer):
                returned = _step_torch_optimizer(optimizer, parameters, gradients, rate)
            else:
                single = len(leaves) == 1
                arguments = (parameters[0], gradients[0]) if single else (tuple(parameters), tuple(gradients))
                returned = optimizer(*arguments, rate)
        except Exception as error:
            raise TargetError(f"the optimizer raised {summarise_error(error)}", format_user_frames(error)) from None
        if len(leaves) > 1 and not isinstance(returned, list | tuple):
            got = type(returned).__name__
            raise TargetError(f"the optimizer returned {got}: expected a tuple of the {len(leaves)} new parameters")
        parts = list(returned) if isinstance(returned, list | tuple) else [returned]
        shapes, expected = [np.shape(to_numpy(p)) for p in parts], [leaf.shape for leaf in leaves]
        if shapes != expected:
            raise TargetError(f"the optimizer returned arrays of shapes {shapes}: expected the new parameters, {expected}")
        return np.concatenate([to_flat(to_numpy(p)) for p in parts])

    return step


def _is_torch_optimizer(optimizer: Any) -> bool:
    """Recognise a class of PyTorch without loading PyTorch."""
    bases = getattr(optimizer, "__mro__", ())
    return any(base.__module__ == "torch.optim.optimizer" and base.__name__ == "Optimizer" for base in bases)


def _step_torch_optimizer(optimizer: Callable[..., Any], parameters: list[Any], gradients: list[Any], rate: float) -> list[Any]:
    """Return the parameters after one step of a class derived from `torch.optim.Optimizer`."""
    import torch  # A target of any framework may name such an optimiser; PyTorch is loaded only then.

    copies = [torch.nn.Parameter(torch.as_tensor(p).clone()) for p in parameters]
    for parameter, gradient in zip(copies, gradients, strict=True):
        parameter.grad = torch.as_tensor(gradient).clone()
    optimizer(copies, lr=rate).step()
    return [
        new.detach().numpy() if isinstance(old, np.ndarray) else new.detach()
        for new, old in zip(copies, parameters, strict=True)
    ]
