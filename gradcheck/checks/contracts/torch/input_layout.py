"""Value and gradient are the same whatever the inputs' form in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.backends.torch.graph import of_torch
from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.memory_layouts import FORMS, formed
from gradcheck.checks.contracts.torch.plain_vjp import Raised, Unsupported

if TYPE_CHECKING:
    from gradcheck.backends.layer_view import Layer
    from gradcheck.checks.contracts.torch.plain_vjp import Baseline

NAME = "input-layout"
MEND = "read inputs and saved tensors by their strides, or call .contiguous() first"


def broken(base: Baseline) -> str:
    """For which form of the inputs the outputs or gradients differ; '' where for none.

    Raises:
        Unsupported: where inputs of a form are refused, which is said aloud, or where it cannot be tried.
    """
    if base.layer.random:
        raise Unsupported("random numbers are drawn, which fall elsewhere in tensors of another form")
    refused, kept = "", _kept(base.layer)
    for name, form in FORMS.items():
        made = formed(base.inputs, form)
        if made is None:
            continue
        made = [x if leaf.path in kept else y for x, y, leaf in zip(base.inputs, made, base.layer.leaves, strict=True)]
        leaves = [x.detach().requires_grad_() for x in made]
        try:
            outputs = base.layer.call(leaves)
        except Exception as error:
            refused = refused or f"inputs that are {name} are refused: {type(error).__name__}"
            continue
        try:
            gradients = plain.rows(outputs, leaves, base.given())
        except Exception as error:
            raise Raised(f"with inputs that are {name}, in the backward,") from error
        told = plain.other_outputs(base, outputs) or plain.other(base, gradients)
        if told:
            return f"with inputs that are {name}, {told}"
    if refused:
        raise Unsupported(refused)
    return ""


def _kept(layer: Layer) -> set[str]:
    """Parameters of PyTorch's own modules, which lie as these made them; not all of its kernels read others rightly."""
    if layer.module is None:
        return set()
    own = [(path, module) for path, module in layer.module.named_modules() if of_torch(type(module))]
    names = [f"{path}.{name}".lstrip(".") for path, module in own for name in module._parameters]
    return {f"params[{name!r}]" for name in names}
