"""One case from its declaration to its result: bind, check every trial, merge."""

from __future__ import annotations

import math
import time
import traceback
import warnings
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends import bind_reference, release_memory
from gradcheck.backends.forms.adapt import adapt
from gradcheck.backends.global_state import (
    States,
    preserving,
    restore,
    seed_generators,
    snapshot,
)
from gradcheck.backends.load_target import (
    choose_dtype,
    choose_framework,
    load_backend,
    needs_construction,
    prepare_target,
)
from gradcheck.backends.time_budget import OverBudgetError, limit_preparation, limit_trial
from gradcheck.backends.views import restrict_to_methods
from gradcheck.checks.against_reference.derivative import compare_with_reference
from gradcheck.checks.contracts.any_target import detached, own_derivative
from gradcheck.checks.derivative.check import check_derivative
from gradcheck.checks.half_precision import check_half_precision
from gradcheck.checks.higher_order.check import check_higher_orders
from gradcheck.checks.trial_result import TrialResult
from gradcheck.compare.evaluator import Evaluator
from gradcheck.compare.trial import Trial
from gradcheck.compare.trial_recorder import Recorder
from gradcheck.errors import (
    BadReferenceError,
    ClaimError,
    DerivativeError,
    InputError,
    NoMemoryError,
    RankDiedError,
    RankTimeoutError,
    TargetError,
    UsageError,
)
from gradcheck.interrupts import is_interrupt, marking_interrupts
from gradcheck.options import RANKS, Options, override_options
from gradcheck.results import CheckResult, LayerResult, Reason, Verdict
from gradcheck.run import by_layer, ranks
from gradcheck.run.grid import list_size_names
from gradcheck.run.merge_trials import add_layers, claim_location_fields, merge_trials
from gradcheck.seeds import make_generator
from gradcheck.targets import framework as frameworks
from gradcheck.targets.case import get_declared_cases, name_claims
from gradcheck.targets.draw import draw_inputs, has_specs
from gradcheck.targets.location import locate_derivative
from gradcheck.targets.signature import Inputs
from gradcheck.tracebacks import format_user_frames, read_message, summarise_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.backend import Backend
    from gradcheck.backends.program import Program
    from gradcheck.targets.case import Case

# The reason of a case that an exception of the user's code ended, by the kind of exception.
REASONS = {
    ClaimError: Reason.BAD_CLAIM,
    BadReferenceError: Reason.BAD_REFERENCE,
    DerivativeError: Reason.DERIVATIVE_RAISED,
    NoMemoryError: Reason.OUT_OF_MEMORY,
    RankDiedError: Reason.WORKER_DIED,
    RankTimeoutError: Reason.TIMEOUT,
}

# A trial is stopped after this many times its `--budget`, which the predicted time did not exceed.
MAX_OVER_BUDGET = 3.0
OVER_BUDGET = f"the check was stopped after {MAX_OVER_BUDGET:g} times the budget of {{:g}} s: it takes longer than predicted"

# Frameworks in which an input can be cut off from the graph, and gradients can be differentiated again and again.
RECORDING_FRAMEWORKS = ("torch", "jax")
# In other frameworks PyTorch differentiates the traced code, up to this order.
MAX_ORDER_IN_NUMPY = 2


def check_case(case: Case, options: Options, command: str | None = None, *, alone: bool = False) -> CheckResult:
    """Check one case. An exception of the user's code becomes an ERROR; a case that cannot be understood raises.

    Args:
        case: the declaration.
        options: how to check; the case's own choices take precedence.
        command: the target and its options on the command line, for messages.
        alone: whether no other case is run with the same options: then a size that no input has is a mistake.

    Raises:
        UsageError: if inputs or options do not fit the target.
    """
    began = time.perf_counter()
    options = override_options(options, case.option_overrides)
    blank = _blank_result(case, options, Verdict.ERROR, Reason.TARGET_RAISED, trials=options.trials)
    with preserving(case.fn, case.claims, case.reference, case.values), marking_interrupts():
        try:
            if case.step is not None:
                result = _check_training_step(case, blank)
            else:
                refuse_unknown_sizes(case, options, alone=alone)
                result = _check_trials(case, options, blank, command)
        except TargetError as error:
            result = replace(blank, reason=_reason_of(error), message=str(error), traceback=error.frames)
        except BaseException as error:
            if isinstance(error, Exception) or is_interrupt(error):
                raise
            # SystemExit, pytest.skip() and the like are meant for a whole program, and cost this case alone.
            result = replace(blank, message=f"the code raised {summarise_error(error)}", traceback=format_user_frames(error))
    return replace(result, seconds=time.perf_counter() - began)


def _check_training_step(case: Case, blank: CheckResult) -> CheckResult:
    """Check a training step, whose pieces its function returns."""
    from gradcheck.training_step.check import check_training_step  # loads PyTorch
    from gradcheck.training_step.pieces import read_pieces

    return check_training_step(read_pieces(case.fn, case.step or {}), blank)


def check_case_safely(case: Case, options: Options, *, alone: bool = False) -> CheckResult:
    """Check one case of a run: an exception becomes the result of this case and does not stop the run."""
    try:
        return check_case(case, options, case.command or case.target, alone=alone)
    except Exception as error:
        return result_of_exception(case, options, error)


def refuse_unknown_sizes(case: Case, options: Options, *, alone: bool) -> None:
    """Refuse a size for a name that no input has.

    Args:
        case: the declaration.
        options: how to check it.
        alone: whether the options are meant for this case alone; if not, only the sizes of its declaration are looked at.

    Raises:
        InputError: with the names that exist.
    """
    dims = options.dims if alone else case.option_overrides.get("dims", {})
    names = list_size_names(case)
    unknown = sorted(set(dims) - names)
    if unknown:
        known = ", ".join(sorted(names)) or "none"
        raise InputError(f"dim {unknown[0]}: no input has a size of that name (there are: {known})")


def result_of_exception(case: Case, options: Options, error: BaseException) -> CheckResult:
    """Return the result of a case that could not be checked: by the user's mistake, or by ours."""
    usage = isinstance(error, UsageError)
    return replace(
        _blank_result(case, options, Verdict.ERROR, Reason.BAD_INPUT if usage else Reason.INTERNAL),
        message=str(error) if usage else f"{type(error).__name__}: {read_message(error)}",
        traceback="" if usage else "".join(traceback.format_exception(error)).rstrip(),
    )


def _blank_result(case: Case, options: Options, verdict: Verdict, reason: Reason, trials: int = 1) -> CheckResult:
    return CheckResult(
        case=case.name,
        target=case.target or case.name,
        verdict=verdict,
        reason=reason,
        expect=case.expect,
        because=case.because,
        intents=case.intents,
        seed=case.options.get("seed", options.seed),
        trials=trials,
        file=case.file,
        line=case.line,
        sweep=dict(case.sweep),
        **claim_location_fields(locate_derivative(case)),
    )


def _check_trials(case: Case, options: Options, blank: CheckResult, command: str | None) -> CheckResult:
    """Check the case at every draw of its inputs, and merge: a trial that stops ends it."""
    name = choose_framework(case) if options.world is None else ranks.choose_framework(case)
    _refuse_what_framework_lacks(case, options, name)
    backend = load_backend(name)
    dtype = options.dtype or choose_dtype(backend, case) or "float64"
    if options.world is not None:
        return merge_trials(blank, _check_on_ranks(case, options, name, dtype), name)
    results, layers = list[TrialResult](), tuple[LayerResult, ...]()
    with ExitStack() as stack:
        notes = stack.enter_context(backend.restoring(case.fn))
        for function in options.partners:
            stack.enter_context(backend.restoring(function))
        for number in range(options.trials):
            seed_generators(make_generator(options.seed, case.seed_label, number, "global"))
            target, inputs = prepare_target(
                backend, case, dtype, seed=options.seed, trial=number, dims=options.dims, command=command
            )
            drawn = draw_inputs(
                inputs,
                case=case.seed_label,
                trial=number,
                seed=options.seed,
                dims=options.dims,
                dtype=dtype,
                convert=backend.from_numpy,
            )
            if options.device is not None:
                target, drawn = backend.move_to_device(target, drawn, options.device)
            label = _name_trial(case, options, number)
            with backend.initialising(target, drawn, label, always=options.by_layer):
                if options.by_layer and number == 0:
                    layers = by_layer.check_layers(case, target, drawn, options, check_case)
                    if any(layer.verdict in by_layer.FAILING for layer in layers):
                        results = [TrialResult(stop=Reason.LAYER_WRONG)]
                        break
                adapted = adapt(case, target, drawn)
                checked = _check_within_budget(backend, adapted.case, adapted.target, adapted.inputs, options, number)
                unlooked = own_derivative.report_unlooked(adapted.unlooked) if options.tries(own_derivative.NAME) else ()
                contracts = (*checked.contracts, *unlooked)
                remarks = (*adapted.notes, *checked.notes)
                results.append(replace(checked, notes=remarks, contracts=contracts))
            if not (needs_construction(case) or has_specs(inputs)) or results[-1].stop not in (None, Reason.EMPTY):
                break
    merged = merge_trials(blank, results, name)
    merged = replace(merged, notes=(*notes, *merged.notes))
    return add_layers(merged, layers) if layers else merged


def _check_on_ranks(case: Case, options: Options, framework: str, dtype: str) -> list[TrialResult]:
    """Check every trial on several ranks: their joint program replaces the target."""
    ranks.refuse_unsupported(case, options, framework)
    seconds = None if options.budget is None else MAX_OVER_BUDGET * options.budget

    def check(backend: Backend, number: int) -> TrialResult:
        return _check_within_budget(backend, case, case.fn, Inputs(), options, number)

    return ranks.check_ranks(case, options, dtype, seconds, check)


def _name_trial(case: Case, options: Options, number: int) -> str:
    """Return the name of the random streams of a trial."""
    return f"{options.seed}/{case.seed_label}/{number}"


def _check_within_budget(
    backend: Backend, case: Case, target: Any, inputs: Inputs, options: Options, number: int
) -> TrialResult:
    """Check one trial, which is stopped if it takes far longer than its budget; arguments as for `check_trial`."""
    try:
        with limit_trial(math.inf if options.budget is None else MAX_OVER_BUDGET * options.budget):
            return check_trial(backend, case, target, inputs, options, _name_trial(case, options, number), number)
    except OverBudgetError:
        return TrialResult(stop=Reason.OVER_BUDGET, message=OVER_BUDGET.format(options.budget))


def _refuse_what_framework_lacks(case: Case, options: Options, name: str) -> None:
    """Refuse what a case or its options ask for and its framework cannot give.

    Raises:
        InputError: with what to do instead.
    """
    if options.unbiased and options.order > 1:
        raise InputError(
            f"order={options.order}: means over random draws are of first derivatives; use order=1 for {case.name}"
        )
    if options.world is None and (options.ranks != RANKS[0] or options.replicated):
        raise InputError("ranks= and replicated= are for several ranks: say how many by world=2, or --world 2")
    if case.detached and name not in RECORDING_FRAMEWORKS:
        raise InputError(f"detached= is for torch and jax targets, and {case.name} is of {name}: name the other inputs in wrt=")
    if len(case.claims) > 1 and name != "numpy":
        raise InputError(
            f"{name_claims(case.claims)} given: a {name} target takes one hand-written derivative, since {name} computes the"
            " derivative in both modes itself"
        )
    if len(case.claims) > 1 and options.methods:
        for method in ("analytic", "forward"):
            if method not in options.methods:
                raise InputError(
                    f"{name_claims(case.claims)} given, of which methods={options.methods!r} checks one: add {method!r} to"
                    " methods=, or leave methods= out"
                )
    if options.order > MAX_ORDER_IN_NUMPY and name not in RECORDING_FRAMEWORKS:
        raise InputError(f"order={options.order}: third derivatives are for torch and jax targets; use order=2 for {case.name}")


def check_trial(
    backend: Backend, case: Case, target: Any, inputs: Inputs, options: Options, label: str, number: int
) -> TrialResult:
    """Check a case at one draw of its inputs: the derivative, and all other checks that the case and the options request.

    Args:
        backend: evaluates the target.
        case: the declaration.
        target: what is called.
        inputs: arrays and plain values.
        options: how to check.
        label: names the random streams.
        number: of the trial, from 0.

    Raises:
        TargetError: if the user's code raises at the primal.
        UsageError: if the inputs do not fit the target.
    """
    states = snapshot(target, inputs.args, inputs.kwargs) if case.reference is not None else {}
    program = restrict_to_methods(backend.bind(case, target, inputs), options.methods)
    wrt = tuple(leaf.path for leaf in program.leaves if not leaf.path.startswith("params["))
    partners = [
        _bind_partner(backend, case, function, inputs, wrt) for function in options.partners if "laws" in options.checks
    ]
    with np.errstate(all="ignore"), warnings.catch_warnings(), limit_preparation(options.budget):
        warnings.simplefilter("ignore")  # off the primal a function may overflow or leave its domain; the evidence sees that
        trial = Trial(Evaluator(program, Recorder()), options, label, number)
        without_memory = ""
        try:
            result = check_derivative(trial, partners)
        except NoMemoryError as error:
            if options.mode == "probe":
                raise
            without_memory = str(error)  # and not the error, whose traceback holds the arrays that filled the memory
            trial = replace(trial, evaluator=Evaluator(program, Recorder()))
        if without_memory:
            result = _check_along_directions(trial, partners, without_memory)
        if case.detached and options.tries(detached.NAME):
            cut_off = backend.bind(replace(case, wrt=case.detached, claims={}, intents=()), target, inputs)
            result = replace(result, contracts=(*result.contracts, *detached.check_detached(cut_off, label)))
        if case.depends and result.stop in (None, Reason.NOTHING_CLAIMED) and options.tries("depends"):
            from gradcheck.checks.contracts import dependence_rules  # only where it is declared
            from gradcheck.checks.contracts.any_target import depends

            rules = dependence_rules.bind_rules(case.depends, program, inputs, backend.to_numpy)
            result = replace(result, contracts=(*result.contracts, *depends.check_depends(rules, trial, target)))
        if options.tries(own_derivative.NAME):
            unchecked = own_derivative.check_own_derivative(case, target, program, has_rows=bool(result.comparisons))
            result = replace(result, contracts=(*result.contracts, *unchecked))
        reference = _bind_reference(backend, case, program, target, inputs, states)
        if reference is not None:
            result = compare_with_reference(result, trial, reference)
        result = check_half_precision(result, trial, reference)
        result = check_higher_orders(result, trial)
    layer = program.capabilities.layer
    evaluations = trial.recorder.evaluations
    result = replace(result, evaluations=evaluations, device=program.device)
    return replace(result, place=layer.backward_location if layer and not case.claims else None)


def _check_along_directions(trial: Trial, partners: Sequence[Program], why: str) -> TrialResult:
    """Check again along random directions only, after memory ran out while entries were checked one by one.

    Raises:
        NoMemoryError: if there is too little memory for that too.
    """
    release_memory.release_unused()
    result = check_derivative(replace(trial, options=replace(trial.options, mode="probe")), partners)
    return replace(result, notes=(*result.notes, f"probes: {why}"))


def _bind_reference(
    backend: Backend, case: Case, program: Program, target: Any, inputs: Inputs, states: States
) -> Program | None:
    """Bind the case's reference to the same inputs; it draws the random numbers that the target draws."""
    if case.reference is None:
        return None
    restore(states)
    name = bind_reference.choose_framework(
        case.reference, program.framework, lambda function: frameworks.infer_framework(function, ())
    )
    return bind_reference.bind(case, program, target, inputs, backend, load_backend(name))


def _bind_partner(backend: Backend, case: Case, function: Any, inputs: Inputs, wrt: tuple[str, ...]) -> Program:
    """Bind a function of the same inputs, with the hand-written derivative that it was declared with."""
    declared = get_declared_cases(function)
    name = str(getattr(function, "__qualname__", function))
    partner = replace(case, name=name, fn=function, wrt=wrt, claims=declared[0].claims if declared else {})
    return backend.bind(partner, function, inputs)


def _reason_of(error: TargetError) -> Reason:
    return next((reason for kind, reason in REASONS.items() if isinstance(error, kind)), Reason.TARGET_RAISED)
