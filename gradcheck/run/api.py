"""`gradcheck.check` and `gradcheck.assert_gradients`: check one target from Python."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Unpack

from gradcheck.errors import GradientError, UsageError
from gradcheck.options import Options, override_options
from gradcheck.results import CheckResult, Reason, Verdict
from gradcheck.run.case import check_case
from gradcheck.targets.case import (
    CLAIM_KINDS,
    Case,
    collect_claims,
    get_declared_cases,
    locate_source,
    split_names,
    validate_reference,
)
from gradcheck.targets.check_arguments import (
    DEFAULTS,
    CaseArguments,
    CheckArguments,
    document_arguments,
    split_arguments,
)
from gradcheck.targets.dependence import parse_depends
from gradcheck.targets.framework import unwrap_apply
from gradcheck.targets.intent import parse_intents
from gradcheck.targets.plain_class import advise_on_class, is_plain_layer
from gradcheck.tracebacks import strip_addresses


@document_arguments
def check(fn: Callable[..., Any], *inputs: Any, **arguments: Unpack[CheckArguments]) -> CheckResult:
    """Say whether the derivatives of a function are right, where they are wrong, and why.

    Args:
        fn: function on NumPy arrays, torch tensors or JAX arrays, `torch.autograd.Function` subclass or `nn.Module`. May also
            be a callable pytree of JAX arrays, such as an equinox module, or a module class or factory with `init=`.
        *inputs: arrays, tensors, pytrees of them, specs such as `gradcheck.normal(4, 3)`, or plain values. Without any, the
            inputs of the target's own `@gradcheck.case` are used.
        **arguments: keywords of `CheckArguments`.

    Returns:
        The result: `result.ok`, `result.verdict`, `result.comparisons`; `print(result)` shows the table. It is true in a
        condition if it is ok, so an INCONCLUSIVE result is false, as FAIL and ERROR are.

    Raises:
        UsageError: if the inputs or the options do not fit the target.
    """
    description, overrides = split_arguments(arguments)
    case = build_case(fn, *inputs, **description)
    options = override_options(Options(), overrides)
    keywords = ", ".join(f"{option}={value!r}" for option, value in {"seed": options.seed, **overrides}.items())
    return replace(check_case(case, options, alone=True), replay=f"the same call with {strip_addresses(keywords)}")


def build_case(fn: Callable[..., Any], *inputs: Any, **description: Unpack[CaseArguments]) -> Case:
    """Build the case that a call of `check` describes; without inputs, the target's own declared case is its base.

    Raises:
        TypeError: if a keyword is not a field of `CaseArguments`.
        UsageError: if the arguments do not fit the target.
    """
    for keyword in description:
        if keyword not in DEFAULTS:
            raise TypeError(f"build_case() got an unexpected keyword argument {keyword!r}")
    arguments: CaseArguments = {**DEFAULTS, **description}
    wrt, kwargs, init = arguments["wrt"], arguments["kwargs"], arguments["init"]
    claims = _collect_claims(arguments)
    name = arguments["name"]
    if is_plain_layer(fn) and not claims:
        name, claims = name or type(fn).__qualname__, {"backward": fn.backward}  # type: ignore[attr-defined]
        fn = fn.forward  # type: ignore[attr-defined]
    if not callable(fn):
        advice = advise_on_class(type(fn)) or ": expected a function, autograd.Function subclass or nn.Module"
        raise UsageError(f"{type(fn).__name__}{advice}" if "\n" in advice else f"fn={fn!r}{advice}, got {type(fn).__name__}")
    if wrt is not None and not isinstance(wrt, str) and not (isinstance(wrt, tuple | list) and wrt):
        raise UsageError(f"wrt={wrt!r}: expected an argument name or leaf path, or a tuple of at least one")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise UsageError(f"kwargs={kwargs!r}: expected inputs by name, as in kwargs=dict(x=gradcheck.normal(3))")
    fn = unwrap_apply(fn)
    file, line = locate_source(fn)
    name = name or get_target_name(fn)
    case = Case(
        name=name,
        fn=fn,
        args=inputs,
        kwargs=dict(kwargs or {}),
        claims=claims,
        backward_takes=split_names(arguments["backward_takes"]),
        params=arguments["params"],
        reference=validate_reference(arguments["reference"]),
        init=init,
        wrt=(wrt,) if isinstance(wrt, str) else wrt and tuple(wrt),
        framework=arguments["framework"],
        expect=arguments["expect"],
        because=arguments["because"],
        intents=parse_intents(
            expect=arguments["expect"],
            because=arguments["because"],
            detached=arguments["detached"],
            tolerates=arguments["tolerates"],
            nondeterministic=arguments["nondeterministic"],
        ),
        depends=parse_depends(arguments["depends"]),
        target=name,
        file=file,
        line=line,
    )
    declared_cases = get_declared_cases(fn)
    if declared_cases and not inputs and not kwargs and not case.claims:
        if len(declared_cases) > 1:
            raise UsageError(f"{name} has {len(declared_cases)} declared cases: give inputs, or run them with `gradcheck run`")
        (declared,) = declared_cases
        replaced = {"reference": case.reference or declared.reference, "depends": case.depends or declared.depends}
        case = replace(declared, name=name, target=name, file=file, line=line, **replaced)
    return case


def _collect_claims(arguments: CaseArguments) -> dict[str, Callable[..., Any]]:
    """Collect the hand-written derivatives among some keywords.

    Raises:
        UsageError: if there are several, one is no function, or `backward_takes` is given without `backward`.
    """
    claims = collect_claims(**{kind: arguments[kind] for kind in CLAIM_KINDS})  # type: ignore[literal-required]
    if arguments["backward_takes"] and "backward" not in claims:
        raise UsageError(f"backward_takes={arguments['backward_takes']!r} says what backward= takes: give that, too")
    return claims


@document_arguments
def assert_gradients(
    fn: Callable[..., Any], *inputs: Any, drawn: bool = False, **arguments: Unpack[CheckArguments]
) -> CheckResult:
    """Check derivatives as `check` does, for tests: return the result if it is ok, else raise.

    Args:
        fn: as for `gradcheck.check`.
        *inputs: as for `gradcheck.check`.
        drawn: whether the inputs come from Hypothesis, so that not all of them are sensible. Examples that the function
            raises on are then discarded, and INCONCLUSIVE passes.
        **arguments: keywords of `CheckArguments`.

    Returns:
        The result.

    Raises:
        GradientError: if the outcome is not PASS; the message is the table. It is an AssertionError.
        UsageError: if the inputs or the options do not fit the target.
    """
    __tracebackhide__ = True
    result = check(fn, *inputs, **arguments)
    if drawn:
        discard_rejected_example(result)
    if not (result.ok or (drawn and result.outcome is Verdict.INCONCLUSIVE)):
        raise GradientError(f"{result.summary}\n{result}", result)
    return result


def discard_rejected_example(result: CheckResult) -> None:
    """Have Hypothesis discard an example that the target itself raised on."""
    if result.reason is Reason.TARGET_RAISED:
        from hypothesis import reject

        reject()


def get_target_name(fn: Any) -> str:
    """Return the qualified name of a target, or of its class."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if isinstance(fn, types.BuiltinFunctionType | types.MethodDescriptorType):
        return fn.__name__  # PyTorch's own qualified names are those of internal classes
    return str(getattr(fn, "__qualname__", getattr(fn, "__name__", type(fn).__qualname__)))
