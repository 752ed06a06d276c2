"""Modules whose gradients come from hooks on their own parameters, as those of DistributedDataParallel and FSDP do.

Such a module cannot be called with other tensors instead of its parameters: their values are set, and their gradients are
read from `.grad` after a backward pass, as an optimiser reads them.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import torch

from gradcheck.backends.torch.tensors import flat_of_all, leaf_part, leaves_at
from gradcheck.errors import InputError
from gradcheck.targets.signature import Inputs
from gradcheck.trees import leaves_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.backends.flat import F64
    from gradcheck.backends.flat_call import Binding

PARAMS = "params"  # the argument by which the wrapper takes the parameters, so that their leaves are named as usual


class Placement(Enum):
    """What a rank holds of a DTensor."""

    SHARDED = "a part of its own"
    REPLICATED = "all of it"


def needs_own_parameters(target: Any) -> bool:
    """Whether a target is a module that only works with its own parameters.

    Some parameter is a DTensor or has a hook, or some submodule is DistributedDataParallel.
    """
    if not isinstance(target, torch.nn.Module):
        return False
    has_hooks = any(p._post_accumulate_grad_hooks or p._backward_hooks for p in target.parameters())
    is_wrapped = any(isinstance(module, torch.nn.parallel.DistributedDataParallel) for module in target.modules())
    return is_wrapped or has_hooks or any(hasattr(p, "placements") for p in target.parameters())


class InPlaceModule:
    """A module as a function of its inputs and of the local parts of its trainable parameters."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}

    def find_placement(self, path: str) -> Placement | None:
        """Return what a rank holds of the parameter with a leaf's path; None if the parameter is no DTensor."""
        parameter = next(p for name, p in self.parameters.items() if path == f"{PARAMS}[{name!r}]")
        placements = getattr(parameter, "placements", None)
        if placements is None:
            return None
        return Placement.SHARDED if any(placement.is_shard() for placement in placements) else Placement.REPLICATED

    def add_parameters(self, inputs: Inputs) -> Inputs:
        """Add copies of the local parts of the parameters to some inputs."""
        parts = {name: _local(p.detach()).clone() for name, p in self.parameters.items()}
        return Inputs(inputs.args, {**inputs.kwargs, PARAMS: parts}, inputs.labels)

    def __call__(self, *args: Any, params: Mapping[str, torch.Tensor], **kwargs: Any) -> Any:
        """Call the module with these values of its parameters.

        Raises:
            InputError: if they have another dtype: hooks and buckets have that of the parameters.
        """
        with torch.no_grad():
            for name, p in self.parameters.items():
                if params[name].dtype is not p.dtype:
                    raise InputError("the parameters of such a module keep their dtype")
                _local(p.detach()).copy_(params[name])
        return self.module(*args, **kwargs)

    def evaluate_vjp(self, run: Any, binding: Binding, point: F64, cotangent: F64) -> F64:
        """Compute one vector-Jacobian product, (N,): a forward and a backward pass.

        Args:
            run: (every leaf, binding, twin=) -> what the module returns.
            binding: of the call.
            point: (N,).
            cotangent: (M,).
        """
        tensors = leaves_at(binding, point, requires_grad=True)
        self.module.zero_grad(set_to_none=True)
        with torch.enable_grad():
            outputs = leaves_of(run(tensors, binding, twin=False))
            attached = [
                (outputs[i], leaf_part(cotangent, leaf, outputs[i]))
                for i, leaf in zip(binding.output_places, binding.outputs, strict=True)
                if outputs[i].requires_grad
            ]
            torch.autograd.backward([y for y, _ in attached], [v for _, v in attached])
        gradients = {f"{PARAMS}[{name!r}]": _local_gradient(p) for name, p in self.parameters.items()}
        places = zip(binding.input_places, binding.leaves, strict=True)
        return flat_of_all([gradients.get(leaf.path, tensors[i].grad) for i, leaf in places], binding.leaves)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """Return a rank's part of a tensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _local_gradient(parameter: torch.Tensor) -> torch.Tensor | None:
    gradient: Any = parameter.grad
    if gradient is not None and hasattr(gradient, "redistribute"):  # sums that are still to be taken over the ranks
        gradient = gradient.redistribute(gradient.device_mesh, parameter.placements)  # type: ignore[attr-defined]
    return None if gradient is None else _local(gradient)
