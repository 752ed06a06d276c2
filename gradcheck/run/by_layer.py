"""A model layer by layer: each submodule checked on the inputs that it has in the model, and the one that is wrong named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck.errors import InputError, UsageError
from gradcheck.results import SEVERITY, CheckResult, LayerResult, Verdict, worst
from gradcheck.targets.case import Case
from gradcheck.targets.framework import Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.options import Options
    from gradcheck.targets.signature import Inputs


def layers_of(
    case: Case, model: Any, inputs: Inputs, options: Options, check: Callable[[Case, Options], CheckResult]
) -> tuple[LayerResult, ...]:
    """Check every submodule by itself, but those that hold a wrong one, in the order of the model's tree.

    Raises:
        UsageError: where the target is no module.
    """
    if kind_of(model) is not Kind.MODULE:
        raise UsageError(f"by_layer: {case.name} is {type(model).__name__}: expected a torch.nn.Module, whose layers it names")
    from gradcheck.backends.capture import captured

    alone = replace(options, by_layer=False, trials=1)
    found: list[LayerResult] = []
    for one in reversed(captured(model, inputs)):  # what is inside comes first
        inside = any(layer.path.startswith(f"{one.path}.") and layer.verdict is Verdict.FAIL for layer in found)
        calls = one.calls if one.path and not inside else ()
        results = [_checked(case, one.path, one.module, call, alone, check) for call in calls]
        told = [result for result in results if result is not None]
        found.append(_layer(one.path, type(one.module).__name__, one.count, told, inside=inside and bool(one.calls)))
    return tuple(reversed(found))


def _checked(
    case: Case, path: str, module: Any, call: tuple[Any, Any], options: Options, check: Callable[[Case, Options], CheckResult]
) -> CheckResult | None:
    """None where a layer has nothing to differentiate."""
    args, kwargs = call
    try:
        return check(Case(name=f"{case.name}.{path}", fn=module, args=args, kwargs=kwargs, framework="torch"), options)
    except InputError:
        return None


def _layer(path: str, kind: str, calls: int, results: list[CheckResult], *, inside: bool) -> LayerResult:
    """The worst of a layer's calls."""
    if not results:
        return LayerResult(path, kind, calls, message="not looked at: a layer inside is wrong" if inside else "")
    one = min(results, key=lambda result: SEVERITY.index(result.verdict))
    found = LayerResult(path, kind, calls, one.verdict, one.reason, one.resolution, one.message, one.comparisons, one.contracts)
    return replace(found, evaluations=sum(result.evaluations for result in results))


def culprit_of(layers: tuple[LayerResult, ...], whole: Verdict) -> str:
    """Which layers are wrong, in a sentence; '' where nothing is."""
    wrong = [layer.path for layer in layers if layer.verdict is Verdict.FAIL]
    others = worst(layer.verdict for layer in layers if layer.path not in wrong and layer.verdict is not None)
    if wrong:
        told = "everything else is right" if others is Verdict.PASS else "of some others it cannot be told"
        return f"{' and '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} wrong; {told} given its inputs"
    if whole is Verdict.FAIL:
        told = "every layer is right" if others is Verdict.PASS else "no layer is certainly wrong"
        return f"{told} given its inputs: look at what the model does between them"
    return ""
