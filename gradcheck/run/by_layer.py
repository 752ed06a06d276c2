"""A model layer by layer: check each part on the inputs that it receives in the model, and name those that are wrong.

The parts of a module are its submodules, those of a JAX function the custom rules that it applies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck import progress
from gradcheck.backends.load_target import choose_framework
from gradcheck.backends.recorded_layer import MAX_RECORDED_CALLS
from gradcheck.errors import InputError, UsageError
from gradcheck.glossary.verdicts import SEVERITY, worst_verdict
from gradcheck.results import CheckResult, LayerResult, Verdict
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


def check_layers(
    case: Case, model: Any, inputs: Inputs, options: Options, check: Callable[[Case, Options], CheckResult]
) -> tuple[LayerResult, ...]:
    """Check every submodule, or custom rule of a JAX function, separately, except modules that contain a wrong one.

    Args:
        case: the case of the whole model; its layers inherit some of its intents.
        model: the module or JAX function.
        inputs: the inputs of the model.
        options: how to check each layer; `by_layer` and `trials` are ignored.
        check: checks one case; it raises InputError if the case has nothing to differentiate.

    Returns:
        The result of each layer, in the order of the model's tree.

    Raises:
        UsageError: if the target is neither a module nor a JAX function with custom rules.
    """
    layer_options = replace(options, by_layer=False, trials=1)
    layer_results: list[LayerResult] = []
    framework, layers = _record_layers(case, model, inputs)
    for done, layer in enumerate(reversed(layers)):  # inner layers come first
        progress.report_progress(f"layer {layer.path}", done, len(layers))
        contains_failure = any(inner.path.startswith(f"{layer.path}.") and inner.verdict in FAILING for inner in layer_results)
        calls = layer.calls if layer.path and not contains_failure else ()
        results = [_check_call(replace(case, framework=framework), layer, call, layer_options, check) for call in calls]
        differentiable = [result for result in results if result is not None]
        was_skipped = contains_failure and bool(layer.calls)
        message = "not checked: a layer inside is wrong" if was_skipped else layer.message or _describe_unchecked_calls(layer)
        layer_results.append(_summarise_calls(layer.path, layer.kind, layer.count, differentiable, message))
    return tuple(reversed(layer_results))


def _describe_unchecked_calls(layer: RecordedLayer) -> str:
    """Say that only the first calls of a layer were checked; '' if all were."""
    is_cut = len(layer.calls) == MAX_RECORDED_CALLS < layer.count
    return f"the first {MAX_RECORDED_CALLS} calls were checked" if is_cut else ""


def _record_layers(case: Case, model: Any, inputs: Inputs) -> tuple[str, list[RecordedLayer]]:
    """Return the framework of a model, and its layers with their calls."""
    if classify_target(model) is TargetKind.MODULE:
        from gradcheck.backends.torch import recorded_layers

        return "torch", recorded_layers.record_layers(model, inputs)
    if choose_framework(case) == "jax":
        from gradcheck.backends.jax import recorded_rules

        return "jax", recorded_rules.record_layers(case, model, inputs)
    raise UsageError(
        f"by_layer: {case.name} is {type(model).__name__}: expected a torch.nn.Module, whose layers it names, or a JAX function"
    )


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
        wrt=call.wrt,
        framework=case.framework,
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


def _summarise_calls(path: str, kind: str, calls: int, results: list[CheckResult], message: str) -> LayerResult:
    """Return the result of a layer: that of its worst call.

    Args:
        path: the layer's path in the model.
        kind: the name of its class.
        calls: how often the model calls it.
        results: the results of the calls that were checked.
        message: why it was not checked, or which of its calls were; for a layer that passes or has no result.
    """
    if not results:
        return LayerResult(path, kind, calls, message=message)
    worst = min(results, key=lambda result: SEVERITY.index(result.verdict))
    return LayerResult(
        path,
        kind,
        calls,
        worst.verdict,
        worst.reason,
        worst.resolution,
        message if worst.verdict is Verdict.PASS else worst.message,
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
        return f"{layers_are} given its inputs: look at what {between}"
    return ""


def _are_rules(layers: tuple[LayerResult, ...]) -> bool:
    """Whether the layers are custom rules of JAX rather than submodules."""
    return any(layer.kind in JAX_RULES for layer in layers)


def _name_layers(wrong: list[LayerResult], verdict: Verdict, word: str) -> str:
    """Name the layers of one verdict, as in 'a and b are wrong'; '' if there is none."""
    names = list(dict.fromkeys(_display_name(layer) for layer in wrong if layer.verdict is verdict))
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} {word}" if names else ""


def _display_name(layer: LayerResult) -> str:
    if layer.kind != FUNCTION_KIND:
        return layer.path
    module, _, function = layer.path.rpartition(".")
    return f"{module or 'the model'} (in its {FUNCTION_KIND} {function})"
