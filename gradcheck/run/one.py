"""One case from its declaration to its result: bind, check every trial, merge."""

from __future__ import annotations

import importlib
import time
import traceback
import warnings
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends import counterpart
from gradcheck.backends.state import preserved, restore, settled, snapshot
from gradcheck.checks import accuracy, detached, referred, second
from gradcheck.checks.derivative import Finding, within_memory
from gradcheck.errors import InputError, TargetError, UsageError
from gradcheck.options import Options, overridden
from gradcheck.results import (
    SEVERITY,
    CheckResult,
    Comparison,
    Contract,
    LayerResult,
    Reason,
    Verdict,
)
from gradcheck.results import worst as worst_verdict
from gradcheck.run import by_layer, mishaps, worst
from gradcheck.seeds import generator
from gradcheck.targets import framework as frameworks
from gradcheck.targets.case import declared_on
from gradcheck.targets.discover import EXTRAS
from gradcheck.targets.draws import draw_inputs, has_specs, named_sizes
from gradcheck.targets.framework import Kind, kind_of
from gradcheck.targets.signature import Inputs, annotated, defaults_of, resolve
from gradcheck.targets.source import of_derivative
from gradcheck.targets.specs import Spec
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from gradcheck.backends.program import Program
    from gradcheck.targets.case import Case
    from gradcheck.targets.source import Place

EVIDENCE = ("numeric", "complex-step")
RECORDING = ("torch", "jax")  # frameworks in which an input can be cut off
REMARKABLE = (Reason.STRAIGHT_THROUGH, Reason.TIE, Reason.KINK_SUBGRADIENT)  # ways to pass that a reader wants to hear of


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
            found = replace(blank, reason=mishaps.reason_of(error), message=str(error), traceback=error.frames)
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


def _claimed_at(place: Place) -> dict[str, Any]:
    return {"claim_file": place[0], "claim_line": place[1]}


def _examined(case: Case, options: Options, blank: CheckResult, command: str | None) -> CheckResult:
    name = framework_of(case)
    if case.detached and name not in RECORDING:
        raise InputError(f"detached= is for torch and jax targets, and {case.name} is of {name}: name the other inputs in wrt=")
    backend = backend_of(name)
    dtype = options.dtype or natural_dtype(backend, case) or "float64"
    with ExitStack() as stack:
        for function in (case.fn, *options.partners):
            stack.enter_context(backend.kept(function))
        findings, layers = _trials(backend, case, options, dtype, command)
    found = merged(blank, findings, name)
    return with_layers(found, layers) if layers else found


def framework_of(case: Case) -> str:
    """The framework that a case says, or that its inputs and its code tell.

    Raises:
        InputError: where that is none of those supported, or cannot be told.
    """
    leaves = [x for value in (*case.values, *defaults_of(case.fn)) for x in flatten(value).leaves if not isinstance(x, Spec)]
    name = case.framework or frameworks.infer(case.fn, leaves)
    if name not in frameworks.FRAMEWORKS:
        raise InputError(f"framework {name!r}: expected one of {', '.join(frameworks.FRAMEWORKS)}")
    return name


def natural_dtype(backend: ModuleType, case: Case) -> str | None:
    """The dtype that a module has, or a module class is to be made in; None where nothing says."""
    found: str | None = backend.default_dtype(case.fn) or _dtype_of_specs(case)
    return found


def constructed(case: Case) -> bool:
    """Whether the target is made from a class or a factory first."""
    return case.init is not None or kind_of(case.fn) is Kind.MODULE_CLASS


def opened(
    backend: ModuleType, case: Case, dtype: str, *, seed: int, trial: int = 0, command: str | None = None
) -> tuple[Any, Inputs]:
    """The target that is called, constructed where it must be, and its inputs, specs among them.

    Raises:
        InputError: where inputs are missing or superfluous.
        TargetError: where the constructor raises.
    """
    target = _constructed(backend, case, dtype, seed, trial) if constructed(case) else case.fn
    return target, resolve(target, case.args, case.kwargs, case.declared_args, case.declared_kwargs, command=command)


def backend_of(name: str) -> ModuleType:
    """What evaluates targets of a framework.

    Raises:
        UsageError: where the framework is not installed.
    """
    try:
        return importlib.import_module(f"gradcheck.backends.{name}")
    except ModuleNotFoundError as error:
        wanted = f"'gradcheck[{name}]'" if name in EXTRAS else name
        raise UsageError(f"framework {name}: {error.name!r} is not installed; pip install {wanted}") from None


def _trials(
    backend: ModuleType, case: Case, options: Options, dtype: str, command: str | None
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
            target, drawn = _placed(backend, target, drawn, options.device)
        stream = f"{options.seed}/{case.stream}/{trial}"
        with backend.initialised(target, drawn, stream, surely=options.by_layer):
            if options.by_layer and trial == 0:
                layers = by_layer.layers_of(case, target, drawn, options, check_case)
                if any(layer.verdict in by_layer.BAD for layer in layers):
                    return [Finding(stop=Reason.LAYER_WRONG)], layers
            findings.append(_tried(backend, case, target, drawn, options, trial))
        if not (constructed(case) or has_specs(inputs)) or findings[-1].stop:
            break
    return findings, layers


def _placed(backend: ModuleType, target: Any, drawn: Inputs, device: str) -> tuple[Any, Inputs]:
    """The target and its inputs on a device.

    Raises:
        InputError: where there is none such, or its framework is not told where to compute in this way.
    """
    if not hasattr(backend, "placed"):
        raise InputError(f"device={device!r} is for torch targets: NumPy computes on the host, JAX where JAX_PLATFORMS says")
    found: tuple[Any, Inputs] = backend.placed(target, drawn, device)
    return found


def _constructed(backend: ModuleType, case: Case, dtype: str, seed: int, trial: int) -> Any:
    missing = missing_init(case)
    if missing:
        flags = " ".join(f"--init {name}=..." for name in missing)
        raise InputError(
            f"{case.target or case.fn.__name__} needs {', '.join(missing)} to be constructed: give {flags} (init= in Python)"
        )
    return backend.construct(case, dtype, seed, trial)


def missing_init(case: Case) -> list[str]:
    """Arguments that the constructor or factory needs and was not given."""
    import inspect

    try:
        params = inspect.signature(case.fn).parameters.values()
    except (TypeError, ValueError):
        return []
    needed = [p.name for p in params if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [name for name in needed if name not in (case.init or {})]


def _dtype_of_specs(case: Case) -> str | None:
    specs = [x for value in case.values for x in flatten(value).leaves if isinstance(x, Spec)]
    floats = [s.dtype for s in specs if s.dtype and np.dtype(s.dtype).kind == "f"]
    return floats[0] if floats and kind_of(case.fn) is Kind.MODULE_CLASS else None


def _tried(backend: ModuleType, case: Case, target: Any, drawn: Inputs, options: Options, trial: int) -> Finding:
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
        found = second.added(found, program, options, label, trial) if options.order == second.ORDER else found
    return replace(found, place=program.layer.place if program.layer and not case.claims else None)


def _counterpart(
    backend: ModuleType, case: Case, program: Program, target: Any, drawn: Inputs, states: dict[str, Any]
) -> Program | None:
    """The case's reference, bound to the same inputs; it draws what the target draws."""
    if case.reference is None:
        return None
    restore(states)
    name = counterpart.framework_of(case.reference, program.framework, lambda function: frameworks.infer(function, ()))
    return counterpart.bind(case, program, target, drawn, backend, backend_of(name))


def _beside(found: Finding, program: Program, other: Program | None, options: Options, label: str, trial: int) -> Finding:
    """What was found of a target, with what its reference says, and in half precision how accurate it is."""
    if other is not None:
        found = referred.added(found, program, other, options, label, trial)
    return accuracy.added(found, program, other, options, label, trial)


def _partner(backend: ModuleType, case: Case, function: Any, drawn: Inputs, wrt: tuple[str, ...]) -> Program:
    """A function of the same inputs, with the derivative by hand that it was declared with."""
    declared = declared_on(function)
    name = str(getattr(function, "__qualname__", function))
    asked = replace(case, name=name, fn=function, wrt=wrt, claims=declared[0].claims if declared else {})
    program: Program = backend.bind(asked, function, drawn)
    return program


# --- from trials to one result


def merged(blank: CheckResult, findings: list[Finding], framework: str) -> CheckResult:
    """Join the trials: for each leaf and pair of methods, the worst."""
    comparisons = worst.comparisons([c for f in findings for c in f.comparisons])
    contracts = worst.tolerated(worst.contracts(findings), blank.intents)
    checks = worst.tables([t for f in findings for t in f.checks])
    stop = next((f for f in findings if f.stop), None)
    place = next((f.place for f in findings if f.place), None)
    verdict, reason = _verdict(comparisons, contracts, stop)
    if checks and verdict is not Verdict.ERROR:
        told = [
            (t.verdict, t.reason) for t in checks if t.reason is not Reason.NOT_SCALAR
        ]  # what does not apply decides nothing
        verdict, reason = min([(verdict, reason), *told], key=lambda v: SEVERITY.index(v[0]))
    return replace(
        blank,
        verdict=verdict,
        reason=reason,
        comparisons=comparisons,
        contracts=contracts,
        checks=checks,
        partials=findings[0].partials,
        notes=tuple(dict.fromkeys(note for f in findings for note in f.notes)),
        details=tuple(dict.fromkeys(text for f in findings for text in f.details)),
        message=stop.message if stop and reason is stop.stop else "",
        framework=framework,
        mode=next((f.mode for f in findings if f.mode), ""),
        trials=len(findings),
        evaluations=sum(f.evaluations for f in findings),
        **(_claimed_at(place) if place else {}),
    )


def with_layers(result: CheckResult, layers: tuple[LayerResult, ...]) -> CheckResult:
    """The same with its layers, of which one that is wrong decides."""
    found = replace(
        result,
        layers=layers,
        culprit=by_layer.culprit_of(layers, result.verdict),
        evaluations=result.evaluations + sum(layer.evaluations for layer in layers),
    )
    if found.reason is not Reason.LAYER_WRONG:
        return found
    wrong = next(layer for layer in layers if layer.verdict in by_layer.BAD)
    verdict = worst_verdict(layer.verdict for layer in layers if layer.verdict is not None)
    return replace(found, verdict=verdict, **_claimed_at((wrong.file, wrong.line)))


def _verdict(
    comparisons: tuple[Comparison, ...], contracts: tuple[Contract, ...], stop: Finding | None
) -> tuple[Verdict, Reason]:
    """FAIL where anything is certainly wrong; PASS where independent evidence confirms every claim on every leaf."""
    wrong = [c for c in comparisons if c.verdict is Verdict.FAIL]
    if wrong:
        return Verdict.FAIL, wrong[0].reason
    if any(c.verdict is Verdict.FAIL and not c.tolerated for c in contracts):
        return Verdict.FAIL, Reason.CONTRACT_BROKEN
    if stop is not None and stop.stop is not None:
        return Verdict.INCONCLUSIVE, stop.stop
    claimed: dict[tuple[int, str, str], list[Comparison]] = {}
    for c in comparisons:
        if c.against in EVIDENCE or c.order == referred.ORDER:
            claimed.setdefault((c.order, c.wrt, c.method), []).append(c)
        elif c.against == accuracy.AGAINST:
            claimed[c.order, c.wrt, f"{c.method}, {c.dtype}"] = [c]
    sure = referred.confirmed(comparisons)
    open_ = [g for key, g in claimed.items() if key not in sure and all(c.verdict is not Verdict.PASS for c in g)]
    if open_:
        return worst_verdict(c.verdict for c in open_[0]), open_[0][0].reason
    seen = {c.reason for c in comparisons if c.verdict is Verdict.PASS}
    return Verdict.PASS, next((reason for reason in REMARKABLE if reason in seen), Reason.AGREES)
