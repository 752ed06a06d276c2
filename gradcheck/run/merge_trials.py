"""From the results of several trials to one result: the worst of each kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checks.against_reference.derivative import NUMERICAL_METHODS, find_confirmed_claims
from gradcheck.checks.against_reference.value import VALUE_ORDER
from gradcheck.checks.half_precision import TWIN_METHOD
from gradcheck.checks.optional import sensitivity
from gradcheck.checks.trial_result import TrialResult
from gradcheck.compare.trial_recorder import BRANCH_TAKEN
from gradcheck.glossary.verdicts import SEVERITY, worst_verdict
from gradcheck.results import CheckResult, CheckTable, Comparison, Contract, Intent, LayerResult, Reason, Verdict
from gradcheck.run import by_layer

if TYPE_CHECKING:
    from gradcheck.targets.location import Location

# Ways to pass that a reader wants to know of, the most remarkable first.
REMARKABLE_PASSES = (Reason.UNBIASED, Reason.STRAIGHT_THROUGH, Reason.TIE, Reason.KINK_SUBGRADIENT)


def merge_comparisons(comparisons: list[Comparison]) -> tuple[Comparison, ...]:
    """Keep the worst row of each leaf and pair of methods, in order of derivative and leaf."""
    groups: dict[tuple[int, str, str, str], list[Comparison]] = {}
    for row in comparisons:
        groups.setdefault((row.order, row.wrt, row.method, row.against), []).append(row)
    leaf_positions = {wrt: i for i, wrt in enumerate(dict.fromkeys(row.wrt for row in comparisons))}
    worst = [_merge_rows(group) for group in groups.values()]
    return tuple(sorted(worst, key=lambda row: (row.order, leaf_positions[row.wrt])))


def _merge_rows(group: list[Comparison]) -> Comparison:
    """Return the worst of some rows; a PASS states the coarsest resolution among them."""
    if len(group) == 1:
        return group[0]
    worst = min(group, key=lambda row: (SEVERITY.index(row.verdict), np.isnan(row.rel_err), -(row.ratio or 0.0), -row.rel_err))
    resolutions = [row.resolution for row in group if not np.isnan(row.resolution)]
    return replace(worst, resolution=max(resolutions)) if worst.verdict is Verdict.PASS and resolutions else worst


def merge_check_tables(tables: list[CheckTable]) -> tuple[CheckTable, ...]:
    """Keep the worst table of each optional check; sensitivities are averaged."""
    groups: dict[str, list[CheckTable]] = {}
    for table in tables:
        groups.setdefault(table.check, []).append(table)
    return tuple(
        sensitivity.merge_tables(group) if check == "sensitivity" else min(group, key=lambda t: SEVERITY.index(t.verdict))
        for check, group in groups.items()
    )


def merge_contracts(contracts: Iterable[Contract]) -> tuple[Contract, ...]:
    """Keep the worst outcome of each contract."""
    worst: dict[str, Contract] = {}
    for contract in contracts:
        known = worst.get(contract.name)
        if known is None or SEVERITY.index(contract.verdict) < SEVERITY.index(known.verdict):
            worst[contract.name] = contract
    return tuple(worst.values())


def mark_tolerated(contracts: tuple[Contract, ...], intents: tuple[Intent, ...]) -> tuple[Contract, ...]:
    """Add to each broken contract that the user declared to tolerate why it decides nothing."""
    why = {intent.subject: intent.because for intent in intents if intent.kind == "tolerates"}
    return tuple(
        contract if contract.verdict is Verdict.PASS else replace(contract, tolerated=why.get(contract.name, ""))
        for contract in contracts
    )


def claim_location_fields(location: Location) -> dict[str, Any]:
    """Return the fields of a `CheckResult` that say where the claim is written."""
    return {"claim_file": location[0], "claim_line": location[1]}


def merge_trials(blank: CheckResult, trial_results: list[TrialResult], framework: str) -> CheckResult:
    """Merge the results of all trials into the result of the case.

    Args:
        blank: the result of the case before it was checked.
        trial_results: one result per trial.
        framework: of the target.
    """
    comparisons = merge_comparisons([row for result in trial_results for row in result.comparisons])
    contracts = merge_contracts(contract for result in trial_results for contract in result.contracts)
    contracts = mark_tolerated(contracts, blank.intents)
    checks = merge_check_tables([table for result in trial_results for table in result.checks])
    # An empty draw says nothing where others have entries.
    filled = [result for result in trial_results if result.stop is not Reason.EMPTY] or trial_results
    stopped = next((result for result in filled if result.stop), None)
    location = next((result.place for result in trial_results if result.place), None)
    undecided = [rows for result in trial_results for rows in _list_undecided(merge_comparisons(list(result.comparisons)))]
    verdict, reason = _decide(comparisons, contracts, stopped, undecided)
    if checks and verdict is not Verdict.ERROR:
        # A check that does not apply decides nothing.
        of_checks = [(table.verdict, table.reason) for table in checks if table.reason is not Reason.NOT_SCALAR]
        verdict, reason = min([(verdict, reason), *of_checks], key=lambda pair: SEVERITY.index(pair[0]))
    return replace(
        blank,
        verdict=verdict,
        reason=reason,
        comparisons=comparisons,
        contracts=contracts,
        checks=checks,
        partials=trial_results[0].partials,
        notes=_merge_notes(trial_results),
        details=tuple(dict.fromkeys(detail for result in trial_results for detail in result.details)),
        message=stopped.message if stopped and reason is stopped.stop else "",
        framework=framework,
        mode=next((result.mode for result in trial_results if result.mode), ""),
        device=next((result.device for result in trial_results if result.device), ""),
        trials=len(trial_results),
        evaluations=sum(result.evaluations for result in trial_results),
        **(claim_location_fields(location) if location else {}),
    )


def _merge_notes(trial_results: list[TrialResult]) -> tuple[str, ...]:
    """Keep each note once, and count the branches that the inputs of several trials chose in exact traces."""
    notes = tuple(dict.fromkeys(note for result in trial_results for note in result.notes))
    visited = [result.branches for result in trial_results if result.branches]
    if len(visited) < 2:
        return notes
    count = len(set(visited))
    visits = f"{count} branch{'es' if count > 1 else ''} visited in {len(visited)} draws"
    return tuple(note.replace(BRANCH_TAKEN, visits) for note in notes)


def add_layers(result: CheckResult, layers: tuple[LayerResult, ...]) -> CheckResult:
    """Add the layers of a module to its result; a wrong layer decides the verdict."""
    with_layers = replace(
        result,
        layers=layers,
        culprit=by_layer.describe_wrong_layers(layers, result.verdict),
        evaluations=result.evaluations + sum(layer.evaluations for layer in layers),
    )
    if with_layers.reason is not Reason.LAYER_WRONG:
        return with_layers
    wrong = next(layer for layer in layers if layer.verdict in by_layer.FAILING)
    verdict = worst_verdict(layer.verdict for layer in layers if layer.verdict is not None)
    return replace(with_layers, verdict=verdict, **claim_location_fields((wrong.file, wrong.line)))


def _decide(
    comparisons: tuple[Comparison, ...],
    contracts: tuple[Contract, ...],
    stopped: TrialResult | None,
    undecided: list[list[Comparison]],
) -> tuple[Verdict, Reason]:
    """Decide the verdict of a case.

    It is FAIL if anything is certainly wrong, and PASS if in every trial independent evidence confirms every claim on every
    leaf, or if there is no number to differentiate.
    """
    wrong = [row for row in comparisons if row.verdict is Verdict.FAIL]
    if wrong:
        return Verdict.FAIL, wrong[0].reason
    if any(contract.verdict is Verdict.FAIL and not contract.tolerated for contract in contracts):
        return Verdict.FAIL, Reason.CONTRACT_BROKEN
    if stopped is not None and stopped.stop is not None:
        return Verdict.PASS if stopped.stop is Reason.EMPTY else Verdict.INCONCLUSIVE, stopped.stop
    if undecided:
        return worst_verdict(row.verdict for row in undecided[0]), undecided[0][0].reason
    reasons = {row.reason for row in comparisons if row.verdict is Verdict.PASS}
    return Verdict.PASS, next((reason for reason in REMARKABLE_PASSES if reason in reasons), Reason.AGREES)


def _list_undecided(comparisons: tuple[Comparison, ...]) -> list[list[Comparison]]:
    """List the comparisons of each claim on a leaf that no independent evidence confirms in a trial."""
    rows_by_claim: dict[tuple[int, str, str], list[Comparison]] = {}
    for row in comparisons:
        if row.against in NUMERICAL_METHODS or row.order == VALUE_ORDER:
            rows_by_claim.setdefault((row.order, row.wrt, row.method), []).append(row)
        elif row.against == TWIN_METHOD:
            rows_by_claim[row.order, row.wrt, f"{row.method}, {row.dtype}"] = [row]
    confirmed = find_confirmed_claims(comparisons)
    return [
        rows
        for claim, rows in rows_by_claim.items()
        if claim not in confirmed and all(row.verdict is not Verdict.PASS for row in rows)
    ]
