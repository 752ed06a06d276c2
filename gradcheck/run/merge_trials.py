"""Of several trials the worst of each kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checks import half_precision
from gradcheck.checks.against_reference import derivative
from gradcheck.checks.derivative.check import Finding
from gradcheck.checks.optional import sensitivity
from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.glossary.verdicts import worst as worst_verdict
from gradcheck.results import CheckResult, CheckTable, Comparison, Contract, Intent, LayerResult, Reason, Verdict
from gradcheck.run import by_layer

if TYPE_CHECKING:
    from gradcheck.checks.derivative.check import Finding
    from gradcheck.targets.location import Place

EVIDENCE = ("numeric", "complex-step")
REMARKABLE = (Reason.STRAIGHT_THROUGH, Reason.TIE, Reason.KINK_SUBGRADIENT)  # ways to pass that a reader wants to hear of


def worst_comparisons(lines: list[Comparison]) -> tuple[Comparison, ...]:
    """Of each leaf and pair of methods the worst."""
    groups: dict[tuple[int, str, str, str], list[Comparison]] = {}
    for c in lines:
        groups.setdefault((c.order, c.wrt, c.method, c.against), []).append(c)
    places = {wrt: i for i, wrt in enumerate(dict.fromkeys(c.wrt for c in lines))}
    found = [_worst_comparison(group) for group in groups.values()]
    return tuple(sorted(found, key=lambda c: (c.order, places[c.wrt])))


def _worst_comparison(group: list[Comparison]) -> Comparison:
    found = min(group, key=lambda c: (SEVERITY.index(c.verdict), np.isnan(c.rel_err), -(c.ratio or 0.0), -c.rel_err))
    dullest = [c.resolution for c in group if not np.isnan(c.resolution)]
    return replace(found, resolution=max(dullest)) if found.verdict is Verdict.PASS and dullest else found


def worst_tables(found: list[CheckTable]) -> tuple[CheckTable, ...]:
    """Of each further check the worst trial; sensitivities are averaged."""
    groups: dict[str, list[CheckTable]] = {}
    for table in found:
        groups.setdefault(table.check, []).append(table)
    return tuple(
        sensitivity.merged(group) if check == "sensitivity" else min(group, key=lambda t: SEVERITY.index(t.verdict))
        for check, group in groups.items()
    )


def worst_contracts(findings: list[Finding]) -> tuple[Contract, ...]:
    """Of each contract the worst."""
    found: dict[str, Contract] = {}
    for contract in (c for f in findings for c in f.contracts):
        known = found.get(contract.name)
        if known is None or SEVERITY.index(contract.verdict) < SEVERITY.index(known.verdict):
            found[contract.name] = contract
    return tuple(found.values())


def mark_tolerated(found: tuple[Contract, ...], intents: tuple[Intent, ...]) -> tuple[Contract, ...]:
    """The same with why each that is broken is declared to decide nothing."""
    why = {intent.subject: intent.because for intent in intents if intent.kind == "tolerates"}
    return tuple(c if c.verdict is Verdict.PASS else replace(c, tolerated=why.get(c.name, "")) for c in found)


def _claimed_at(place: Place) -> dict[str, Any]:
    return {"claim_file": place[0], "claim_line": place[1]}


def merged(blank: CheckResult, findings: list[Finding], framework: str) -> CheckResult:
    """Join the trials: for each leaf and pair of methods, the worst."""
    comparisons = worst_comparisons([c for f in findings for c in f.comparisons])
    contracts = mark_tolerated(worst_contracts(findings), blank.intents)
    checks = worst_tables([t for f in findings for t in f.checks])
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
        if c.against in EVIDENCE or c.order == derivative.ORDER:
            claimed.setdefault((c.order, c.wrt, c.method), []).append(c)
        elif c.against == half_precision.AGAINST:
            claimed[c.order, c.wrt, f"{c.method}, {c.dtype}"] = [c]
    sure = derivative.confirmed(comparisons)
    open_ = [g for key, g in claimed.items() if key not in sure and all(c.verdict is not Verdict.PASS for c in g)]
    if open_:
        return worst_verdict(c.verdict for c in open_[0]), open_[0][0].reason
    seen = {c.reason for c in comparisons if c.verdict is Verdict.PASS}
    return Verdict.PASS, next((reason for reason in REMARKABLE if reason in seen), Reason.AGREES)
