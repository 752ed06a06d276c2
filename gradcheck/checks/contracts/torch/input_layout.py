"""Contract `input-layout`: value and gradient are the same whatever the layout of the inputs in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.backends.torch.graph import is_torch_class
from gradcheck.checks.contracts.torch.support.memory_layouts import LAYOUTS, apply_layout
from gradcheck.checks.contracts.torch.support.plain_vjp import (
    Baseline,
    NotApplicable,
    UserCodeRaised,
    compare_gradients,
    compare_outputs,
    compute_flat_vjp,
)

if TYPE_CHECKING:
    from gradcheck.backends.contract_target import Layer

NAME = "input-layout"
FIX = "read inputs and saved tensors by their strides, or call .contiguous() first"


def find_breach(base: Baseline) -> str:
    """Name the layout of the inputs for which outputs or gradients differ; '' if there is none.

    Raises:
        UserCodeRaised: if the backward raises for a layout that the forward accepts.
        NotApplicable: if the forward refuses a layout with an exception, or random numbers are drawn.
    """
    if base.layer.draws_random:
        raise NotApplicable("random numbers are drawn, and tensors of another layout get others")
    refusal, fixed_paths = "", _parameters_of_torch_modules(base.layer)
    for name, layout in LAYOUTS.items():
        tensors = apply_layout(base.inputs, layout)
        if tensors is None:
            continue
        originals = zip(base.inputs, tensors, base.layer.leaves, strict=True)
        tensors = [x if leaf.path in fixed_paths else y for x, y, leaf in originals]
        leaves = [x.detach().requires_grad_() for x in tensors]
        try:
            outputs = base.layer.call(leaves)
        except Exception as error:
            refusal = refusal or f"inputs that are {name} are refused: {type(error).__name__}"
            continue
        try:
            gradients = compute_flat_vjp(outputs, leaves, base.new_cotangents())
        except Exception as error:
            raise UserCodeRaised(f"with inputs that are {name}, in the backward,") from error
        difference = compare_outputs(base, outputs) or compare_gradients(base, gradients)
        if difference:
            return f"with inputs that are {name}, {difference}"
    if refusal:
        raise NotApplicable(refusal)
    return ""


def _parameters_of_torch_modules(layer: Layer) -> set[str]:
    """Return the paths of the parameters of PyTorch's own modules; not all of its kernels read other layouts correctly."""
    if layer.module is None:
        return set()
    modules = [(path, module) for path, module in layer.module.named_modules() if is_torch_class(type(module))]
    names = [f"{path}.{name}".lstrip(".") for path, module in modules for name in module._parameters]
    return {f"params[{name!r}]" for name in names}
