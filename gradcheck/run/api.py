"""`gradcheck.check` and `gradcheck.assert_gradients`: one target, from Python."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gradcheck.errors import GradientError, UsageError
from gradcheck.options import Options, overridden
from gradcheck.results import CheckResult, Reason, Verdict
from gradcheck.run.case import check_case
from gradcheck.targets.case import Case, claims, declared_on, source_of, usable
from gradcheck.targets.intent import Named, declared


def check(
    fn: Callable[..., Any],
    *inputs: Any,
    gradient: Callable[..., Any] | None = None,
    jacobian: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    reference: Any = None,
    wrt: str | tuple[str, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    init: Mapping[str, Any] | None = None,
    framework: str | None = None,
    expect: str = "pass",
    because: str = "",
    detached: Named = (),
    tolerates: Named = (),
    nondeterministic: str = "",
    name: str | None = None,
    **options: Any,
) -> CheckResult:
    """Say whether the derivatives of a function are right, where they are wrong, and why.

    Args:
        fn: function on NumPy arrays, torch tensors or JAX arrays, `torch.autograd.Function` subclass, `nn.Module`, a pytree of
            JAX arrays that can be called, such as an equinox module, or a module class or factory with `init=`.
        *inputs: arrays, tensors, pytrees of them, specs such as `gradcheck.normal(4, 3)`, or plain values. None: those of
            the target's own `@gradcheck.case`.
        gradient: for one real number as output: takes fn's inputs, returns one array where one input is differentiable, else a
            tuple or a mapping by argument name; each of its input's shape. Of a real function L with respect to a complex
            entry a + ib: dL/da + i dL/db, as in PyTorch; of a JAX target dL/da - i dL/db, as in JAX. For a module it may take
            `params`, the parameters by name, and return {'params': {name: array}} among the rest.
        jacobian: takes fn's inputs, returns per input an array of the output's shape followed by the input's.
        vjp: takes a cotangent of the output's form and then fn's inputs, returns what `gradient` would.
        jvp: takes a tangent (a tuple, where several inputs are differentiable) and then fn's inputs, returns the output's form.
        reference: a second implementation, trusted, on arrays of whichever framework its code tells; or a SymPy expression
            in the inputs' names. Held beside the target's value and derivative. For a module: a module with parameters of the
            same names, which takes the target's, or a function that takes `params`, all of them by name.
        wrt: argument names or leaf paths (`params['linear.weight']`); default: every floating or complex leaf and every
            trainable parameter; in PyTorch, where some inputs have `requires_grad`, only these and the parameters.
        kwargs: inputs by name.
        init: arguments that construct the target from `fn`.
        framework: 'numpy', 'torch' or 'jax', where neither the inputs nor the code tell.
        expect, because, detached, tolerates, nondeterministic: what is meant to be so, each with a reason, as for
            `gradcheck.case`.
        name: of the case; seeds derive from it.
        **options: `order`, `trials`, `seed`, `rtol`, `mode`, `dtype`, `checks`, `optimizer`, `partners`, `dims` and the
            others of `gradcheck.Options`.

    Returns:
        The result; `result.ok`, `result.verdict`, `result.comparisons`; `print(result)` shows the table.

    Raises:
        UsageError: where inputs or options do not fit the target.
    """
    case = case_of(
        fn,
        *inputs,
        gradient=gradient,
        jacobian=jacobian,
        vjp=vjp,
        jvp=jvp,
        reference=reference,
        wrt=wrt,
        kwargs=kwargs,
        init=init,
        framework=framework,
        expect=expect,
        because=because,
        detached=detached,
        tolerates=tolerates,
        nondeterministic=nondeterministic,
        name=name,
    )
    chosen = overridden(Options(), options)
    told = ", ".join(f"{option}={value!r}" for option, value in {"seed": chosen.seed, **options}.items())
    return replace(check_case(case, chosen, alone=True), replay=f"the same call with {told}")


def case_of(
    fn: Callable[..., Any],
    *inputs: Any,
    gradient: Callable[..., Any] | None = None,
    jacobian: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    reference: Any = None,
    wrt: str | tuple[str, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    init: Mapping[str, Any] | None = None,
    framework: str | None = None,
    expect: str = "pass",
    because: str = "",
    detached: Named = (),
    tolerates: Named = (),
    nondeterministic: str = "",
    name: str | None = None,
) -> Case:
    """The case that these arguments of `check` describe: the target's own declared one, where no inputs are given.

    Raises:
        UsageError: where they do not fit the target.
    """
    if not callable(fn):
        raise UsageError(f"fn={fn!r}: expected a function, autograd.Function subclass or nn.Module, got {type(fn).__name__}")
    if wrt is not None and not isinstance(wrt, str) and not (isinstance(wrt, tuple | list) and wrt):
        raise UsageError(f"wrt={wrt!r}: expected an argument name or leaf path, or a tuple of at least one")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise UsageError(f"kwargs={kwargs!r}: expected inputs by name, as in kwargs=dict(x=gradcheck.normal(3))")
    file, line = source_of(fn)
    title = name or title_of(fn)
    case = Case(
        name=title,
        fn=fn,
        args=inputs,
        kwargs=dict(kwargs or {}),
        claims=claims(gradient=gradient, jacobian=jacobian, vjp=vjp, jvp=jvp),
        reference=usable(reference),
        init=init,
        wrt=(wrt,) if isinstance(wrt, str) else wrt and tuple(wrt),
        framework=framework,
        expect=expect,
        because=because,
        intents=declared(
            expect=expect, because=because, detached=detached, tolerates=tolerates, nondeterministic=nondeterministic
        ),
        target=title,
        file=file,
        line=line,
    )
    cases = declared_on(fn)
    if cases and not inputs and not kwargs and not case.claims:
        if len(cases) > 1:
            raise UsageError(f"{title} has {len(cases)} declared cases: give inputs, or run them with `gradcheck run`")
        case = replace(cases[0], name=title, target=title, file=file, line=line, reference=case.reference or cases[0].reference)
    return case


def assert_gradients(fn: Callable[..., Any], *inputs: Any, drawn: bool = False, **arguments: Any) -> CheckResult:
    """Like `check`, for tests: returns the result where it is ok, raises where it is not.

    Args:
        drawn: the inputs come from Hypothesis, and not all of them are sensible: those that the function raises on are
            discarded, and INCONCLUSIVE passes.

    Raises:
        GradientError: with the table as message, where the outcome is not PASS. It is an AssertionError.
        UsageError: where inputs or options do not fit the target.
    """
    __tracebackhide__ = True
    result = check(fn, *inputs, **arguments)
    if drawn:
        discard_rejected(result)
    if not (result.ok or (drawn and result.outcome is Verdict.INCONCLUSIVE)):
        raise GradientError(f"\n{result}", result)
    return result


def discard_rejected(result: CheckResult) -> None:
    """Have Hypothesis discard an example that the target itself raised on."""
    if result.reason is Reason.TARGET_RAISED:
        from hypothesis import reject

        reject()


def title_of(fn: Any) -> str:
    """What a target is called: its qualified name, or its class's."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))
