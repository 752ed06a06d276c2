"""A case: one target with everything that says how to check it."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from gradcheck import sweeps
from gradcheck.errors import UsageError
from gradcheck.results import Intent
from gradcheck.targets.dependence import Dependence, DependsArgument, parse_depends
from gradcheck.targets.intent import NamesWithReasons, parse_intents
from gradcheck.targets.notebook import CLASS_PLACES

CASES_ATTRIBUTE = "__gradcheck_cases__"  # holds the cases declared on a function or class
CLAIM_KINDS = ("gradient", "jacobian", "vjp", "jvp", "backward")  # the keywords that take a hand-written derivative
T = TypeVar("T", bound=Callable[..., Any])
Place = tuple[str | None, int | None]  # a file and a line
_places: WeakKeyDictionary[type, Place] = WeakKeyDictionary()  # of classes, which are not kept alive


@dataclass(frozen=True)
class Case:
    """One target and how to check it.

    Attributes:
        name: unique within a run.
        fn: function, autograd.Function subclass, nn.Module or nn.Module class.
        args, kwargs: inputs by position and by name: pytrees of arrays, specs and plain values.
        declared_args, declared_kwargs: the declared inputs, if a user gave others; they fill parameters without a new input.
        claims: hand-written derivatives by kind: 'gradient', 'jacobian', 'vjp', 'jvp', 'backward'; 'returned' if the function
            returns its gradients with its value.
        backward_takes: what the parameters of `backward` take, in their order; (): inferred from their names.
        params: where the target reads its parameters: a container, an object, or paths of attributes; None: it has none.
        reference: a trusted second implementation, which takes the same inputs as arrays of its own framework.
        init: arguments that construct the target from `fn` (a class or a factory); None: `fn` is the target.
        wrt: names or leaf paths to differentiate with respect to; None: every floating or complex leaf, and parameters.
        framework: 'numpy', 'torch' or 'jax'; None: inferred from the inputs and the code.
        expect: 'pass', 'fail', 'straight-through' or 'unbiased'; `because` says why.
        intents: everything that the user declared as intended, with the reasons.
        depends: what outputs may depend on, as declared.
        options: overrides of the run's options.
        target: the text that names the target on the command line; '' if it has none.
        command: the target with the options of the command line, for commands to paste; '' if it was not named there.
        file, line: where the target is defined; None if Python does not know.
        upstream: for a layer inside a model, the cotangent that the model sends to each leaf of the output, by its index.
        overwrites: for a layer inside a model, whether it writes to its input there, as ReLU(inplace=True) does.
        sweep: for a cell of a grid, the value of each axis: 'dtype', 'seed' or a named size.
        step: for a training step, overrides of the arguments of `gradcheck.step`, which `fn` returns; None for a derivative.
    """

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    declared_args: tuple[Any, ...] = ()
    declared_kwargs: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    backward_takes: tuple[str, ...] = ()
    params: Any = None
    reference: Any = None
    init: Mapping[str, Any] | None = None
    wrt: tuple[str, ...] | None = None
    framework: str | None = None
    expect: str = "pass"
    because: str = ""
    intents: tuple[Intent, ...] = ()
    depends: tuple[Dependence, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""
    command: str = ""
    file: str | None = None
    line: int | None = None
    upstream: Mapping[int, Any] = field(default_factory=dict)
    overwrites: bool = False
    sweep: Mapping[str, str | int] = field(default_factory=dict)
    step: Mapping[str, Any] | None = None

    @property
    def values(self) -> tuple[Any, ...]:
        """All inputs, both given and declared."""
        return (*self.args, *self.kwargs.values(), *self.declared_args, *self.declared_kwargs.values())

    @property
    def detached(self) -> tuple[str, ...]:
        """Names and leaf paths whose gradient must be exactly zero, or None."""
        return tuple(intent.subject for intent in self.intents if intent.kind == "detached")

    @property
    def option_overrides(self) -> dict[str, Any]:
        """Overrides of the run's options, including those that an intent implies."""
        kinds = {intent.kind for intent in self.intents}
        implied = {"straight_through": "straight-through", "unbiased": "unbiased", "nondeterministic": "nondeterministic"}
        return {**self.options, **{option: True for option, kind in implied.items() if kind in kinds}}

    @property
    def seed_label(self) -> str:
        """The label that seeds derive from: the name without a folder, so that every machine draws the same inputs.

        The cells of a grid share it, so that two dtypes are compared at the same inputs.
        """
        return self.base_name.replace("\\", "/").rpartition("/")[2]

    @property
    def base_name(self) -> str:
        """The name of the case that this one is a cell of; its own name if it is none."""
        return sweeps.strip_cell(self.name) if self.sweep else self.name


def case(
    *args: Any,
    inputs: Mapping[str, Any] | None = None,
    gradient: Callable[..., Any] | str | bool | None = None,
    jacobian: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    backward: Callable[..., Any] | None = None,
    backward_takes: str | tuple[str, ...] = (),
    params: Any = None,
    reference: Any = None,
    init: Mapping[str, Any] | None = None,
    wrt: str | tuple[str, ...] | None = None,
    framework: str | None = None,
    expect: str = "pass",
    because: str = "",
    detached: NamesWithReasons = (),
    tolerates: NamesWithReasons = (),
    nondeterministic: str = "",
    depends: DependsArgument = (),
    name: str = "",
    options: Mapping[str, Any] | None = None,
    **specs: Any,
) -> Callable[[T], T]:
    """Declare a target next to its code: `@gradcheck.case(x=normal(4, 3), w=normal(3), gradient=mse_gradient)`.

    The function or class is returned unchanged; `gradcheck run module` finds the declaration. Declarations may be stacked.

    Args:
        *args: inputs by position: specs, arrays or plain values.
        inputs: inputs by name, for names that collide with the arguments here.
        gradient, jacobian, vjp, jvp, backward: hand-written derivatives, as for `gradcheck.check`.
        backward_takes, params: as for `gradcheck.check`. If the function has a parameter `params`, that is an input.
        reference: a second implementation, as for `gradcheck.check`.
        init: arguments that construct the target, for an nn.Module class or a factory.
        wrt: names or leaf paths to differentiate with respect to.
        framework: 'numpy', 'torch' or 'jax', if neither the arrays nor the code show it.
        expect: 'fail' for a case that must fail, 'straight-through' for a backward that replaces a derivative of zero,
            'unbiased' for a gradient that is right on average over the random numbers drawn.
        because: the reason, shown in the report. Every declaration needs this reason, or one of its own.
        detached: torch or JAX inputs whose gradient must be exactly zero, or None: names, or names with reasons.
        tolerates: contracts that may be broken, and reasons for an INCONCLUSIVE result that are no fault: names, or names
            with reasons.
        nondeterministic: why the function returns another value on every call. The differences then count as noise.
        depends: what outputs may depend on, as for `gradcheck.check`.
        name: name of this declaration, if a target has several.
        options: overrides such as {'trials': 5, 'rtol': 1e-6}. A list of dtypes, seeds or sizes makes a grid of cases.
        **specs: inputs by name.

    Raises:
        UsageError: if `expect`, a contract or an option is unknown, or a reason is missing.
    """
    intents = parse_intents(
        expect=expect, because=because, detached=detached, tolerates=tolerates, nondeterministic=nondeterministic
    )
    dependences, options = parse_depends(depends), sweeps.read_options(options or {})

    def declare(target: T) -> T:
        if not hasattr(target, "__dict__"):
            raise UsageError(f"{target!r} cannot carry a case: wrap it in a function of your own and declare that")
        # A function with a parameter of this name has it as an input, as `def loss(params, x)` does.
        is_input = params is not None and _takes(target, "params")
        declared_case = Case(
            name=name,
            fn=target,
            args=args,
            kwargs={**(inputs or {}), **specs, **({"params": params} if is_input else {})},
            claims=collect_claims(gradient=gradient, jacobian=jacobian, vjp=vjp, jvp=jvp, backward=backward),
            backward_takes=split_names(backward_takes),
            params=None if is_input else params,
            reference=validate_reference(reference),
            init=init,
            wrt=(wrt,) if isinstance(wrt, str) else wrt,
            framework=framework,
            expect=expect,
            because=because,
            intents=intents,
            depends=dependences,
            options=options,
        )
        setattr(target, CASES_ATTRIBUTE, (*vars(target).get(CASES_ATTRIBUTE, ()), declared_case))
        return target

    return declare


def _takes(target: Any, name: str) -> bool:
    """Whether a function has a parameter of a name."""
    try:
        return name in inspect.signature(target).parameters
    except (TypeError, ValueError):
        return False


def split_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return names as a tuple; a text holds them with commas in between."""
    return tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else tuple(names)


def gradient_is_returned(*args: Any, **kwargs: Any) -> Any:
    """Stand for a gradient that the function itself returns."""
    raise NotImplementedError


def collect_claims(**derivatives: Any) -> dict[str, Callable[..., Any]]:
    """Collect the hand-written derivatives, by kind, that are not None: one, and for NumPy code a `jvp` besides.

    Raises:
        UsageError: if there are more, or one is not callable.
    """
    claims = {kind: function for kind, function in derivatives.items() if function is not None and function is not False}
    gradient = claims.get("gradient")
    if gradient is True or (isinstance(gradient, str) and gradient == "returned"):
        del claims["gradient"]
        claims["returned"] = gradient_is_returned
    if len(claims.keys() - {"jvp"}) > 1:
        raise UsageError(f"{name_claims(claims)} given: one hand-written derivative is checked at a time, or one and a jvp=")
    for kind, function in claims.items():
        if not callable(function):
            also = ", or 'returned' if the function returns its gradient with its value" if kind == "gradient" else ""
            raise UsageError(
                f"{kind}={function!r}: expected a function that returns the derivative{also}, got {type(function).__name__}"
            )
    return claims


def name_claims(claims: Mapping[str, Any]) -> str:
    """Return the options that some hand-written derivatives were given by, as in 'vjp= and jvp='."""
    return " and ".join("gradient='returned'" if kind == "returned" else f"{kind}=" for kind in claims)


def validate_reference(reference: Any) -> Any:
    """Return a reference unchanged if it can be one: a callable, a SymPy expression or None.

    Raises:
        UsageError: if it is anything else.
    """
    if reference is None or callable(reference) or hasattr(reference, "free_symbols"):
        return reference
    raise UsageError(f"reference={reference!r}: expected a second implementation of the target, got {type(reference).__name__}")


def get_declared_cases(target: Any) -> tuple[Case, ...]:
    """Return the cases declared on a target itself, not on a base class."""
    return tuple(getattr(target, "__dict__", {}).get(CASES_ATTRIBUTE, ()))


def locate_source(target: Any) -> Place:
    """Return the file and the first line of a target; (None, None) if Python does not know them."""
    try:
        while isinstance(target, functools.partial):
            target = target.func
        unwrapped = inspect.unwrap(target) if callable(target) else target
        definition: Any = unwrapped if inspect.isroutine(unwrapped) or inspect.isclass(unwrapped) else type(unwrapped)
        if not inspect.isclass(definition):
            return _locate_definition(definition)
        if definition not in _places:  # Python parses a whole file to find a class in it.
            _places[definition] = _locate_definition(definition)
        return _places[definition]
    except (TypeError, OSError):
        return None, None


def _locate_definition(definition: Any) -> Place:
    if inspect.isclass(definition):
        places: Mapping[str, Place] = getattr(sys.modules.get(definition.__module__), CLASS_PLACES, {})
        if definition.__qualname__ in places:
            return places[definition.__qualname__]
    return inspect.getsourcefile(definition), inspect.findsource(definition)[1] + 1
