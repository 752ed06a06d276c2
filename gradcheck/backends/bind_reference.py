"""A second implementation, bound to the same inputs as the target.

If its framework is another one, every array is passed as a NumPy array on the host, half precision as float32, which holds it.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.views import rearrange
from gradcheck.errors import BadReferenceError, TargetError, UsageError
from gradcheck.targets.framework import TargetKind, classify_target
from gradcheck.targets.signature import Inputs
from gradcheck.trees import tree_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from gradcheck.backends.backend import Backend
    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.targets.case import Case

PARAMETERS = "params"  # the argument by which a reference takes a module's parameters, like a hand-written gradient
SYMBOLIC = "sympy"
# A backend's message begins with what it binds; in a message about the reference that is "it".
SUBJECT = re.compile("^the (target|function) ")


def bind(case: Case, program: Program, target: Any, inputs: Inputs, target_backend: Backend, backend: Backend) -> Program:
    """Bind the reference of a case as a program with the same leaves and outputs as the target's.

    Args:
        case: the declaration.
        program: the target, bound to `inputs`.
        target: what is called.
        inputs: arrays and plain values.
        target_backend: the backend of the target.
        backend: the backend of the reference.

    Raises:
        BadReferenceError: if the reference raises, does not take these inputs, or returns arrays of other shapes.
    """
    function, reference_inputs = _resolve_reference(case, target, inputs)
    if backend is not target_backend:
        args, kwargs = tree_map(
            lambda x: _convert(x, target_backend, backend), (reference_inputs.args, reference_inputs.kwargs)
        )
        reference_inputs = Inputs(args, kwargs, reference_inputs.labels)
    wrt = tuple(leaf.path for leaf in program.leaves)
    reference_case = replace(case, fn=function, wrt=wrt, claims={}, intents=(), framework=None, upstream={}, overwrites=False)
    try:
        reference = backend.bind(reference_case, function, reference_inputs)
    except (TargetError, UsageError) as error:
        message = SUBJECT.sub("it ", str(error))
        raise BadReferenceError(f"the reference cannot be used: {message}", getattr(error, "frames", "")) from None
    return _arrange_like(program, reference)


def choose_framework(reference: Any, target_framework: str, infer: Callable[[Any], str]) -> str:
    """Choose the framework whose backend evaluates a reference: the one that its code shows, or else the target's.

    Args:
        reference: the second implementation.
        target_framework: that of the target.
        infer: from a function to its framework; raises UsageError if nothing shows it.
    """
    try:
        return infer(reference)
    except UsageError:  # compiled code (Numba, ctypes, CasADi, SymPy) takes arrays on the host
        return target_framework if hasattr(reference, "__code__") else "numpy"


def _resolve_reference(case: Case, target: Any, inputs: Inputs) -> tuple[Callable[..., Any], Inputs]:
    """Return what is called, and its inputs: if the target is a module, with its parameters."""
    reference: Any = case.reference
    if _is_symbolic(reference):
        return _compile_expression(reference, inputs), inputs
    if classify_target(target) is not TargetKind.MODULE:
        return reference, inputs
    if classify_target(reference) is TargetKind.MODULE:
        return _copy_with_state(reference, target), inputs
    parameters = {name: t.detach() for name, t in (*target.named_parameters(), *target.named_buffers())}
    return reference, replace(inputs, kwargs={**inputs.kwargs, PARAMETERS: parameters})


def _copy_with_state(reference: Any, target: Any) -> Any:
    """Return a copy of a reference module with the parameters and buffers of the target.

    Raises:
        BadReferenceError: if the reference has other parameters.
    """
    try:
        module = copy.deepcopy(reference)
        module.load_state_dict({name: t.detach().clone() for name, t in target.state_dict().items()}, assign=True)
    except Exception as error:
        details = str(error).partition("\n\t")[2] or str(error)
        raise BadReferenceError(f"the reference module cannot take the target's parameters: {details}") from None
    return module.train(target.training)


def _is_symbolic(reference: Any) -> bool:
    return type(reference).__module__.partition(".")[0] == SYMBOLIC and hasattr(reference, "free_symbols")


def _compile_expression(expression: Any, inputs: Inputs) -> Callable[..., Any]:
    """Make a SymPy expression a function of arrays, entry by entry; its symbols are the names of the inputs.

    Raises:
        BadReferenceError: if a symbol is not the name of an input.
    """
    from sympy import Symbol, lambdify  # type: ignore[import-untyped]

    names = [*inputs.labels, *inputs.kwargs]
    unknown = sorted({str(symbol) for symbol in expression.free_symbols} - set(names))
    if unknown:
        raise BadReferenceError(f"the reference has the symbol {', '.join(unknown)}, and the inputs are {', '.join(names)}")
    function = lambdify([Symbol(name) for name in names], expression, "numpy")
    return lambda *args, **kwargs: function(*args, *(kwargs[name] for name in inputs.kwargs))


def _convert(x: Any, from_backend: Backend, to_backend: Backend) -> Any:
    """Convert an array to another framework, as a copy on the host; return anything else as it is."""
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        return x
    return to_backend.from_numpy(copy_to_host(x, from_backend))


def copy_to_host(x: Any, backend: Backend) -> NDArray[Any]:
    """Copy an array of a backend to one of NumPy's own dtypes."""
    array = np.array(backend.to_numpy(x))
    return array if array.dtype.kind in "biufc" else array.astype(np.float32)  # bfloat16 of ml_dtypes


def _arrange_like(program: Program, reference: Program) -> Program:
    """Return the reference with the target's leaves and outputs in their order, without outputs that the target detaches.

    Raises:
        BadReferenceError: if a leaf or output is missing or has another shape.
    """
    leaves, outputs = ({leaf.path: leaf for leaf in part} for part in (reference.leaves, reference.outputs))
    has_single_output = len(program.outputs) == len(reference.outputs) == 1  # which may have any name
    chosen = reference.outputs
    if not has_single_output:
        chosen = tuple(outputs[leaf.path] for leaf in program.outputs if leaf.path in outputs)
    fits = [(a.shape, a.width) == (b.shape, b.width) for a, b in zip(program.outputs, chosen, strict=False)]
    if len(chosen) != len(program.outputs) or not all(fits):
        raise BadReferenceError(
            f"the reference returns {_list_leaves(reference.outputs)}, the target {_list_leaves(program.outputs)}:"
            " both must return the same outputs"
        )
    if any(leaves[leaf.path].shape != leaf.shape for leaf in program.leaves):
        raise BadReferenceError(
            f"the reference takes {_list_leaves(reference.leaves)}, the target {_list_leaves(program.leaves)}"
        )
    if chosen == reference.outputs and reference.leaves == program.leaves:
        return reference
    input_positions = _flat_positions(leaves[leaf.path] for leaf in program.leaves)
    return rearrange(reference, program, input_positions, _flat_positions(chosen))


def _flat_positions(leaves: Iterable[Leaf]) -> NDArray[np.intp]:
    return np.concatenate([np.arange(leaf.span.start, leaf.span.stop) for leaf in leaves])


def _list_leaves(leaves: tuple[Leaf, ...]) -> str:
    return ", ".join(f"{leaf.path} {leaf.dtype} {leaf.shape}" for leaf in leaves) or "nothing"
