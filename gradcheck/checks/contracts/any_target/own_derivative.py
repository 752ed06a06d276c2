"""Contract `own-derivative`: a derivative that the user wrote is compared, if there is one."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from gradcheck.backends.flat import Leaf
from gradcheck.backends.forms.gradient_words import strip_marks
from gradcheck.backends.forms.places import get_owner
from gradcheck.results import Contract, Verdict
from gradcheck.targets.case import Case
from gradcheck.targets.discover import find_backward
from gradcheck.targets.framework import TargetKind, classify_target, unwrap_target

if TYPE_CHECKING:
    from gradcheck.backends.program import Program

NAME = "own-derivative"
HEAD = "no derivative of yours was checked"
SUFFIXES = ("grad", "gradient", "der", "derivative", "prime", "jac", "vjp", "backward")
PREFIXES = ("grad_", "gradient_", "d_", "d")


def report_unlooked(unlooked: str) -> tuple[Contract, ...]:
    """Report gradients of the user that were returned or left behind, and not compared; () if all were."""
    return (Contract(NAME, Verdict.INCONCLUSIVE, f"not all of your derivatives were checked: {unlooked}"),) if unlooked else ()


def check_own_derivative(case: Case, target: Any, program: Program, *, has_rows: bool) -> list[Contract]:
    """Say which derivative of the user was not compared, and with which option it would be; [] if there is none.

    Args:
        program: the target bound to its inputs.
        has_rows: whether anything was compared.
    """
    if case.claims or classify_target(target) is not TargetKind.FUNCTION:
        return []
    why = _find_backward_beside(case, target) or _find_returned_gradient(program)
    is_traced = has_rows and all(claim.derived for claim in program.claims) and not program.has_written_derivative
    if not why and is_traced and case.reference is None:
        why = _find_gradient_beside(case, target) or (
            "only PyTorch's derivative of the traced code was compared with differences; give gradient=, vjp= or backward="
        )
    return [Contract(NAME, Verdict.INCONCLUSIVE, f"{HEAD}: {why}")] if why else []


def _find_backward_beside(case: Case, target: Any) -> str:
    """Name the backward of the target's object, or the one beside a forward in its module."""
    owner = get_owner(target)
    if owner is not None and not hasattr(type(owner), "shape") and callable(getattr(owner, "backward", None)):
        name = type(owner).__name__
        is_framework = classify_target(owner) is not TargetKind.FUNCTION
        return "" if is_framework else f"{name} has a backward; give backward=...backward, or the {name} itself as the target"
    backward = find_backward(_module_of(target), unwrap_target(target))
    return (
        f"{backward.__name__} stands beside it; give backward={backward.__name__}{_flag(case, 'backward', backward)}"
        if backward
        else ""
    )


def _find_gradient_beside(case: Case, target: Any) -> str:
    """Name a function beside the target whose name says that it is its gradient."""
    function, module = unwrap_target(target), _module_of(target)
    name = getattr(function, "__name__", "")
    names = [*(f"{name}_{suffix}" for suffix in SUFFIXES), *(f"{prefix}{name}" for prefix in PREFIXES)]
    values = (getattr(module, candidate, None) for candidate in names)
    found = next((value for value in values if inspect.isfunction(value) and _parameters(value) == _parameters(function)), None)
    if found is None:
        return ""
    return f"{found.__name__} stands beside it; give gradient={found.__name__}{_flag(case, 'gradient', found)}"


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _module_of(target: Any) -> Any:
    return sys.modules.get(getattr(unwrap_target(target), "__module__", None) or "")


def _flag(case: Case, option: str, function: Any) -> str:
    """Return the option of the command line, if the target was named there."""
    module, colon, _ = case.target.rpartition(":")
    return f" (--{option} {module}:{function.__name__})" if colon else ""


def _find_returned_gradient(program: Program) -> str:
    """Name an output that looks like the gradient of another: by its name, or in NumPy by its shape."""
    if len(program.outputs) < 2:
        return ""
    first = program.outputs[0]
    for output in program.outputs:
        named = next((leaf for leaf in program.leaves if _is_named_after(output, leaf)), None)
        shaped = next((leaf for leaf in program.leaves if leaf.shape == output.shape and leaf.shape), None)
        may_be_gradient = output is not first and first.entries == 1 and program.framework == "numpy"
        leaf = named or (shaped if may_be_gradient else None)
        if leaf is not None:
            return (
                f"{output.path} looks like the gradient with respect to {leaf.path}, and was differentiated as an output;"
                " give gradient='returned' (--gradient returned)"
            )
    return ""


def _is_named_after(output: Leaf, leaf: Leaf) -> bool:
    """Whether the last name of an output is that of an input with a mark of a gradient, such as `dw` for `w`."""
    if "'" not in output.path:
        return False
    name, input_name = (path.rstrip("']").rpartition("'")[2].rpartition(".")[2] for path in (output.path, leaf.path))
    return output.shape == leaf.shape and input_name in strip_marks(name)
