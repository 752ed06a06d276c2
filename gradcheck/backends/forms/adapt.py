"""From a case whose gradient is written in a form of its own to a function and a derivative that a backend can bind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradcheck.backends.flat_call import flatten_call, select_inputs
from gradcheck.backends.forms import value_and_gradient
from gradcheck.backends.forms.backward_call import read_backward
from gradcheck.backends.forms.forward_backward import (
    PlacedFunction,
    WithoutCotangent,
    copy_arguments,
    ones_like,
    rename_clashes,
    run_once,
)
from gradcheck.backends.forms.gradient_names import GradientPlan, plan_gradients, refuse_fixed_inputs
from gradcheck.backends.forms.parameters import Parameter, copy_code, list_fixed_values, name_parameters
from gradcheck.backends.forms.places import get_owner, is_floating_array
from gradcheck.backends.user_code import call_derivative, call_user_code
from gradcheck.errors import ClaimError, InputError
from gradcheck.targets.plain_class import is_plain_layer
from gradcheck.targets.signature import Inputs
from gradcheck.trees import tree_map

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

RETURNED, BACKWARD = "returned", "backward"  # kinds of claims that are adapted, besides 'gradient' and 'vjp' with parameters


@dataclass(frozen=True)
class Adapted:
    """A case in the form that a backend binds.

    Attributes:
        case: its claims are of the kinds 'gradient', 'jacobian', 'vjp' and 'jvp'.
        target: returns the outputs to differentiate.
        inputs: the parameters, then the inputs of the call.
        notes: how gradients were matched with inputs, for the report.
        unlooked: which gradients of the user were not compared; '' if all were.
    """

    case: Case
    target: Callable[..., Any]
    inputs: Inputs
    notes: tuple[str, ...] = ()
    unlooked: str = ""


def needs_adapting(case: Case, target: Any) -> bool:
    """Whether the derivative or the parameters of a case have a form that backends do not know."""
    has_method = any(_bind_method(claim, target) is not claim for claim in case.claims.values())
    return (
        case.params is not None
        or has_method
        or not {RETURNED, BACKWARD}.isdisjoint(case.claims)
        or _has_own_backward(case, target)
    )


def _bind_method(function: Any, target: Any) -> Any:
    """Bind a method that was given through its class to the object of the target; anything else stays."""
    owner = get_owner(target)
    name = getattr(function, "__name__", "")
    is_method = owner is not None and inspect.isfunction(function) and getattr(type(owner), name, None) is function
    return getattr(owner, name) if is_method else function


def _has_own_backward(case: Case, target: Any) -> bool:
    """Whether a target that was constructed from a class brings its backward with it."""
    return case.init is not None and not case.claims and is_plain_layer(getattr(target, "__self__", None))


def adapt(case: Case, target: Callable[..., Any], inputs: Inputs) -> Adapted:
    """Turn a case into the form that a backend binds; unchanged if it has it already.

    The user's objects are copied, and the function and its derivative are those of the copy.

    Raises:
        ClaimError: if what the derivative returns does not fit the inputs.
        InputError: if the parameters do not fit the target.
        TargetError: if the function raises.
    """
    if not needs_adapting(case, target):
        return Adapted(case, target, inputs)
    claims = {BACKWARD: get_owner(target).backward} if _has_own_backward(case, target) else dict(case.claims)
    claims = {kind: _bind_method(function, target) for kind, function in claims.items()}
    names = list(claims)
    originals = [target, *(target if kind == RETURNED else claims[kind] for kind in names)]
    (copied, *functions), copies = copy_code(case.name, originals)
    code = [copied, *functions]
    parameters = name_parameters(case.params, originals, code, copies) if case.params is not None else []
    parameters = rename_clashes(parameters, inputs)
    if parameters and case.reference is not None:
        raise InputError("params= and reference=: a reference does not get these arrays; leave one of both out")
    if BACKWARD in names:
        return _adapt_backward(case, copied, functions[0], parameters, inputs)
    arguments = _add_parameters(inputs, parameters)
    if RETURNED in names:
        return _adapt_returned(case, copied, parameters, arguments)
    return _adapt_plain(case, copied, dict(zip(names, functions, strict=True)), parameters, arguments)


def _adapt_plain(
    case: Case,
    target: Callable[..., Any],
    claims: Mapping[str, Callable[..., Any]],
    parameters: Sequence[Parameter],
    arguments: Inputs,
) -> Adapted:
    """Adapt a function with parameters whose derivative has one of the forms that backends know."""
    placed = PlacedFunction(target, tuple(parameters), __wrapped__=target)
    adapted, adapted_claims, plan = replace(case, params=None), dict[str, PlacedFunction](), None
    for kind, function in claims.items():
        leading = int(kind in ("vjp", "jvp"))
        claim = PlacedFunction(function, tuple(parameters), label=f"{kind}=", leading=leading, __wrapped__=function)
        if kind in ("gradient", "vjp"):
            args, kwargs = copy_arguments(arguments)
            cotangent = (tree_map(ones_like, call_user_code("the function", placed, args, kwargs)),) if leading else ()
            args, kwargs = copy_arguments(arguments)
            returned = call_derivative(f"{kind}=", claim, (*cotangent, *args), kwargs)
            plan = _plan(case, returned, arguments, f"{kind}=", complete=False)
            claim = replace(claim, pick=_Arrangement(plan, f"{kind}="))
            adapted = replace(adapted, wrt=plan.paths)
        adapted_claims[kind] = claim
    notes, unlooked = (plan.notes, plan.unlooked) if plan is not None else ((), "")
    return Adapted(replace(adapted, claims=adapted_claims), placed, arguments, notes, unlooked)


@dataclass(frozen=True)
class _Arrangement:
    """Arranges what a derivative returns by a plan."""

    plan: GradientPlan
    label: str

    def __call__(self, returned: Any) -> tuple[Any, ...]:
        return self.plan.arrange(returned, self.label)


@dataclass(frozen=True)
class _ReturnedGradients:
    """Picks the gradients of what a value-and-gradient function returns."""

    parts: value_and_gradient.ReturnedParts
    arrangement: _Arrangement

    def __call__(self, returned: Any) -> tuple[Any, ...]:
        return self.arrangement(self.parts.pick_gradients(returned))


def _adapt_returned(case: Case, function: Callable[..., Any], parameters: Sequence[Parameter], inputs: Inputs) -> Adapted:
    """Adapt a function that returns its value and its gradients."""
    label = "gradient='returned'"
    placed = PlacedFunction(function, tuple(parameters), label=label, __wrapped__=function)
    call = flatten_call(inputs)
    args, kwargs = copy_arguments(inputs)
    returned = call_user_code("the function", placed, args, kwargs, call)
    positional = zip(call.positional, inputs.labels, strict=True)
    trees = [tuple(path.removeprefix(root) for path in flat.paths) for flat, root in positional]
    parts = value_and_gradient.find_parts(returned, trees, label)
    plan = _plan(case, parts.pick_gradients(returned), inputs, label, complete=False)
    claim = replace(placed, pick=_ReturnedGradients(parts, _Arrangement(plan, label)))
    adapted = replace(case, params=None, wrt=plan.paths, claims={"gradient": claim})
    target = replace(placed, pick=parts.pick_value, label="")
    return Adapted(adapted, target, inputs, (*filter(None, [parts.note]), *plan.notes), plan.unlooked)


def _adapt_backward(
    case: Case, forward: Callable[..., Any], backward: Callable[..., Any], parameters: Sequence[Parameter], inputs: Inputs
) -> Adapted:
    """Adapt a forward with its backward: one call of the forward comes before each call of the backward."""
    label = f"backward={getattr(backward, '__qualname__', type(backward).__name__)}"
    call = read_backward(backward, (*inputs.labels, *inputs.kwargs), case.backward_takes, label)
    first = run_once(case, forward, backward, call, parameters, inputs, label)
    arguments = _add_parameters(inputs, first.parameters)
    plan = _plan(case, first.returned, arguments, label, complete=True)
    function: Callable[..., Any] = WithoutCotangent(first.both) if first.is_gradient else first.both
    parameters, leading = tuple(first.parameters), int(not first.is_gradient)
    claim = PlacedFunction(function, parameters, _Arrangement(plan, label), label, leading, __wrapped__=backward)
    target = PlacedFunction(first.forward, parameters, first.pick, __wrapped__=forward)
    adapted = replace(case, params=None, wrt=plan.paths, claims={"gradient" if first.is_gradient else "vjp": claim})
    without = f"no gradient was found for {', '.join(first.without)}" if first.without else ""
    notes = (*plan.notes, *([f"{without}, so none is checked"] if without else []))
    return Adapted(adapted, target, arguments, notes, plan.unlooked or without)


def _add_parameters(inputs: Inputs, parameters: Sequence[Parameter]) -> Inputs:
    values, paths = tuple(p.value for p in parameters), tuple(p.path for p in parameters)
    return Inputs((*values, *inputs.args), inputs.kwargs, (*paths, *inputs.labels))


def _plan(case: Case, returned: Any, inputs: Inputs, label: str, *, complete: bool) -> GradientPlan:
    """Match the gradients that were returned with the inputs, or with those that `wrt` names."""
    call = flatten_call(inputs)
    pairs = list(zip(call.paths, call.leaves, strict=True))
    table = next(((path, leaf) for path, leaf in pairs if hasattr(leaf, "to_numpy")), None)
    if table is not None:
        raise InputError(f"{table[0]} is a {type(table[1]).__name__} (give {table[0]}.to_numpy())")
    floating = [(path, leaf) for path, leaf in pairs if is_floating_array(leaf) or isinstance(leaf, float)]
    fixed = {**dict(pairs), **list_fixed_values(case.params)}
    refuse_fixed_inputs(returned, {path: x for path, x in fixed.items() if path not in dict(floating)}, label)
    if not case.wrt:
        return plan_gradients(returned, floating, label, complete=complete)
    chosen = [pairs[i] for i in select_inputs(call.paths, call.leaves, case.wrt, is_floating_array)]
    try:
        return plan_gradients(returned, chosen, label, complete=True)
    except ClaimError:  # It may return the gradients of all inputs.
        with suppress(ClaimError, ValueError):
            return plan_gradients(returned, floating, label, complete=False).select([path for path, _ in chosen])
        raise
