"""A second implementation, bound to the same inputs as the target.

Where its framework is another, every array crosses as a NumPy array on the host, half precision as float32, which holds it.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.views import _rearranged
from gradcheck.errors import BadReferenceError, TargetError, UsageError
from gradcheck.targets.framework import Kind, kind_of
from gradcheck.targets.signature import Inputs
from gradcheck.trees import tree_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from gradcheck.backends.backend import Backend
    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.targets.case import Case

PARAMETERS = "params"  # by this name a reference takes those of a module, as a hand-written gradient does
SYMBOLIC = "sympy"


def bind(case: Case, program: Program, target: Any, inputs: Inputs, own: Backend, other: Backend) -> Program:
    """The case's reference as a program of the same leaves, with the same outputs.

    Args:
        program: the target, bound to `inputs`.
        own, other: the backends of the target and of its reference.

    Raises:
        BadReferenceError: where it raises, does not take these inputs, or returns arrays of other shapes.
    """
    function, given = _function(case, target, inputs)
    if own is not other:
        args, kwargs = tree_map(lambda x: _converted(x, own, other), (given.args, given.kwargs))
        given = Inputs(args, kwargs, given.labels)
    wrt = tuple(leaf.path for leaf in program.leaves)
    asked = replace(case, fn=function, wrt=wrt, claims={}, intents=(), framework=None, upstream={}, overwrites=False)
    try:
        found = other.bind(asked, function, given)
    except (TargetError, UsageError) as error:
        told = str(error).replace("the target raised", "it raised").replace("the function raised", "it raised")
        raise BadReferenceError(f"the reference cannot be used: {told}", getattr(error, "frames", "")) from None
    return _like(program, found)


def framework_of(reference: Any, target: str, told: Callable[[Any], str]) -> str:
    """The framework whose backend evaluates a reference: what its code tells, else the target's.

    Args:
        target: that of the target.
        told: from a function to its framework; raises UsageError where nothing tells.
    """
    try:
        return told(reference)
    except UsageError:  # compiled code takes arrays of the host: Numba, ctypes, CasADi, SymPy
        return target if hasattr(reference, "__code__") else "numpy"


def _function(case: Case, target: Any, inputs: Inputs) -> tuple[Callable[..., Any], Inputs]:
    """What is called, and its inputs: with the target's parameters, where that is a module."""
    reference: Any = case.reference
    if _is_symbolic(reference):
        return _of_expression(reference, inputs), inputs
    if kind_of(target) is not Kind.MODULE:
        return reference, inputs
    if kind_of(reference) is Kind.MODULE:
        return _with_state_of(target, reference), inputs
    held = {name: t.detach() for name, t in (*target.named_parameters(), *target.named_buffers())}
    return reference, replace(inputs, kwargs={**inputs.kwargs, PARAMETERS: held})


def _with_state_of(target: Any, reference: Any) -> Any:
    """A copy of a module with the parameters and buffers of another.

    Raises:
        BadReferenceError: where it has others.
    """
    try:
        made = copy.deepcopy(reference)
        made.load_state_dict({name: t.detach().clone() for name, t in target.state_dict().items()}, assign=True)
    except Exception as error:
        told = str(error).partition("\n\t")[2] or str(error)
        raise BadReferenceError(f"the reference module cannot take the target's parameters: {told}") from None
    return made.train(target.training)


def _is_symbolic(reference: Any) -> bool:
    return type(reference).__module__.partition(".")[0] == SYMBOLIC and hasattr(reference, "free_symbols")


def _of_expression(expression: Any, inputs: Inputs) -> Callable[..., Any]:
    """A SymPy expression as a function of arrays, entry by entry; its symbols are the names of the inputs.

    Raises:
        BadReferenceError: where a symbol is none of them.
    """
    from sympy import Symbol, lambdify  # type: ignore[import-untyped]

    names = [*inputs.labels, *inputs.kwargs]
    unknown = sorted({str(symbol) for symbol in expression.free_symbols} - set(names))
    if unknown:
        raise BadReferenceError(f"the reference has the symbol {', '.join(unknown)}, and the inputs are {', '.join(names)}")
    function = lambdify([Symbol(name) for name in names], expression, "numpy")
    return lambda *args, **kwargs: function(*args, *(kwargs[name] for name in inputs.kwargs))


def _converted(x: Any, own: Backend, other: Backend) -> Any:
    """An array in the other framework: a new one on the host."""
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        return x
    return other.from_numpy(on_host(x, own))


def on_host(x: Any, backend: Backend) -> NDArray[Any]:
    """An array of a backend as a new one of NumPy's own dtypes."""
    found = np.array(backend.to_numpy(x))
    return found if found.dtype.kind in "biufc" else found.astype(np.float32)  # bfloat16 of ml_dtypes


def _like(program: Program, found: Program) -> Program:
    """The same with the target's leaves and outputs, in their order; outputs that the target detaches are left out.

    Raises:
        BadReferenceError: where one of them is missing, or has another shape.
    """
    taken, held = ({leaf.path: leaf for leaf in leaves} for leaves in (found.leaves, found.outputs))
    wanted = program.outputs
    same = len(wanted) == len(found.outputs) == 1  # whatever it is called
    chosen = found.outputs if same else tuple(held[leaf.path] for leaf in wanted if leaf.path in held)
    fits = [(a.shape, a.width) == (b.shape, b.width) for a, b in zip(wanted, chosen, strict=False)]
    if len(chosen) != len(wanted) or not all(fits):
        raise BadReferenceError(f"the reference returns {_listed(found.outputs)}, the target {_listed(wanted)}: give the same")
    if any(taken[leaf.path].shape != leaf.shape for leaf in program.leaves):
        raise BadReferenceError(f"the reference takes {_listed(found.leaves)}, the target {_listed(program.leaves)}")
    if chosen == found.outputs and found.leaves == program.leaves:
        return found
    return _rearranged(program, found, _places(taken[leaf.path] for leaf in program.leaves), _places(chosen))


def _places(leaves: Iterable[Leaf]) -> NDArray[np.intp]:
    return np.concatenate([np.arange(leaf.span.start, leaf.span.stop) for leaf in leaves])


def _listed(leaves: tuple[Leaf, ...]) -> str:
    return ", ".join(f"{leaf.path} {leaf.dtype} {leaf.shape}" for leaf in leaves) or "nothing"
