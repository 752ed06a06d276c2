"""A model layer by layer: check each submodule on the inputs that it receives in the model, and name those that are wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck import progress
from gradcheck.errors import InputError, UsageError
from gradcheck.glossary.verdicts import SEVERITY, worst_verdict
from gradcheck.results import CheckResult, LayerResult, Verdict
from gradcheck.targets.case import Case, locate_source
from gradcheck.targets.framework import TargetKind, classify_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.torch.recorded_layers import RecordedCall, RecordedLayer
    from gradcheck.options import Options
    from gradcheck.targets.signature import Inputs


FUNCTION_KIND = TargetKind.AUTOGRAD_FUNCTION.value
INHERITED_INTENTS = ("straight-through", "tolerates", "nondeterministic")  # declared for a model, they hold for its layers, too
FAILING = (Verdict.FAIL, Verdict.ERROR)


def check_layers(
    case: Case, model: Any, inputs: Inputs, options: Options, check: Callable[[Case, Options], CheckResult]
) -> tuple[LayerResult, ...]:
    """Check every submodule separately, except those that contain a wrong one.

    Args:
        case: the case of the whole model; its layers inherit some of its intents.
        model: the module.
        inputs: the inputs of the model.
        options: how to check each layer; `by_layer` and `trials` are ignored.
        check: checks one case; it raises InputError if the case has nothing to differentiate.

    Returns:
        The result of each layer, in the order of the model's tree.

    Raises:
        UsageError: if the target is not a module.
    """
    if classify_target(model) is not TargetKind.MODULE:
        raise UsageError(f"by_layer: {case.name} is {type(model).__name__}: expected a torch.nn.Module, whose layers it names")
    from gradcheck.backends.torch.recorded_layers import record_layers

    layer_options = replace(options, by_layer=False, trials=1)
    layer_results: list[LayerResult] = []
    layers = record_layers(model, inputs)
    for done, layer in enumerate(reversed(layers)):  # inner layers come first
        progress.report_progress(f"layer {layer.path}", done, len(layers))
        contains_failure = any(inner.path.startswith(f"{layer.path}.") and inner.verdict in FAILING for inner in layer_results)
        calls = layer.calls if layer.path and not contains_failure else ()
        results = [_check_call(case, layer, call, layer_options, check) for call in calls]
        differentiable = [result for result in results if result is not None]
        was_skipped = contains_failure and bool(layer.calls)
        layer_results.append(_summarise_calls(layer.path, layer.kind, layer.count, differentiable, skipped=was_skipped))
    return tuple(reversed(layer_results))


def _check_call(
    case: Case, layer: RecordedLayer, call: RecordedCall, options: Options, check: Callable[[Case, Options], CheckResult]
) -> CheckResult | None:
    """Check one call of a layer; return None if the layer has nothing to differentiate."""
    file, line = locate_source(layer.target)
    layer_case = Case(
        f"{case.name}.{layer.path}",
        layer.target,
        call.args,
        call.kwargs,
        framework="torch",
        intents=tuple(intent for intent in case.intents if intent.kind in INHERITED_INTENTS),
        upstream=call.cotangents,
        file=file,
        line=line,
        overwrites=call.overwritten,
    )
    try:
        return check(layer_case, options)
    except InputError:
        return None


def _summarise_calls(path: str, kind: str, calls: int, results: list[CheckResult], *, skipped: bool) -> LayerResult:
    """Return the result of a layer: that of its worst call.

    Args:
        path: the layer's path in the model.
        kind: the name of its class.
        calls: how often the model calls it.
        results: the results of the calls that were checked.
        skipped: whether it was not checked because a layer inside is wrong.
    """
    if not results:
        return LayerResult(path, kind, calls, message="not checked: a layer inside is wrong" if skipped else "")
    worst = min(results, key=lambda result: SEVERITY.index(result.verdict))
    return LayerResult(
        path,
        kind,
        calls,
        worst.verdict,
        worst.reason,
        worst.resolution,
        worst.message,
        worst.traceback,
        worst.comparisons,
        worst.contracts,
        evaluations=sum(result.evaluations for result in results),
        file=worst.claim_file,
        line=worst.claim_line,
    )


def describe_wrong_layers(layers: tuple[LayerResult, ...], whole: Verdict) -> str:
    """Say in a sentence which layers are wrong; '' if none is. A wrong Function is named with the module that applies it."""
    wrong = [layer for layer in layers if layer.verdict in FAILING]
    others = worst_verdict(layer.verdict for layer in layers if layer not in wrong and layer.verdict is not None)
    if wrong:
        rest = "everything else is right given its inputs" if others is Verdict.PASS else "some others could not be decided"
        sentences = [
            _name_layers(wrong, verdict, word) for verdict, word in ((Verdict.FAIL, "wrong"), (Verdict.ERROR, "broken"))
        ]
        return f"{', '.join(filter(None, sentences))}; {rest}"
    if whole is Verdict.FAIL:
        layers_are = "every layer is right" if others is Verdict.PASS else "no layer is certainly wrong"
        return f"{layers_are} given its inputs: look at what the model does between them"
    return ""


def _name_layers(wrong: list[LayerResult], verdict: Verdict, word: str) -> str:
    """Name the layers of one verdict, as in 'a and b are wrong'; '' if there is none."""
    names = list(dict.fromkeys(_display_name(layer) for layer in wrong if layer.verdict is verdict))
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} {word}" if names else ""


def _display_name(layer: LayerResult) -> str:
    if layer.kind != FUNCTION_KIND:
        return layer.path
    module, _, function = layer.path.rpartition(".")
    return f"{module or 'the model'} (in its {FUNCTION_KIND} {function})"
