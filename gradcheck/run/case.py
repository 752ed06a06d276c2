"""One case from its declaration to its result: bind, check every trial, merge."""

from __future__ import annotations

import time
import traceback
import warnings
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends import bind_reference
from gradcheck.backends.global_state import (
    preserved,
    restore,
    settled,
    snapshot,
)
from gradcheck.backends.loading import backend_of, constructed, framework_of, natural_dtype, opened
from gradcheck.checks import half_precision
from gradcheck.checks.against_reference import derivative
from gradcheck.checks.contracts.any_target import detached
from gradcheck.checks.derivative.check import Finding, within_memory
from gradcheck.checks.second_order import check
from gradcheck.errors import BadReferenceError, ClaimError, DerivativeError, InputError, NoMemoryError, TargetError, UsageError
from gradcheck.options import Options, overridden
from gradcheck.results import CheckResult, LayerResult, Reason, Verdict
from gradcheck.run import by_layer
from gradcheck.run.merge_trials import _claimed_at, merged, with_layers
from gradcheck.seeds import generator
from gradcheck.targets import framework as frameworks
from gradcheck.targets.case import declared_on
from gradcheck.targets.draw import draw_inputs, has_specs, named_sizes
from gradcheck.targets.location import of_derivative
from gradcheck.targets.signature import Inputs, annotated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.backends.backend import Backend
    from gradcheck.backends.program import Program
    from gradcheck.errors import TargetError
    from gradcheck.targets.case import Case

REASONS = {
    ClaimError: Reason.BAD_CLAIM,
    BadReferenceError: Reason.BAD_REFERENCE,
    DerivativeError: Reason.DERIVATIVE_RAISED,
    NoMemoryError: Reason.OUT_OF_MEMORY,
}

RECORDING = ("torch", "jax")  # frameworks in which an input can be cut off


def check_case(case: Case, options: Options, command: str | None = None, *, alone: bool = False) -> CheckResult:
    """Check one case; what the user's code raises becomes an ERROR, what cannot be understood is raised.

    Args:
        command: how the target was named on the command line, for messages.
        alone: whether no other case is run with the same options: then a size that nothing here names is a mistake.

    Raises:
        UsageError: where inputs or options do not fit the target.
    """
    began = time.perf_counter()
    options = overridden(options, case.chosen)
    blank = CheckResult(
        case=case.name,
        target=case.target or case.name,
        verdict=Verdict.ERROR,
        reason=Reason.TARGET_RAISED,
        expect=case.expect,
        because=case.because,
        intents=case.intents,
        seed=options.seed,
        trials=options.trials,
        file=case.file,
        line=case.line,
        **_claimed_at(of_derivative(case)),
    )
    with preserved():
        try:
            refuse_unknown_sizes(case, options.dims if alone else overridden(Options(), case.chosen).dims)
            found = _examined(case, options, blank, command)
        except TargetError as error:
            found = replace(blank, reason=reason_of(error), message=str(error), traceback=error.frames)
    return replace(found, seconds=time.perf_counter() - began)


def attempted(case: Case, options: Options, *, alone: bool = False) -> CheckResult:
    """Check one case of a run: what would be raised costs this case alone, and is its result."""
    try:
        return check_case(case, options, case.target, alone=alone)
    except (Exception, SystemExit) as error:
        return failed_to_start(case, options, error)


def refuse_unknown_sizes(case: Case, dims: Mapping[str, tuple[int, int]]) -> None:
    """Say that a size is named which no input has.

    Raises:
        InputError: with the names that there are.
    """
    names = named_sizes([*case.values, *annotated(case.fn)])
    unknown = sorted(set(dims) - names)
    if unknown:
        known = ", ".join(sorted(names)) or "none"
        raise InputError(f"dim {unknown[0]}: no input has a size of that name (there are: {known})")


def failed_to_start(case: Case, options: Options, error: BaseException) -> CheckResult:
    """The result of a case that could not be checked: the user's mistake, or ours."""
    usage = isinstance(error, UsageError)
    return CheckResult(
        case=case.name,
        target=case.target or case.name,
        verdict=Verdict.ERROR,
        reason=Reason.BAD_INPUT if usage else Reason.INTERNAL,
        message=str(error) if usage else f"{type(error).__name__}: {error}",
        traceback="" if usage else "".join(traceback.format_exception(error)).rstrip(),
        expect=case.expect,
        because=case.because,
        intents=case.intents,
        seed=options.seed,
        file=case.file,
        line=case.line,
        **_claimed_at(of_derivative(case)),
    )


def _examined(case: Case, options: Options, blank: CheckResult, command: str | None) -> CheckResult:
    name = framework_of(case)
    if case.detached and name not in RECORDING:
        raise InputError(f"detached= is for torch and jax targets, and {case.name} is of {name}: name the other inputs in wrt=")
    backend = backend_of(name)
    dtype = options.dtype or natural_dtype(backend, case) or "float64"
    with ExitStack() as stack:
        for function in (case.fn, *options.partners):
            stack.enter_context(backend.restoring(function))
        findings, layers = _trials(backend, case, options, dtype, command)
    found = merged(blank, findings, name)
    return with_layers(found, layers) if layers else found


def _trials(
    backend: Backend, case: Case, options: Options, dtype: str, command: str | None
) -> tuple[list[Finding], tuple[LayerResult, ...]]:
    findings, layers = list[Finding](), tuple[LayerResult, ...]()
    for trial in range(options.trials):
        settled(generator(options.seed, case.stream, trial, "global"))
        target, inputs = opened(backend, case, dtype, seed=options.seed, trial=trial, command=command)
        drawn = draw_inputs(
            inputs,
            case=case.stream,
            trial=trial,
            seed=options.seed,
            dims=options.dims,
            dtype=dtype,
            convert=backend.from_numpy,
        )
        if options.device is not None:
            target, drawn = backend.move_to_device(target, drawn, options.device)
        stream = f"{options.seed}/{case.stream}/{trial}"
        with backend.initialising(target, drawn, stream, always=options.by_layer):
            if options.by_layer and trial == 0:
                layers = by_layer.layers_of(case, target, drawn, options, check_case)
                if any(layer.verdict in by_layer.BAD for layer in layers):
                    return [Finding(stop=Reason.LAYER_WRONG)], layers
            findings.append(_tried(backend, case, target, drawn, options, trial))
        if not (constructed(case) or has_specs(inputs)) or findings[-1].stop:
            break
    return findings, layers


def _tried(backend: Backend, case: Case, target: Any, drawn: Inputs, options: Options, trial: int) -> Finding:
    states = snapshot()
    program = backend.bind(case, target, drawn)
    wrt = tuple(leaf.path for leaf in program.leaves if not leaf.path.startswith("params["))
    partners = [_partner(backend, case, function, drawn, wrt) for function in options.partners if "laws" in options.checks]
    label = f"{options.seed}/{case.stream}/{trial}"
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # off the primal a function may overflow or leave its domain; the evidence sees that
        found = within_memory(program, options, label, trial, partners)
        if case.detached and options.tries(detached.NAME):
            apart = backend.bind(replace(case, wrt=case.detached, claims={}, intents=()), target, drawn)
            found = replace(found, contracts=(*found.contracts, *detached.examine(apart, label)))
        found = _beside(found, program, _counterpart(backend, case, program, target, drawn, states), options, label, trial)
        found = check.added(found, program, options, label, trial) if options.order == check.ORDER else found
    return replace(found, place=program.layer.place if program.layer and not case.claims else None)


def _counterpart(
    backend: Backend, case: Case, program: Program, target: Any, drawn: Inputs, states: dict[str, Any]
) -> Program | None:
    """The case's reference, bound to the same inputs; it draws what the target draws."""
    if case.reference is None:
        return None
    restore(states)
    name = bind_reference.framework_of(case.reference, program.framework, lambda function: frameworks.infer(function, ()))
    return bind_reference.bind(case, program, target, drawn, backend, backend_of(name))


def _beside(found: Finding, program: Program, other: Program | None, options: Options, label: str, trial: int) -> Finding:
    """What was found of a target, with what its reference says, and in half precision how accurate it is."""
    if other is not None:
        found = derivative.added(found, program, other, options, label, trial)
    return half_precision.added(found, program, other, options, label, trial)


def _partner(backend: Backend, case: Case, function: Any, drawn: Inputs, wrt: tuple[str, ...]) -> Program:
    """A function of the same inputs, with the derivative by hand that it was declared with."""
    declared = declared_on(function)
    name = str(getattr(function, "__qualname__", function))
    asked = replace(case, name=name, fn=function, wrt=wrt, claims=declared[0].claims if declared else {})
    return backend.bind(asked, function, drawn)


# --- from trials to one result


def reason_of(error: TargetError) -> Reason:
    """The reason of a case that it ended."""
    return next((reason for kind, reason in REASONS.items() if isinstance(error, kind)), Reason.TARGET_RAISED)
