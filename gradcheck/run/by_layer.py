"""A model layer by layer: check each part on the inputs that it receives in the model, and name those that are wrong.

The parts of a module are its submodules, those of a JAX function the custom rules that it applies, and those of NumPy code the
objects with `forward` and `backward` and the functions with a backward.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck import progress
from gradcheck.backends.load_target import choose_framework
from gradcheck.backends.recorded_layer import BACKWARD_NOT_CALLED, MAX_RECORDED_CALLS
from gradcheck.errors import InputError, UsageError
from gradcheck.glossary.verdicts import SEVERITY, worst_verdict
from gradcheck.results import CheckResult, LayerResult, Reason, Verdict
from gradcheck.targets.case import Case, locate_source
from gradcheck.targets.framework import TargetKind, classify_target
from gradcheck.targets.location import JAX_RULES

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.recorded_layer import RecordedCall, RecordedLayer
    from gradcheck.options import Options
    from gradcheck.targets.signature import Inputs


FUNCTION_KIND = TargetKind.AUTOGRAD_FUNCTION.value
INHERITED_INTENTS = ("straight-through", "tolerates", "nondeterministic")  # declared for a model, they hold for its layers, too
FAILING = (Verdict.FAIL, Verdict.ERROR)
RECORDERS = {"jax": "recorded_rules", "numpy": "recorded_layers"}  # files of backends that find the parts of a function


def check_layers(
    case: Case, model: Any, inputs: Inputs, options: Options, check: Callable[[Case, Options], CheckResult]
) -> tuple[LayerResult, ...]:
    """Check every layer separately, except those that contain a wrong one.

    Args:
        case: the case of the whole model; its layers inherit some of its intents.
        model: the module or the function.
        inputs: the inputs of the model.
        options: how to check each layer; `by_layer` and `trials` are ignored.
        check: checks one case; it raises InputError if the case has nothing to differentiate.

    Returns:
        The result of each layer, in the order of the model's tree.

    Raises:
        UsageError: if the target has no layers.
    """
    layer_options = replace(options, by_layer=False, trials=1)
    layer_results: list[LayerResult] = []
    framework, layers = _record_layers(case, model, inputs)
    for done, layer in enumerate(reversed(layers)):  # inner layers come first
        progress.report_progress(f"layer {layer.path}", done, len(layers))
        contains_failure = any(inner.verdict in FAILING and layer.contains(inner.path) for inner in layer_results)
        calls = layer.calls if layer.path and not contains_failure else []
        results = [_check_call(replace(case, framework=framework), layer, call, layer_options, check) for call in calls]
        was_skipped = contains_failure and bool(layer.calls)
        message = "not checked: a layer inside is wrong" if was_skipped else layer.message or _describe_unchecked_calls(layer)
        layer_results.append(_summarise_calls(layer, results, message))
    may_be_convention = any(map(_may_be_convention, layer_results))
    if may_be_convention and check(case, replace(layer_options, contracts=False)).verdict is Verdict.PASS:
        layer_results = [replace(r, verdict=Verdict.INCONCLUSIVE) if _may_be_convention(r) else r for r in layer_results]
    return tuple(reversed(layer_results))


def _may_be_convention(layer: LayerResult) -> bool:
    """Whether other layers may make up for a backward that is wrong alone, such as one that divides by the batch's size."""
    return bool(layer.derivative) and layer.verdict is Verdict.FAIL and layer.reason is not Reason.CONTRACT_BROKEN


def _record_layers(case: Case, model: Any, inputs: Inputs) -> tuple[str, list[RecordedLayer]]:
    """Return the framework of a model, and its layers with their calls."""
    if classify_target(model) is TargetKind.MODULE:
        from gradcheck.backends.torch import recorded_layers

        return "torch", recorded_layers.record_layers(model, inputs)
    framework = choose_framework(case)
    if framework == "torch":
        kind = type(model).__name__
        raise UsageError(
            f"by_layer: {case.name} is {kind}: expected a torch.nn.Module, whose layers it names, a JAX function or NumPy code"
        )
    recorder = importlib.import_module(f"gradcheck.backends.{framework}.{RECORDERS[framework]}")
    return framework, recorder.record_layers(case, model, inputs)


def _describe_unchecked_calls(layer: RecordedLayer) -> str:
    """Say that only the first calls of a layer were checked; '' if all were."""
    is_cut = len(layer.calls) == MAX_RECORDED_CALLS < layer.count
    return f"the first {MAX_RECORDED_CALLS} calls were checked" if is_cut else ""


def _check_call(
    case: Case, layer: RecordedLayer, call: RecordedCall, options: Options, check: Callable[[Case, Options], CheckResult]
) -> CheckResult | None:
    """Check one call of a layer; return None if the layer has nothing to differentiate."""
    file, line = locate_source(layer.source or layer.target)
    layer_case = Case(
        f"{case.name}.{layer.path}",
        call.target or layer.target,
        call.args,
        call.kwargs,
        claims=call.claims,
        wrt=call.wrt,
        framework=case.framework,
        intents=tuple(intent for intent in case.intents if intent.kind in INHERITED_INTENTS),
        upstream=call.cotangents,
        file=file,
        line=line,
        overwrites=call.overwritten,
    )
    try:
        result = check(layer_case, options)
    except InputError:
        return None
    return _leave_ties_undecided(result) if call.claims else result


def _leave_ties_undecided(result: CheckResult) -> CheckResult:
    """Leave a hand-written backward undecided that is wrong only at kinks, such as the ties of zeros that ReLU hands to a pool.

    The network may never leave the tie, or multiply what is wrong there by zero: its own gradient decides.
    """
    reasons = {row.reason for row in result.comparisons if row.verdict is Verdict.FAIL}
    is_broken = any(contract.verdict is Verdict.FAIL and not contract.tolerated for contract in result.contracts)
    return replace(result, verdict=Verdict.INCONCLUSIVE) if reasons == {Reason.OUTSIDE_KINK} and not is_broken else result


def _summarise_calls(layer: RecordedLayer, results: list[CheckResult | None], message: str) -> LayerResult:
    """Return the result of a layer: that of its worst call.

    Args:
        layer: the layer with its calls.
        results: of the calls that were checked; None for one that has nothing to differentiate.
        message: why it was not checked, or which of its calls were; for a layer that passes or has no result.
    """
    summary = LayerResult(layer.path, layer.kind, layer.count, message=message, derivative=layer.derivative)
    checked = [result for result in results if result is not None]
    if not checked:
        return summary
    worst = min(checked, key=lambda result: SEVERITY.index(result.verdict))
    return replace(
        summary,
        verdict=worst.verdict,
        reason=worst.reason,
        resolution=worst.resolution,
        message=message if worst.verdict is Verdict.PASS else worst.message,
        traceback=worst.traceback,
        comparisons=worst.comparisons,
        contracts=worst.contracts,
        evaluations=sum(result.evaluations for result in checked),
        file=worst.claim_file,
        line=worst.claim_line,
        derivative=layer.derivative and layer.derivative + _name_failing_calls(results),
    )


def _name_failing_calls(results: list[CheckResult | None]) -> str:
    """Number the calls that fail, as in ' (call 2)'; '' if all of them do."""
    failing = [str(k) for k, result in enumerate(results, 1) if result is not None and result.verdict in FAILING]
    is_part = 0 < len(failing) < len(results)
    return f" (call{'s' * (len(failing) > 1)} {', '.join(failing)})" if is_part else ""


def describe_wrong_layers(layers: tuple[LayerResult, ...], whole: Verdict) -> str:
    """Say in a sentence which layers are wrong; '' if none is. A wrong Function is named with the module that applies it."""
    wrong = [layer for layer in layers if layer.verdict in FAILING]
    others = [layer.verdict for layer in layers if layer not in wrong and layer.verdict is not None]
    all_pass = worst_verdict(others) is Verdict.PASS
    part, between = (
        ("rule", "the function does between its rules") if _are_rules(layers) else ("layer", "the model does between them")
    )
    if wrong:
        everything = f"every other {part} that was checked" if _are_rules(layers) else "everything else"
        rest = f"{everything} is right given its inputs" if all_pass else "some others could not be decided"
        sentences = [
            _name_layers(wrong, verdict, word) for verdict, word in ((Verdict.FAIL, "wrong"), (Verdict.ERROR, "broken"))
        ]
        return "; ".join([", ".join(filter(None, sentences)), *([rest] if others or part == "layer" else [])])
    if whole is Verdict.FAIL:
        layers_are = f"every {part} is right" if all_pass else f"no {part} is certainly wrong"
        unchecked = [layer for layer in layers if layer.derivative and layer.verdict is None and layer.calls]
        forgotten = [layer.derivative for layer in unchecked if layer.message == BACKWARD_NOT_CALLED]
        names = " and ".join(layer.derivative for layer in unchecked)
        advice = f"look at what {between}" + (f", and at {names}, not checked" if names else "")
        if forgotten:
            advice = f"{' and '.join(forgotten)} {'is' if len(forgotten) == 1 else 'are'} never called"
        return f"{layers_are} given its inputs: {advice}"
    excused = [layer for layer in layers if layer.derivative and any(row.verdict is Verdict.FAIL for row in layer.comparisons)]
    if whole is Verdict.PASS and excused:
        return f"the model is right, although not every layer is alone: {_name_layers(excused, Verdict.INCONCLUSIVE, 'wrong')}"
    return ""


def _are_rules(layers: tuple[LayerResult, ...]) -> bool:
    """Whether the layers are custom rules of JAX rather than submodules."""
    return any(layer.kind in JAX_RULES for layer in layers)


def _name_layers(wrong: list[LayerResult], verdict: Verdict, word: str) -> str:
    """Name the layers of one verdict, as in 'a and b are wrong' or 'a.backward: dW is 0'; '' if there is none."""
    layers = [layer for layer in wrong if layer.verdict is verdict]
    names = list(dict.fromkeys(_display_name(layer) for layer in layers if not layer.derivative))
    named = [f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} {word}"] if names else []
    by_cause: dict[str, list[str]] = {}
    for layer in layers:
        if layer.derivative:
            by_cause.setdefault(_describe_cause(layer, word), []).append(layer.derivative)
    return "; ".join([*named, *(f"{' and '.join(backwards)}: {cause}" for cause, backwards in by_cause.items())])


def _describe_cause(layer: LayerResult, word: str) -> str:
    """Say what is wrong with each gradient of a hand-written backward: 'dW is 4 times the derivative, db is zero'."""
    causes: dict[str, str] = {}
    for row in layer.comparisons:
        if row.verdict is Verdict.FAIL and row.method == "analytic":
            _, _, text = (row.diagnosis or "").partition(": the claim ")
            cause = re.sub(r" on all \d+ entries", "", text.partition(";")[0])
            causes[row.wrt] = causes.get(row.wrt) or cause
    by_cause: dict[str, list[str]] = {}
    for wrt, cause in causes.items():
        by_cause.setdefault(cause or "is wrong", []).append(f"d{_last_name(wrt)}")
    gradients = [
        f"{' and '.join(names)} {cause if len(names) == 1 else re.sub('^is', 'are', cause)}"
        for cause, names in by_cause.items()
    ]
    broken = [f"breaks the contract {c.name}" for c in layer.contracts if c.verdict is Verdict.FAIL and not c.tolerated]
    raised = re.sub(r"^backward=\S+ ", "", layer.message.partition("\n")[0])
    return ", ".join(gradients or broken) or raised or word


def _last_name(path: str) -> str:
    """Return the last name in the path of a leaf: `W1` of `params['W1']`."""
    names = re.findall(r"\w+", path)
    return names[-1] if names else path


def _display_name(layer: LayerResult) -> str:
    if layer.kind != FUNCTION_KIND:
        return layer.path
    module, _, function = layer.path.rpartition(".")
    return f"{module or 'the model'} (in its {FUNCTION_KIND} {function})"
