"""Value and gradient are the same whatever the inputs' form in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.checks.contracts import baseline as plain
from gradcheck.checks.contracts.baseline import Raised, Unsupported
from gradcheck.checks.contracts.layouts import FORMS, formed

if TYPE_CHECKING:
    from gradcheck.checks.contracts.baseline import Baseline

NAME = "input-layout"
MEND = "read inputs and saved tensors by their strides, or call .contiguous() first"


def broken(base: Baseline) -> str:
    """For which form of the inputs the outputs or gradients differ; '' where for none.

    Raises:
        Unsupported: where inputs of a form are refused, which is said aloud, or where it cannot be tried.
    """
    if base.layer.random:
        raise Unsupported("random numbers are drawn, which fall elsewhere in tensors of another form")
    refused = ""
    for name, form in FORMS.items():
        made = formed(base.inputs, form)
        if made is None:
            continue
        leaves = [x.requires_grad_() for x in made]
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
