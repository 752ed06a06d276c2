"""The problems of a case as a list, one for each place and fault, for reports that other tools read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.report import phrases
from gradcheck.report.findings import Finding, explain, parse_diagnosis
from gradcheck.results import CheckResult, CheckTable, Comparison, Contract, Law, LayerResult, Reason, Verdict

BROKEN = (Verdict.FAIL, Verdict.ERROR)
MAX_SHORT_LENGTH = 300  # characters of a problem's short text
MAX_EXPLAINED = 5  # pages of the guide that a report names


@dataclass(frozen=True)
class Problem:
    """One problem of a case.

    Attributes:
        rule: a stable name for its kind: 'diagnosis/', 'contract/' or 'reason/' with the code.
        verdict: FAIL, ERROR or INCONCLUSIVE.
        short: the problem in one line.
        text: the full text, of several lines.
        brief: the problem for a narrow line, which begins with leaf and entry and goes on with the numbers; '' if it has none.
        file: the file in which the derivative is written, if it differs from that of the case.
        line: the line of that file, from 1.
    """

    rule: str
    verdict: Verdict
    short: str
    text: str
    brief: str = ""
    file: str | None = None
    line: int | None = None


def summarise(result: CheckResult) -> str:
    """Return the outcome and the worst problem of a case in one line."""
    short = next((problem.short for problem in list_problems(result)), "")
    return f"{result.outcome.value}{' ' if short.startswith('∂') else ': '}{short}" if short else result.outcome.value


def summarise_briefly(result: CheckResult) -> str:
    """Return the outcome and the worst problem for a narrow line, such as 'FAIL x[1]: reverse 2.9985, numeric 3 ...'."""
    brief = next((problem.brief for problem in list_problems(result)), "")
    return f"{result.outcome.value} {brief}" if brief else summarise(result)


def list_problems(result: CheckResult) -> list[Problem]:
    """List the problems of a case, worst first; of one that is ok only that a derivative of the user was not checked."""
    if result.ok:
        unchecked = result.unchecked
        return [Problem("contract/own-derivative", Verdict.INCONCLUSIVE, unchecked, unchecked)] if unchecked else []
    if Verdict.PASS in (result.verdict, result.as_declared):
        text = f"{result.verdict.value}{phrases.describe_expectation(result)}"
        return [Problem(f"reason/{phrases.outcome_reason(result).code}", result.outcome, text, text)]
    problems = [
        *_comparison_problems(result.comparisons, result.framework),
        *_contract_problems(result.contracts),
        *(
            problem
            for layer in result.layers
            if layer.verdict in BROKEN
            for problem in _layer_problems(layer, result.framework)
        ),
        *_check_problems(result.checks),
        *_law_problems(result.laws),
    ]
    decisive = [problem for problem in problems if _severity(problem.verdict) <= _severity(result.outcome)]
    first, *rest = sorted(decisive, key=lambda problem: _severity(problem.verdict)) or [_case_problem(result)]
    return [replace(first, text=first.text + _format_search_input(result)), *rest]


def format_explain_command(results: Iterable[CheckResult]) -> str:
    """Return the command that prints what the guide says of the problems of cases, worst first; '' if there are none."""
    codes = dict.fromkeys(problem.rule.partition("/")[2] for result in results for problem in list_problems(result))
    return " ".join(["gradcheck explain", *list(codes)[:MAX_EXPLAINED]]) if codes else ""


def _format_search_input(result: CheckResult) -> str:
    """Return the lines with the smallest failing input of a search; '' if there is none."""
    inputs = result.search.inputs if result.search else ()
    return "".join(["\nthe smallest input that fails:", *(f"\n  {name} = {text}" for name, text in inputs)]) if inputs else ""


def _severity(verdict: Verdict) -> int:
    return SEVERITY.index(verdict)


def _comparison_problems(comparisons: Sequence[Comparison], framework: str) -> Iterator[Problem]:
    """Yield one problem for each cause, named by its diagnosis or by the reason."""
    for finding in explain(comparisons, framework):
        diagnosis = None if finding.reason is Reason.DETACHED else finding.diagnosis  # `zero`, which says less
        rule = f"diagnosis/{diagnosis.code}" if diagnosis else f"reason/{finding.reason.code}"
        lines = [line for line in (f"{finding.subject}: {finding.message}", *finding.lines, finding.advice) if line]
        brief = _summarise(finding, finding.entry)
        yield Problem(rule, finding.verdict, _summarise(finding, finding.subject), "\n".join(lines), brief)


def _summarise(finding: Finding, subject: str) -> str:
    """Give values and diagnosis of a FAIL in one line, without the advice; otherwise the message of the reason."""
    parts = [f"{subject}: {finding.lines[0] if finding.verdict is Verdict.FAIL else finding.message}"]
    if finding.diagnosis not in (None, Diagnosis.UNKNOWN):
        parts += [line.partition("; ")[0] for line in finding.lines if parse_diagnosis(line) is finding.diagnosis][:1]
    return _first_line("; ".join(parts))


def _contract_problems(contracts: Sequence[Contract]) -> Iterator[Problem]:
    for contract in contracts:
        if contract.verdict in BROKEN and not contract.tolerated:
            text = f"contract {contract.name}: {contract.message}"
            yield Problem(f"contract/{contract.name}", contract.verdict, _first_line(text), text)


def _check_problems(checks: Sequence[CheckTable]) -> Iterator[Problem]:
    for table in checks:
        if table.verdict is not Verdict.PASS and table.reason is not Reason.NOT_SCALAR:
            short = f"{table.check}: {table.conclusion}"
            text = "\n".join(filter(None, [short, table.reason.advice]))
            yield Problem(f"reason/{table.reason.code}", table.verdict, _first_line(short), text)


def _law_problems(laws: Sequence[Law]) -> Iterator[Problem]:
    for law in laws:
        if law.verdict in (*BROKEN, Verdict.INCONCLUSIVE):
            where = f" of {law.worst}" if law.worst else ""
            off = f" (difference {phrases.format_number(law.difference)}{where})" if law.difference == law.difference else ""
            text = f"law {law.name}: {law.message}{off}"
            reason = Reason.STEP_BROKEN if law.verdict in BROKEN else Reason.DULL
            yield Problem(f"reason/{reason.code}", law.verdict, _first_line(text), text)


def _layer_problems(layer: LayerResult, framework: str) -> Iterator[Problem]:
    parts = (*_comparison_problems(layer.comparisons, framework), *_contract_problems(layer.contracts))
    problems = [problem for problem in parts if problem.verdict in BROKEN]
    reason, verdict = layer.reason or Reason.INTERNAL, layer.verdict or Verdict.ERROR
    text = "\n".join(filter(None, [layer.message or reason.message, layer.traceback]))
    name = layer.path or layer.kind
    for problem in problems or [Problem(f"reason/{reason.code}", verdict, _first_line(text), text)]:
        short, text = _first_line(f"{name}: {problem.short}"), f"{name}: {problem.text}"
        brief = problem.brief and _first_line(f"{name} {problem.brief}")
        yield replace(problem, short=short, text=text, brief=brief, file=layer.file, line=layer.line)


def _case_problem(result: CheckResult) -> Problem:
    """Return the problem of a case without a problem in its parts: it was not checked, or no part says why it fails."""
    text = "\n".join(filter(None, [result.message or result.reason.message, result.reason.advice, result.traceback]))
    return Problem(f"reason/{result.reason.code}", result.outcome, _first_line(text), text)


def _first_line(text: str) -> str:
    """Return the first line, with single spaces and at most `MAX_SHORT_LENGTH` characters."""
    line = " ".join(text.partition("\n")[0].split())
    return line if len(line) <= MAX_SHORT_LENGTH else line[: MAX_SHORT_LENGTH - 1] + "…"
