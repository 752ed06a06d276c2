"""A torch target as autograd sees it: tensors of its own dtype at the primal, and outputs with their graph."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradcheck.backends.contract_target import Layer, LayerFunction, Wrapper
from gradcheck.backends.flat import EPS
from gradcheck.backends.flat_call import Binding
from gradcheck.backends.torch.graph import find_user_functions, is_torch_class
from gradcheck.backends.torch.tensors import replace_leaves
from gradcheck.targets.location import locate_backward
from gradcheck.trees import flatten


def make_layer(
    binding: Binding,
    make_leaves: Callable[[], list[Tensor]],
    make_run: Callable[[Wrapper], Callable[..., Any]],
    returned: Any,
    target: Any,
    describe_carried_state: Callable[[], tuple[str, ...]],
    *,
    draws_random: bool,
    upstream: Mapping[int, Tensor],
) -> Layer:
    """Make the view of a target that contracts call.

    Args:
        make_leaves: () -> every leaf of the call.
        make_run: wrapper of the target's function -> ((leaves of the call, binding) -> what the target returns).
        returned: what the target returned at the primal, with its graph.
        target: the function, Function or module.
        describe_carried_state: as in `Layer`.
        draws_random: whether the target draws random numbers.
        upstream: cotangents that a model sends to the target, by place among the leaves that it returns.
    """

    def make_call(wrapper: Wrapper, values: Sequence[Any] = binding.call.leaves) -> LayerFunction:
        run = make_run(wrapper)

        def call(tensors: Sequence[Tensor]) -> list[Any]:
            leaves = replace_leaves(values, dict(zip(binding.input_places, tensors, strict=True)), twin=False)
            return list(flatten(run(leaves, binding, twin=False)).leaves)

        return call

    def with_changed_constants(change: Callable[[Tensor], Tensor]) -> LayerFunction:
        values = [
            change(x) if isinstance(x, torch.Tensor) and not path.startswith("params[") else x
            for path, x in zip(binding.call.paths, binding.call.leaves, strict=True)
        ]
        return select_outputs(make_call(_identity, values))

    def select_outputs(call_for_all: LayerFunction) -> LayerFunction:
        def call(tensors: Sequence[Tensor]) -> list[Any]:
            leaves = call_for_all(tensors)
            return [leaves[i] for i in binding.output_places]

        return call

    call_for_all, functions = make_call(_identity), find_user_functions(flatten(returned).leaves)
    return Layer(
        leaves=binding.leaves,
        outputs=binding.outputs,
        eps=max(EPS[leaf.dtype] for leaf in (*binding.leaves, *binding.outputs)),
        make_tensors=lambda: [leaves[i] for leaves in [make_leaves()] for i in binding.input_places],
        call=select_outputs(call_for_all),
        call_for_all_outputs=call_for_all,
        wrap=lambda wrapper: select_outputs(make_call(wrapper)),
        with_changed_constants=with_changed_constants,
        index_buffers=tuple(filter(_may_hold_indices, target.buffers())) if isinstance(target, torch.nn.Module) else (),
        user_functions=tuple(dict.fromkeys(function.__name__ for function in functions)),
        uses_triton=any(map(_uses_triton, functions)),
        module=target if _holds_user_module(target) else None,
        draws_random=draws_random,
        describe_carried_state=describe_carried_state,
        upstream=[upstream.get(i) for i in binding.output_places] if upstream else None,
        backward_location=locate_backward(functions[0]) if functions else None,
    )


def _identity(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _may_hold_indices(buffer: Tensor) -> bool:
    """Say whether a buffer holds integers, which may point at rows of the inputs."""
    return buffer.dim() > 0 and not (buffer.is_floating_point() or buffer.is_complex() or buffer.dtype is torch.bool)


def _holds_user_module(target: Any) -> bool:
    return isinstance(target, torch.nn.Module) and any(not is_torch_class(type(module)) for module in target.modules())


def _uses_triton(function: type) -> bool:
    """Say whether the file that defines a function imports Triton or defines a kernel of Triton."""
    loaded = "triton" in sys.modules and function.__module__ in sys.modules
    names = vars(sys.modules[function.__module__]) if loaded else {}
    modules = [x.__name__ if inspect.ismodule(x) else type(x).__module__ for x in names.values()]
    return any(module.partition(".")[0] == "triton" for module in modules)
