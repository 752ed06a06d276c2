"""A case: one target with everything that says how to check it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gradcheck.errors import UsageError
from gradcheck.options import Options, overridden
from gradcheck.results import Intent
from gradcheck.targets.intent import Named, declared

DECLARED = "__gradcheck_cases__"
T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Case:
    """One target and how to check it.

    Attributes:
        name: unique within a run.
        fn: function, autograd.Function subclass, nn.Module or nn.Module class.
        args, kwargs: inputs by position and by name: pytrees of arrays, specs and plain values.
        declared_args, declared_kwargs: the same as declared, where others are given now: they fill what those leave open.
        claims: hand-written derivatives by kind: 'gradient', 'jacobian', 'vjp', 'jvp'.
        reference: a second implementation, trusted: takes the same inputs, in arrays of its own framework.
        init: arguments that construct the target from `fn` (a class or a factory); None: `fn` is the target.
        wrt: names or leaf paths to differentiate with respect to; None: every floating or complex leaf, and parameters.
        expect: 'pass', 'fail' or 'straight-through'; `because` says why.
        intents: all that is declared to be meant so.
        options: overrides of the run's options.
        target: what a user types to name it, where it has such a name.
        upstream: of a layer inside a model, what that sends back to each leaf of the output, by its place.
        overwrites: of a layer inside a model, whether it writes to what it is given there, as ReLU(inplace=True) does.
    """

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    declared_args: tuple[Any, ...] = ()
    declared_kwargs: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    reference: Any = None
    init: Mapping[str, Any] | None = None
    wrt: tuple[str, ...] | None = None
    framework: str | None = None
    expect: str = "pass"
    because: str = ""
    intents: tuple[Intent, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""
    file: str | None = None
    line: int | None = None
    upstream: Mapping[int, Any] = field(default_factory=dict)
    overwrites: bool = False

    @property
    def values(self) -> tuple[Any, ...]:
        """All inputs given and declared."""
        return (*self.args, *self.kwargs.values(), *self.declared_args, *self.declared_kwargs.values())

    @property
    def detached(self) -> tuple[str, ...]:
        """Names and leaf paths through which no gradient may come."""
        return tuple(intent.subject for intent in self.intents if intent.kind == "detached")

    @property
    def chosen(self) -> dict[str, Any]:
        """Overrides of the run's options, with those that an intent stands for."""
        kinds = {intent.kind for intent in self.intents}
        meant = {"straight_through": "straight-through", "nondeterministic": "nondeterministic"}
        return {**self.options, **{option: True for option, kind in meant.items() if kind in kinds}}

    @property
    def stream(self) -> str:
        """What seeds derive from: the name without a folder, so that another machine draws the same."""
        return self.name.replace("\\", "/").rpartition("/")[2]


def case(
    *args: Any,
    inputs: Mapping[str, Any] | None = None,
    gradient: Callable[..., Any] | None = None,
    jacobian: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    reference: Any = None,
    init: Mapping[str, Any] | None = None,
    wrt: str | tuple[str, ...] | None = None,
    framework: str | None = None,
    expect: str = "pass",
    because: str = "",
    detached: Named = (),
    tolerates: Named = (),
    nondeterministic: str = "",
    name: str = "",
    options: Mapping[str, Any] | None = None,
    **specs: Any,
) -> Callable[[T], T]:
    """Declare a target beside its code: `@gradcheck.case(x=normal(4, 3), w=normal(3), gradient=mse_gradient)`.

    The function or class is returned as it is; `gradcheck run module` finds the declaration. May be stacked.

    Args:
        *args: inputs by position: specs, arrays or plain values.
        inputs: inputs by name, for names that collide with the arguments here.
        gradient, jacobian, vjp, jvp: hand-written derivatives, as for `gradcheck.check`.
        reference: a second implementation, as for `gradcheck.check`.
        init: arguments that construct the target, for an nn.Module class or a factory.
        wrt: names or leaf paths to differentiate with respect to.
        framework: 'numpy', 'torch' or 'jax', where the arrays and the code do not tell.
        expect: 'fail' for a case that must fail, 'straight-through' for a backward that stands in for a derivative of zero.
        because: why; shown in the report. Whatever is declared needs a reason: this one, or its own.
        detached: torch or JAX inputs whose gradient must be exactly zero, or None: names, or names with reasons.
        tolerates: contracts that may be broken, and reasons to be INCONCLUSIVE that are no fault: names, or names with reasons.
        nondeterministic: why the function returns another value on every call; that then counts as noise.
        name: of this declaration, where a target has several.
        options: overrides such as {'trials': 5, 'rtol': 1e-6}.
        **specs: inputs by name.

    Raises:
        UsageError: for an unknown `expect`, contract or option, or a missing reason.
    """
    intents = declared(
        expect=expect, because=because, detached=detached, tolerates=tolerates, nondeterministic=nondeterministic
    )
    overridden(Options(), options or {})

    def declare(target: T) -> T:
        if not hasattr(target, "__dict__"):
            raise UsageError(f"{target!r} cannot carry a case: wrap it in a function of your own and declare that")
        own = Case(
            name=name,
            fn=target,
            args=args,
            kwargs={**(inputs or {}), **specs},
            claims=claims(gradient=gradient, jacobian=jacobian, vjp=vjp, jvp=jvp),
            reference=usable(reference),
            init=init,
            wrt=(wrt,) if isinstance(wrt, str) else wrt,
            framework=framework,
            expect=expect,
            because=because,
            intents=intents,
            options=options or {},
        )
        setattr(target, DECLARED, (*vars(target).get(DECLARED, ()), own))
        return target

    return declare


def claims(**given: Callable[..., Any] | None) -> dict[str, Callable[..., Any]]:
    """Keep the hand-written derivatives that were given.

    Raises:
        UsageError: where one is not callable, or more than one is given.
    """
    kept = {kind: f for kind, f in given.items() if f is not None}
    if len(kept) > 1:
        raise UsageError(f"{' and '.join(f'{kind}=' for kind in kept)} given: one hand-written derivative is checked at a time")
    for kind, function in kept.items():
        if not callable(function):
            raise UsageError(
                f"{kind}={function!r}: expected a function that returns the derivative, got {type(function).__name__}"
            )
    return kept


def usable(reference: Any) -> Any:
    """A reference that may be one.

    Raises:
        UsageError: where it cannot be called, and is no SymPy expression.
    """
    if reference is None or callable(reference) or hasattr(reference, "free_symbols"):
        return reference
    raise UsageError(f"reference={reference!r}: expected a second implementation of the target, got {type(reference).__name__}")


def declared_on(target: Any) -> tuple[Case, ...]:
    """The cases declared on a target itself (not on a base class)."""
    found = getattr(target, "__dict__", {}).get(DECLARED, ())
    return tuple(found)


def source_of(target: Any) -> tuple[str | None, int | None]:
    """File and first line of a target; None where Python does not know."""
    try:
        while isinstance(target, functools.partial):
            target = target.func
        unwrapped = inspect.unwrap(target) if callable(target) else target
        shown: Any = unwrapped if inspect.isroutine(unwrapped) or inspect.isclass(unwrapped) else type(unwrapped)
        return _place_of(shown)
    except (TypeError, OSError):
        return None, None


@functools.lru_cache(maxsize=64)  # to find a class, its file is parsed
def _place_of(shown: Any) -> tuple[str | None, int | None]:
    return inspect.getsourcefile(shown), inspect.findsource(shown)[1] + 1
