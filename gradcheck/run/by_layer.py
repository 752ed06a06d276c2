"""A model layer by layer: each submodule checked on the inputs that it has in the model, and the one that is wrong named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck import progress
from gradcheck.errors import InputError, UsageError
from gradcheck.glossary.verdicts import SEVERITY, worst
from gradcheck.results import CheckResult, LayerResult, Verdict
from gradcheck.targets.case import Case, source_of
from gradcheck.targets.framework import Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.torch.hooks import Call, Captured
    from gradcheck.options import Options
    from gradcheck.targets.signature import Inputs


FUNCTION = Kind.AUTOGRAD_FUNCTION.value
INHERITED = ("straight-through", "tolerates", "nondeterministic")  # what is declared of a model that its layers may do, too
BAD = (Verdict.FAIL, Verdict.ERROR)


def layers_of(
    case: Case, model: Any, inputs: Inputs, options: Options, check: Callable[[Case, Options], CheckResult]
) -> tuple[LayerResult, ...]:
    """Check every submodule by itself, but those that hold a wrong one, in the order of the model's tree.

    Raises:
        UsageError: where the target is no module.
    """
    if kind_of(model) is not Kind.MODULE:
        raise UsageError(f"by_layer: {case.name} is {type(model).__name__}: expected a torch.nn.Module, whose layers it names")
    from gradcheck.backends.torch.hooks import captured

    alone = replace(options, by_layer=False, trials=1)
    found: list[LayerResult] = []
    layers = captured(model, inputs)
    for done, one in enumerate(reversed(layers)):  # what is inside comes first
        progress.tell(f"layer {one.path}", done, len(layers))
        inside = any(layer.path.startswith(f"{one.path}.") and layer.verdict in BAD for layer in found)
        calls = one.calls if one.path and not inside else ()
        results = [_checked(case, one, call, alone, check) for call in calls]
        told = [result for result in results if result is not None]
        found.append(_layer(one.path, one.kind, one.count, told, inside=inside and bool(one.calls)))
    return tuple(reversed(found))


def _checked(
    case: Case, one: Captured, call: Call, options: Options, check: Callable[[Case, Options], CheckResult]
) -> CheckResult | None:
    """None where a layer has nothing to differentiate."""
    file, line = source_of(one.target)
    apart = Case(
        f"{case.name}.{one.path}",
        one.target,
        call.args,
        call.kwargs,
        framework="torch",
        intents=tuple(intent for intent in case.intents if intent.kind in INHERITED),
        upstream=call.cotangents,
        file=file,
        line=line,
        overwrites=call.overwritten,
    )
    try:
        return check(apart, options)
    except InputError:
        return None


def _layer(path: str, kind: str, calls: int, results: list[CheckResult], *, inside: bool) -> LayerResult:
    """The worst of a layer's calls."""
    if not results:
        return LayerResult(path, kind, calls, message="not looked at: a layer inside is wrong" if inside else "")
    one = min(results, key=lambda result: SEVERITY.index(result.verdict))
    return LayerResult(
        path,
        kind,
        calls,
        one.verdict,
        one.reason,
        one.resolution,
        one.message,
        one.traceback,
        one.comparisons,
        one.contracts,
        evaluations=sum(result.evaluations for result in results),
        file=one.claim_file,
        line=one.claim_line,
    )


def culprit_of(layers: tuple[LayerResult, ...], whole: Verdict) -> str:
    """Which layers are wrong, in a sentence; '' where nothing is. Of a Function that is wrong, the module that applies it."""
    wrong = [layer for layer in layers if layer.verdict in BAD]
    others = worst(layer.verdict for layer in layers if layer not in wrong and layer.verdict is not None)
    if wrong:
        told = "everything else is right" if others is Verdict.PASS else "of some others it cannot be told"
        named = [_told(wrong, verdict, what) for verdict, what in ((Verdict.FAIL, "wrong"), (Verdict.ERROR, "broken"))]
        return f"{', '.join(filter(None, named))}; {told} given its inputs"
    if whole is Verdict.FAIL:
        told = "every layer is right" if others is Verdict.PASS else "no layer is certainly wrong"
        return f"{told} given its inputs: look at what the model does between them"
    return ""


def _told(wrong: list[LayerResult], verdict: Verdict, what: str) -> str:
    named = list(dict.fromkeys(_named(layer) for layer in wrong if layer.verdict is verdict))
    return f"{' and '.join(named)} {'is' if len(named) == 1 else 'are'} {what}" if named else ""


def _named(layer: LayerResult) -> str:
    if layer.kind != FUNCTION:
        return layer.path
    module, _, function = layer.path.rpartition(".")
    return f"{module or 'the model'} (in its {FUNCTION} {function})"
