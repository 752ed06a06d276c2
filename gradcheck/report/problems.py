"""What is not ok about a case, as a list: one problem for each place and fault, for reports that other tools read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.report import phrases
from gradcheck.results import CheckResult, CheckTable, Comparison, Contract, LayerResult, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BROKEN = (Verdict.FAIL, Verdict.ERROR)
LONGEST = 300  # characters of what is told in one line


@dataclass(frozen=True)
class Problem:
    """One thing that is not ok.

    Attributes:
        rule: a stable name for its kind: 'diagnosis/', 'contract/' or 'reason/' with the code.
        verdict: FAIL, ERROR or INCONCLUSIVE.
        short: what it is, in one line.
        text: all that is to be said of it, in several.
        file, line: where the derivative is written, if not where the case's is.
    """

    rule: str
    verdict: Verdict
    short: str
    text: str
    file: str | None = None
    line: int | None = None


def problems(result: CheckResult) -> list[Problem]:
    """What makes a case not ok, worst first; nothing of one that is."""
    if result.ok:
        return []
    if Verdict.PASS in (result.verdict, result.as_declared):
        told = f"{result.verdict.value}{phrases.as_expected(result)}"
        return [Problem(f"reason/{phrases.why(result).code}", result.outcome, told, told)]
    found = [
        *_of_comparisons(result.comparisons),
        *_of_contracts(result.contracts),
        *(problem for layer in result.layers if layer.verdict in BROKEN for problem in _of_layer(layer)),
        *_of_checks(result.checks),
    ]
    decisive = [p for p in found if _severity(p.verdict) <= _severity(result.outcome)]
    first, *rest = sorted(decisive, key=lambda p: _severity(p.verdict)) or [_stopped(result)]
    return [replace(first, text=first.text + _searched(result)), *rest]


def _searched(result: CheckResult) -> str:
    """The smallest input that a search found."""
    inputs = result.search.inputs if result.search else ()
    return "".join(["\nthe smallest input that fails:", *(f"\n  {name} = {text}" for name, text in inputs)]) if inputs else ""


def _severity(verdict: Verdict) -> int:
    return SEVERITY.index(verdict)


def _of_comparisons(comparisons: Sequence[Comparison]) -> Iterator[Problem]:
    """One for each leaf, order and verdict: what is known of its fault names it, whichever comparison that is from."""
    for of_leaf in phrases.by_leaf(comparisons):
        groups: dict[Verdict, list[phrases.Told]] = {}
        for told in phrases.explained(of_leaf):
            groups.setdefault(told.verdict, []).append(told)
        for verdict, group in groups.items():
            first = next((told for told in group if told.diagnosis), group[0])
            kind = f"diagnosis/{first.diagnosis.code}" if first.diagnosis else f"reason/{first.reason.code}"
            text = "\n".join(line for told in group for line in _lines(told))
            yield Problem(kind, verdict, _short(first), text)


def _lines(told: phrases.Told) -> list[str]:
    return [line for line in (f"{told.place}: {told.why}", *told.lines, told.advice) if line]


def _short(told: phrases.Told) -> str:
    """By how much it is wrong, and what the error looks like; where nothing is certainly wrong, why."""
    parts = [f"{told.place}: {told.lines[0] if told.verdict is Verdict.FAIL else told.why}"]
    parts += [line for line in told.lines if told.diagnosis and phrases.diagnosis_of(line) is told.diagnosis][:1]
    return _one_line("; ".join(parts))


def _of_contracts(contracts: Sequence[Contract]) -> Iterator[Problem]:
    for contract in contracts:
        if contract.verdict in BROKEN and not contract.tolerated:
            text = f"contract {contract.name}: {contract.message}"
            yield Problem(f"contract/{contract.name}", contract.verdict, _one_line(text), text)


def _of_checks(checks: Sequence[CheckTable]) -> Iterator[Problem]:
    for table in checks:
        if table.verdict is not Verdict.PASS and table.reason is not Reason.NOT_SCALAR:
            short = f"{table.check}: {table.conclusion}"
            text = "\n".join(filter(None, [short, table.reason.advice]))
            yield Problem(f"reason/{table.reason.code}", table.verdict, _one_line(short), text)


def _of_layer(layer: LayerResult) -> Iterator[Problem]:
    inside = [p for p in (*_of_comparisons(layer.comparisons), *_of_contracts(layer.contracts)) if p.verdict in BROKEN]
    reason, verdict = layer.reason or Reason.INTERNAL, layer.verdict or Verdict.ERROR
    text = "\n".join(filter(None, [layer.message or reason.message, layer.traceback]))
    for p in inside or [Problem(f"reason/{reason.code}", verdict, _one_line(text), text)]:
        name = layer.path or layer.kind
        yield replace(p, short=_one_line(f"{name}: {p.short}"), text=f"{name}: {p.text}", file=layer.file, line=layer.line)


def _stopped(result: CheckResult) -> Problem:
    """Why a case came to no comparison, or which of its parts it fails by is not told."""
    text = "\n".join(filter(None, [result.message or result.reason.message, result.reason.advice, result.traceback]))
    return Problem(f"reason/{result.reason.code}", result.outcome, _one_line(text), text)


def _one_line(text: str) -> str:
    told = " ".join(text.partition("\n")[0].split())
    return told if len(told) <= LONGEST else told[: LONGEST - 1] + "…"
