"""A forward and its backward as one derivative: what they read and leave behind, and how they are called."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat_call import flatten_call, root_of
from gradcheck.backends.forms.backward_call import OUTPUT_NAMES, BackwardCall, split_returned
from gradcheck.backends.forms.parameters import (
    Parameter,
    TrainedParameters,
    find_input_gradients,
    find_trained,
    list_kept_arrays,
)
from gradcheck.backends.forms.places import Place, find_places, get_owner, holding, is_floating_array
from gradcheck.backends.user_code import call_derivative, call_user_code
from gradcheck.errors import ClaimError
from gradcheck.trees import leaves_of, tree_map

if TYPE_CHECKING:
    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs

ABSENT = object()  # stands for an attribute that is not there
ZERO_GRADIENT_NAMES = ("zero_grad", "zero_grads", "zero_gradients")  # methods that forget accumulated gradients


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
        fresh: what these places held before the first backward, or ABSENT: it is put back before each forward.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    call: BackwardCall
    names: tuple[str, ...]
    gradients: Mapping[str, Place]
    label: str
    fresh: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, cotangents: Any, *args: Any, **kwargs: Any) -> Any:
        """Return everything that the backward returns and leaves behind."""
        owner = get_owner(self.backward)
        for name in ZERO_GRADIENT_NAMES:
            if callable(getattr(owner, name, None)):
                getattr(owner, name)()
        for path, value in self.fresh.items():
            _put_back(self.gradients[path], value)
        return self.call_backward(self.forward(*args, **kwargs), cotangents, *args, **kwargs)

    def call_backward(self, forward_returned: Any, cotangents: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the backward after its forward; `args` and `kwargs` are those of the forward."""
        outputs, cache = split_returned(forward_returned, self.call, self.label)
        inputs = {**dict(zip(self.names, args, strict=False)), **kwargs}
        cotangents = cotangents if isinstance(cotangents, tuple) else (cotangents,)
        backward_args, backward_kwargs = self.call.arrange(cotangents, cache, outputs, inputs)
        returned = self.backward(*backward_args, **backward_kwargs)
        return _join(returned, read_gradients(get_owner(self.backward), self.gradients))


def read_gradients(owner: Any, gradients: Mapping[str, Place]) -> dict[str, Any]:
    """Read the gradients that a backward left in an object; it may have made a new container for them."""
    is_in_container = any(not place.is_attribute for place in gradients.values())
    now = {place.path: place for place in find_places(owner)} if is_in_container else {}
    places = {path: place if place.is_attribute else now.get(place.path, place) for path, place in gradients.items()}
    return {path: place.read() for path, place in places.items()}


def _put_back(place: Place, value: Any) -> None:
    if value is ABSENT:
        place.remove()
    else:
        place.write(copy.copy(value))


def _join(returned: Any, left: Mapping[str, Any]) -> Any:
    """Join the gradients that a backward returns with those that it leaves in the object."""
    if not left:
        return returned
    if returned is None:
        return left
    if isinstance(returned, Mapping):
        return {**returned, **left}
    return (*returned, left) if isinstance(returned, tuple | list) else (returned, left)


@dataclass(frozen=True)
class Outputs:
    """Picks the first outputs of a forward, without its cache."""

    count: int
    is_alone: bool

    def __call__(self, returned: Any) -> Any:
        """Return the output, or a tuple of several."""
        if self.is_alone:
            return returned
        return returned[0] if self.count == 1 else tuple(returned[: self.count])


def rename_clashes(parameters: Sequence[Parameter], inputs: Inputs) -> list[Parameter]:
    """Put `self.` before the path of a parameter that begins with the name of an input."""
    names = {*inputs.labels, *inputs.kwargs}
    return [replace(p, path=f"self.{p.path}") if root_of(p.path) in names else p for p in parameters]


@dataclass(frozen=True)
class OutputInObject:
    """A forward that returns nothing and leaves its output in an attribute of its object."""

    function: Callable[..., Any]
    owner: Any
    name: str

    def read(self) -> Any:
        """Return the output of the latest call."""
        return getattr(self.owner, self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the forward and return its output."""
        self.function(*args, **kwargs)
        return self.read()


def _read_output_from_object(forward: Callable[..., Any], owner: Any, label: str) -> OutputInObject:
    """Find the attribute in which a forward leaves its output.

    Raises:
        ClaimError: if there is none.
    """
    name = next((name for name in OUTPUT_NAMES if is_floating_array(getattr(owner, name, None))), None)
    if name is None:
        raise ClaimError(
            f"the forward returned None, and {type(owner).__name__} has no {' or '.join(OUTPUT_NAMES)}: return the output that"
            f" {label} differentiates"
        )
    return OutputInObject(forward, owner, name)


@dataclass(frozen=True)
class FirstRun:
    """What one call of a forward and its backward shows.

    Attributes:
        both: calls forward and backward.
        forward: returns the output, also if the user's leaves it in the object.
        parameters: of their object, or those that the user named.
        returned: what the backward returned and left behind.
        is_gradient: whether the backward takes no cotangent.
        pick: takes what the forward returns and returns the outputs.
        without: paths of arrays of the object that the output depends on, and that have no gradient.
    """

    both: ForwardThenBackward
    forward: Callable[..., Any]
    parameters: list[Parameter]
    returned: Any
    is_gradient: bool
    pick: Outputs
    without: tuple[str, ...]


def run_once(
    case: Case,
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    call: BackwardCall,
    parameters: Sequence[Parameter],
    inputs: Inputs,
    label: str,
) -> FirstRun:
    """Call a forward once and its backward once, and find what they read and leave behind."""
    owner = get_owner(backward)
    before = list_kept_arrays(owner)
    places = {(id(p.holder), p.key): _copy_array(p.read()) for p in find_places(owner)}
    args, kwargs = copy_arguments(inputs)
    with _copies_in_place(parameters):
        returned = call_user_code("the forward", forward, args, kwargs, flatten_call(inputs))
        if returned is None and owner is not None:
            forward = _read_output_from_object(forward, owner, label)
            returned = forward.read()
        outputs, _ = split_returned(returned, call, label)
        is_gradient = not call.cotangents or (case.backward_takes == () and _takes_default_cotangent(backward, outputs))
        if is_gradient and int(np.prod(np.shape(outputs[0]))) != 1:
            raise ClaimError(
                f"{label} takes no gradient of the output, which has shape {np.shape(outputs[0])}: name its first parameter"
                " dout, or say in backward_takes= what it takes"
            )
        call = call.without_cotangents() if is_gradient else call
        both = ForwardThenBackward(forward, backward, call, inputs.labels, {}, label)
        cotangents = tuple(map(ones_like, outputs))
        once = "; the forward is called once before each backward"
        first = call_derivative(label, both.call_backward, (returned, cotangents, *args), kwargs, lambda _: once)
        args, kwargs = copy_arguments(inputs)
        again = call_user_code("the forward, called again as every check does,", forward, args, kwargs)
    is_alone = not isinstance(returned, tuple | list)
    pick = Outputs(len(outputs), is_alone=is_alone)

    def depends_on(place: Place) -> bool:
        with holding([place], [place.read() * 1.5 + 0.5]):
            args, kwargs = copy_arguments(inputs)
            moved = call_user_code("the forward", forward, args, kwargs)
        return not all(map(_are_equal, leaves_of(pick(moved)), leaves_of(pick(again))))

    trained = find_trained(owner, [forward, backward], before, depends_on) if owner is not None else TrainedParameters()
    without = () if parameters or case.wrt else trained.without
    parameters, gradients = _pair_gradients(parameters, trained.parameters)
    parameters = rename_clashes(parameters, inputs)
    if first is None and owner is not None:
        floating = [name for name, value in zip(inputs.labels, inputs.args, strict=True) if is_floating_array(value)]
        gradients = {**gradients, **find_input_gradients(owner, floating)}
    attributes = {path: place for path, place in gradients.items() if place.is_attribute}
    fresh = {path: places.get((id(place.holder), place.key), ABSENT) for path, place in attributes.items()}
    both = replace(both, gradients=gradients, fresh=fresh)
    return FirstRun(both, forward, parameters, _join(first, read_gradients(owner, gradients)), is_gradient, pick, without)


@contextmanager
def _copies_in_place(parameters: Sequence[Parameter]) -> Iterator[None]:
    """Put copies of the parameters in their places, so that code which writes to them does not change them."""
    pairs = [(place, _copy_array(parameter.value)) for parameter in parameters for place in parameter.places]
    with holding([place for place, _ in pairs], [value for _, value in pairs]):
        yield


def _are_equal(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


@dataclass(frozen=True)
class WithoutCotangent:
    """Calls a backward that takes no cotangent: it returns the gradient of one number."""

    both: ForwardThenBackward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the gradients at some inputs."""
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


def copy_arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Copy the arrays of a call, so that the user's own cannot be changed."""
    args, kwargs = tree_map(_copy_array, (inputs.args, dict(inputs.kwargs)))
    return args, kwargs


def _copy_array(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return x.copy(order="K")
    return x.detach().clone().requires_grad_(x.requires_grad) if hasattr(x, "requires_grad_") else x


def ones_like(x: Any) -> Any:
    """Return an array of ones like another, or the number 1."""
    return x * 0 + 1 if hasattr(type(x), "shape") else 1.0
