"""From a case whose gradient is written in a form of its own to a function and a derivative that a backend can bind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat_call import flatten_call, select_inputs
from gradcheck.backends.forms import value_and_gradient
from gradcheck.backends.forms.backward_call import BackwardCall, read_backward, split_returned
from gradcheck.backends.forms.gradient_names import GradientPlan, plan_gradients, refuse_fixed_inputs
from gradcheck.backends.forms.parameters import (
    Parameter,
    copy_code,
    find_trained_parameters,
    list_fixed_values,
    name_parameters,
)
from gradcheck.backends.forms.places import Place, find_places, get_owner, holding, is_floating_array
from gradcheck.backends.user_code import call_user_code
from gradcheck.errors import DerivativeError, InputError
from gradcheck.targets.plain_class import is_plain_layer
from gradcheck.targets.signature import Inputs
from gradcheck.trees import tree_map

if TYPE_CHECKING:
    from gradcheck.targets.case import Case

RETURNED, BACKWARD = "returned", "backward"  # kinds of claims that are adapted, besides 'gradient' and 'vjp' with parameters
ZERO_GRADIENT_NAMES = ("zero_grad", "zero_grads", "zero_gradients")  # methods that forget accumulated gradients


@dataclass(frozen=True)
class Adapted:
    """A case in the form that a backend binds.

    Attributes:
        case: its claims are of the kinds 'gradient', 'jacobian', 'vjp' and 'jvp'.
        target: returns the outputs to differentiate.
        inputs: the parameters, then the inputs of the call.
        notes: how gradients were matched with inputs, for the report.
    """

    case: Case
    target: Callable[..., Any]
    inputs: Inputs
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlacedFunction:
    """A function of its parameters and its inputs: it puts the parameters where the user's code reads them.

    Attributes:
        function: the user's code, or a part of this package that calls it.
        parameters: of the code; their values are the first arguments, after `leading` others.
        pick: takes what the function returned and returns the outputs.
        label: how messages call a derivative, such as 'backward='; '' for the target.
        leading: the number of arguments before the parameters: a cotangent.
    """

    function: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()
    pick: Callable[[Any], Any] = lambda returned: returned
    label: str = ""
    leading: int = 0
    __wrapped__: Any = field(default=None, repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function with its parameters in place, and pick the outputs."""
        if not self.parameters:
            return self.pick(self.function(*args, **kwargs))
        first = self.leading + len(self.parameters)
        values, rest = args[self.leading : first], (*args[: self.leading], *args[first:])
        places = [(place, value) for p, value in zip(self.parameters, values, strict=True) for place in p.places]
        with holding([place for place, _ in places], [value for _, value in places]):
            return self.pick(self.function(*rest, **kwargs))


@dataclass(frozen=True)
class ForwardThenBackward:
    """One call of a forward, then one of its backward.

    Attributes:
        forward, backward: the user's, bound to one object if they are methods.
        call: how the backward is called.
        names: of the forward's positional arguments.
        gradients: places in which the backward leaves gradients of parameters, by the path of the parameter.
        label: the backward, as messages call it.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    call: BackwardCall
    names: tuple[str, ...]
    gradients: Mapping[str, Place]
    label: str

    def __call__(self, cotangents: Any, *args: Any, **kwargs: Any) -> Any:
        """Return everything that the backward returns and leaves behind."""
        owner = get_owner(self.backward)
        for name in ZERO_GRADIENT_NAMES:
            if callable(getattr(owner, name, None)):
                getattr(owner, name)()
        return self.call_backward(self.forward(*args, **kwargs), cotangents, *args, **kwargs)

    def call_backward(self, forward_returned: Any, cotangents: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the backward after its forward; `args` and `kwargs` are those of the forward."""
        outputs, cache = split_returned(forward_returned, self.call, self.label)
        inputs = {**dict(zip(self.names, args, strict=False)), **kwargs}
        cotangents = cotangents if isinstance(cotangents, tuple) else (cotangents,)
        backward_args, backward_kwargs = self.call.arrange(cotangents, cache, outputs, inputs)
        returned = self.backward(*backward_args, **backward_kwargs)
        left = {path: place.read() for path, place in self.gradients.items()}
        return _join(returned, left)


def _join(returned: Any, left: Mapping[str, Any]) -> Any:
    """Join the gradients that a backward returns with those that it leaves in the object."""
    if not left:
        return returned
    if returned is None:
        return left
    if isinstance(returned, Mapping):
        return {**returned, **left}
    return (*returned, left) if isinstance(returned, tuple | list) else (returned, left)


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

    Args:
        case: the declaration.
        target: what is called.
        inputs: arrays and plain values.

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
    (copied, *functions), copies = copy_code(case.name, [target, *(target if k == RETURNED else claims[k] for k in names)])
    code = [copied, *functions]
    parameters = name_parameters(case.params, code, copies) if case.params is not None else []
    if parameters and case.reference is not None:
        raise InputError("params= and reference=: a reference does not get these arrays; leave one of both out")
    if BACKWARD in names:
        return _adapt_backward(case, copied, functions[0], parameters, inputs)
    arguments = _add_parameters(inputs, parameters)
    if RETURNED in names:
        return _adapt_returned(case, copied, parameters, arguments)
    notes: tuple[str, ...] = ()
    adapted, adapted_claims = replace(case, params=None), dict[str, PlacedFunction]()
    for kind, function in zip(names, functions, strict=True):
        leading = int(kind in ("vjp", "jvp"))
        claim = PlacedFunction(function, tuple(parameters), label=f"{kind}=", leading=leading, __wrapped__=function)
        if kind == "gradient":
            args, kwargs = _copy_arguments(arguments)
            plan = _plan(case, _call(f"{kind}=", claim, args, kwargs), arguments, f"{kind}=", complete=False)
            claim = replace(claim, pick=_Arrangement(plan, f"{kind}="))
            adapted, notes = replace(adapted, wrt=plan.paths), plan.notes
        adapted_claims[kind] = claim
    placed = PlacedFunction(copied, tuple(parameters), __wrapped__=copied)
    return Adapted(replace(adapted, claims=adapted_claims), placed, arguments, notes)


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


@dataclass(frozen=True)
class _Outputs:
    """Picks the first outputs of a forward, without its cache."""

    count: int
    is_alone: bool

    def __call__(self, returned: Any) -> Any:
        if self.is_alone:
            return returned
        return returned[0] if self.count == 1 else tuple(returned[: self.count])


def _adapt_returned(case: Case, function: Callable[..., Any], parameters: Sequence[Parameter], inputs: Inputs) -> Adapted:
    """Adapt a function that returns its value and its gradients."""
    label = "gradient='returned'"
    placed = PlacedFunction(function, tuple(parameters), label=label, __wrapped__=function)
    args, kwargs = _copy_arguments(inputs)
    returned = call_user_code("the function", placed, args, kwargs, flatten_call(inputs))
    parts = value_and_gradient.find_parts(returned, label)
    plan = _plan(case, parts.pick_gradients(returned), inputs, label, complete=False)
    claim = replace(placed, pick=_ReturnedGradients(parts, _Arrangement(plan, label)))
    adapted = replace(case, params=None, wrt=plan.paths, claims={"gradient": claim})
    target = replace(placed, pick=parts.pick_value, label="")
    return Adapted(adapted, target, inputs, (*filter(None, [parts.note]), *plan.notes))


def _adapt_backward(
    case: Case, forward: Callable[..., Any], backward: Callable[..., Any], parameters: Sequence[Parameter], inputs: Inputs
) -> Adapted:
    """Adapt a forward with its backward: one call of the forward comes before each call of the backward."""
    label = f"backward={getattr(backward, '__qualname__', type(backward).__name__)}"
    call = read_backward(backward, (*inputs.labels, *inputs.kwargs), case.backward_takes, label)
    args, kwargs = _copy_arguments(inputs)
    returned = call_user_code("the forward", forward, args, kwargs, flatten_call(inputs))
    outputs, _ = split_returned(returned, call, label)
    is_gradient = not call.cotangents or (case.backward_takes == () and _takes_default_cotangent(backward, outputs))
    if is_gradient:
        call = replace(call, roles=())
    both = ForwardThenBackward(forward, backward, call, inputs.labels, {}, label)
    first = _call(label, both.call_backward, (returned, tuple(map(_ones_like, outputs)), *args), kwargs)
    kept = [place.read() for place in find_places(get_owner(backward))]
    args, kwargs = _copy_arguments(inputs)
    call_user_code("the forward, called again as every check does,", forward, args, kwargs)
    trained = find_trained_parameters(get_owner(backward), [forward, backward], kept) if get_owner(backward) is not None else []
    parameters, gradients = _pair_gradients(parameters, trained)
    both = replace(both, gradients=gradients)
    arguments = _add_parameters(inputs, parameters)
    plan = _plan(case, _join(first, {path: place.read() for path, place in gradients.items()}), arguments, label, complete=True)
    function: Callable[..., Any] = _WithoutCotangent(both) if is_gradient else both
    claim = PlacedFunction(
        function, tuple(parameters), _Arrangement(plan, label), label, leading=int(not is_gradient), __wrapped__=backward
    )
    pick = _Outputs(len(outputs), is_alone=not isinstance(returned, tuple | list))
    target = PlacedFunction(forward, tuple(parameters), pick, __wrapped__=forward)
    adapted = replace(case, params=None, wrt=plan.paths, claims={"gradient" if is_gradient else "vjp": claim})
    return Adapted(adapted, target, arguments, plan.notes)


@dataclass(frozen=True)
class _WithoutCotangent:
    """Calls a backward that takes no cotangent: it returns the gradient of one number."""

    both: ForwardThenBackward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.both((), *args, **kwargs)


def _takes_default_cotangent(backward: Callable[..., Any], outputs: Sequence[Any]) -> bool:
    """Whether a backward of one number may be called without a cotangent, as that of a loss layer is."""
    try:
        parameters = inspect.signature(backward).parameters.values()
    except (TypeError, ValueError):
        return False
    return int(np.prod(np.shape(outputs[0]))) == 1 and all(p.default is not p.empty for p in parameters)


def _pair_gradients(parameters: Sequence[Parameter], trained: Sequence[Parameter]) -> tuple[list[Parameter], dict[str, Place]]:
    """Return the parameters, and the place of each one's gradient: the trained ones, if the user named none."""
    if not parameters:
        return list(trained), {p.path: p.gradient for p in trained if p.gradient is not None}
    by_value = {id(p.value): p.gradient for p in trained}
    pairs = {p.path: by_value.get(id(p.value)) for p in parameters}
    return list(parameters), {path: place for path, place in pairs.items() if place is not None}


def _add_parameters(inputs: Inputs, parameters: Sequence[Parameter]) -> Inputs:
    values, paths = tuple(p.value for p in parameters), tuple(p.path for p in parameters)
    return Inputs((*values, *inputs.args), inputs.kwargs, (*paths, *inputs.labels))


def _plan(case: Case, returned: Any, inputs: Inputs, label: str, *, complete: bool) -> GradientPlan:
    """Match the gradients that were returned with the inputs, or with those that `wrt` names."""
    call = flatten_call(inputs)
    pairs = list(zip(call.paths, call.leaves, strict=True))
    if case.wrt:
        places = select_inputs(call.paths, call.leaves, case.wrt, is_floating_array)
        return plan_gradients(returned, [pairs[i] for i in places], label, complete=True)
    floating = [(path, leaf) for path, leaf in pairs if is_floating_array(leaf) or isinstance(leaf, float)]
    fixed = {**dict(pairs), **list_fixed_values(case.params)}
    refuse_fixed_inputs(returned, {path: x for path, x in fixed.items() if path not in dict(floating)}, label)
    return plan_gradients(returned, floating, label, complete=complete)


def _call(label: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a derivative once; what it raises is reported as in later calls."""
    from gradcheck.interrupts import is_interrupt
    from gradcheck.tracebacks import format_user_frames, summarise_error

    try:
        return function(*args, **kwargs)
    except BaseException as error:
        if is_interrupt(error) or isinstance(error, DerivativeError):
            raise
        once = "; the forward is called once before each backward" if "backward" in label else ""
        raise DerivativeError(f"{label} raised {summarise_error(error)}{once}", format_user_frames(error)) from None


def _copy_arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = tree_map(_copy_array, (inputs.args, dict(inputs.kwargs)))
    return args, kwargs


def _copy_array(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return x.copy(order="K")
    return x.detach().clone().requires_grad_(x.requires_grad) if hasattr(x, "requires_grad_") else x


def _ones_like(x: Any) -> Any:
    return x * 0 + 1 if hasattr(type(x), "shape") else 1.0
