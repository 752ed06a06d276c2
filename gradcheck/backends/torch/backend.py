"""The PyTorch backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from gradcheck.backends.program import Program
from gradcheck.backends.torch import devices, lazy_modules, module_state, sparse, tensors
from gradcheck.backends.torch.bind import bind
from gradcheck.backends.user_code import call_user_code
from gradcheck.errors import TargetError
from gradcheck.seeds import make_generator
from gradcheck.targets.case import Case
from gradcheck.targets.framework import TargetKind, classify_target
from gradcheck.targets.signature import Inputs

if TYPE_CHECKING:
    from gradcheck.backends.backend import Backend


INFERENCE_MODE = "checked outside of torch.inference_mode(), which surrounds the check: inside it there are no gradients"


class TorchBackend:
    """Functions on tensors, `torch.autograd.Function`s and `nn.Module`s; see `Backend` for each method."""

    def bind(self, case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
        """Bind a function, Function or module; a module's trainable parameters become leaves `params['name']`."""
        return bind(case, target, inputs)

    def construct(self, case: Case, dtype: str, *, seed: int, trial: int) -> Callable[..., Any]:
        """Build a module from its class, or a target from a factory, with parameters drawn from the seed, in `dtype`."""
        torch.manual_seed(int(make_generator(seed, case.seed_label, trial, "init").integers(2**31)))
        with tensors.using_default_dtype(getattr(torch, dtype)):
            target = call_user_code("the constructor", case.fn, (), dict(case.init or {}))
        if not callable(target):
            raise TargetError(
                f"{case.target or case.fn.__name__} returned {type(target).__name__}: expected a function or module to check"
            )
        return target.to(getattr(torch, dtype)) if classify_target(target) is TargetKind.MODULE else target  # type: ignore[no-any-return]

    def default_dtype(self, target: Any) -> str | None:
        """Return the dtype of a module's first floating parameter or buffer; None for anything else."""
        if classify_target(target) is not TargetKind.MODULE:
            return None
        floats = [t for t in (*target.parameters(), *target.buffers()) if t.dtype.is_floating_point or t.dtype.is_complex]
        return tensors.dtype_name(floats[0].dtype) if floats else None

    def from_numpy(self, array: NDArray[Any], layout: str | None = None, dtype: str | None = None) -> torch.Tensor:
        """Return a tensor of the same memory layout, or of a sparse one."""
        tensor = torch.from_numpy(array) if dtype is None else torch.from_numpy(array).to(getattr(torch, dtype))
        return tensor if layout is None else sparse.convert_to_sparse(tensor, layout)

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Return a tensor's values on the host."""
        return tensors.to_numpy(array)

    def move_to_device(self, target: Any, inputs: Inputs, device: str) -> tuple[Any, Inputs]:
        """Copy the module and the tensors that are elsewhere."""
        return devices.move_to_device(target, inputs, device)

    @contextmanager
    def restoring(self, target: Any) -> Iterator[tuple[str, ...]]:
        """Restore parameters, buffers, attributes and training flags of every module that the target can reach.

        Inference mode around the check is left meanwhile.
        """
        notes = (INFERENCE_MODE,) if torch.is_inference_mode_enabled() else ()
        with torch.inference_mode(False), module_state.restoring(target):
            yield notes

    def initialising(self, target: Any, inputs: Inputs, stream: str, *, always: bool) -> AbstractContextManager[None]:
        """Call a lazy module once, so that its parameters exist."""
        return lazy_modules.initialising(target, inputs, stream, always=always)


BACKEND: Backend = TorchBackend()
