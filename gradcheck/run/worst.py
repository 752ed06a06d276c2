"""Of several trials the worst of each kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks import sensitivity
from gradcheck.results import SEVERITY, CheckTable, Comparison, Contract, Intent, Verdict

if TYPE_CHECKING:
    from gradcheck.checks.derivative import Finding


def comparisons(lines: list[Comparison]) -> tuple[Comparison, ...]:
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


def tables(found: list[CheckTable]) -> tuple[CheckTable, ...]:
    """Of each further check the worst trial; sensitivities are averaged."""
    groups: dict[str, list[CheckTable]] = {}
    for table in found:
        groups.setdefault(table.check, []).append(table)
    return tuple(
        sensitivity.merged(group) if check == "sensitivity" else min(group, key=lambda t: SEVERITY.index(t.verdict))
        for check, group in groups.items()
    )


def contracts(findings: list[Finding]) -> tuple[Contract, ...]:
    """Of each contract the worst."""
    found: dict[str, Contract] = {}
    for contract in (c for f in findings for c in f.contracts):
        known = found.get(contract.name)
        if known is None or SEVERITY.index(contract.verdict) < SEVERITY.index(known.verdict):
            found[contract.name] = contract
    return tuple(found.values())


def tolerated(found: tuple[Contract, ...], intents: tuple[Intent, ...]) -> tuple[Contract, ...]:
    """The same with why each that is broken is declared to decide nothing."""
    why = {intent.subject: intent.because for intent in intents if intent.kind == "tolerates"}
    return tuple(c if c.verdict is Verdict.PASS else replace(c, tolerated=why.get(c.name, "")) for c in found)
