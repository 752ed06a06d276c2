"""The first lines of PyTorch's `GradcheckError`, which tests match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from gradcheck.backends.flat_call import array_path, flatten_call
from gradcheck.backends.global_state import preserving
from gradcheck.compat.answer import Answer, CheckCall
from gradcheck.compat.torch.call import requires_grad
from gradcheck.compat.torch.target import copy_inputs
from gradcheck.glossary.verdicts import Reason, Verdict
from gradcheck.results import Comparison
from gradcheck.targets.framework import unwrap_apply
from gradcheck.targets.signature import resolve_inputs
from gradcheck.trees import flatten

MISMATCH = "{}Jacobian {}mismatch for output {} with respect to input {},"
FORWARD = "computed with forward mode "
IMAGINARY = "While considering the imaginary part of complex {} only, "
NOT_ZERO = "Numerical gradient for function expected to be zero"
NOT_REENTRANT = (
    "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times gives different values."
)
BATCHED = "gradcheck or gradgradcheck failed while testing batched gradient computation."
DTYPE = "Gradient has dtype mismatch"
NOT_MULTIPLIED = "backward not multiplied by grad_output"
UNDEFINED_RAISES = "Expected backward function to handle undefined output grads."
UNDEFINED_NOT_ZERO = "Expected all input grads to be undefined or zero when all output grads are undefined or zero."
UNDECIDED = "gradcheck cannot decide whether the derivative is right"
# In the order in which PyTorch checks.
BROKEN_CONTRACTS = {
    "batched-vjp": BATCHED,
    "linear-vjp": NOT_MULTIPLIED,
    "some-outputs": f"{UNDEFINED_NOT_ZERO} {UNDEFINED_RAISES}",
}
MODES = ("reverse", "forward")


def describe_failure(answer: Answer, check: CheckCall, *, of_gradient: bool) -> str:
    """Return what PyTorch would say first about a FAIL.

    Args:
        of_gradient: whether second derivatives were.
    """
    (result,) = answer.results
    broken = {contract.name: contract for contract in result.contracts if contract.verdict is Verdict.FAIL}
    if "deterministic-backward" in broken:
        return NOT_REENTRANT
    wrong = [row for row in result.comparisons if row.verdict is Verdict.FAIL and row not in answer.tolerated]
    if any(row.reason is Reason.DETACHED for row in wrong):
        return NOT_ZERO
    if wrong:
        against_evidence = [row for row in wrong if row.against not in MODES]
        return _describe_mismatch(against_evidence or wrong, check, of_gradient=of_gradient)
    texts = (f"{text}\n{broken[name].message}" for name, text in BROKEN_CONTRACTS.items() if name in broken)
    return next(texts, result.summary)


def _describe_mismatch(wrong: list[Comparison], check: CheckCall, *, of_gradient: bool) -> str:
    """Name the first output and input that are wrong by their numbers, as PyTorch does.

    Args:
        wrong: the comparisons that fail.
        of_gradient: whether the outputs are the gradients of the inputs.
    """
    inputs = check.inputs
    flat = flatten_call(resolve_inputs(unwrap_apply(check.fn), inputs, {}))
    leaves = {path: x for path, x in zip(flat.paths, flat.leaves, strict=True) if requires_grad(x)}
    input_paths = list(leaves)
    if of_gradient:
        outputs = {f"∂output/∂{path}": x for path, x in leaves.items()}
    else:
        with preserving(), torch.enable_grad():
            outputs = dict(_list_outputs(check.fn(*copy_inputs(inputs))))

    def find_place(row: Comparison) -> tuple[bool, int, int]:
        path = array_path(row.wrt)
        return row.method == "forward", _find_output(row, list(outputs)), input_paths.index(path) if path in input_paths else 0

    first = min(wrong, key=find_place)
    is_forward, output, number = find_place(first)
    sides = [x for x in inputs if requires_grad(x)] if is_forward else list(outputs.values())[output : output + 1]
    part = IMAGINARY.format("inputs" if is_forward else "outputs") if any(x.is_complex() for x in sides) else ""
    line = MISMATCH.format(part, FORWARD if is_forward else "", output, number)
    return f"{line}\nnumerical:{first.estimate:.12g}\nanalytical:{first.claimed:.12g}"


def _list_outputs(returned: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path of each differentiable output, with the output."""
    flat = flatten(returned, "output")
    yield from ((path, out) for path, out in zip(flat.paths, flat.leaves, strict=True) if requires_grad(out))


def _find_output(row: Comparison, paths: list[str]) -> int:
    """Return the number of the first output that is wrong by a comparison; 0 if it was a combination of several."""
    names = [row.output, *(entry.output for entry in (row.where.entries if row.where else ()))]
    owners = [max((path for path in paths if name.startswith(path)), key=len, default="") for name in names]
    return min((paths.index(path) for path in owners if path), default=0)
