"""The run as Markdown, for the summary of a CI step.

The size of such a summary is limited. If it would be exceeded, passing cases are left out first, and a line says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.report import locations, phrases, sweep_tables
from gradcheck.report.problems import list_problems
from gradcheck.report.terminal import run_tables
from gradcheck.results import CheckResult, RunResult, Verdict

LIMIT = 1_000_000  # bytes: GitHub allows 1024 kB for the summary of a step, and other tools may add to it
RESERVE = 2_000  # bytes of the limit that are kept for the lines that say what was left out
SIGNS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCONCLUSIVE: "❔", Verdict.ERROR: "💥"}
MARKUP = re.compile(r"[!#$&*<>?@\[\\\]_`{|}~]")  # characters with a meaning in Markdown or HTML
TABLE_HEAD = "| | case | verdict | what | right to | evaluations | seconds |\n|---|---|---|---|--:|--:|--:|\n"


def render(run: RunResult, limit: int = LIMIT) -> str:
    """Return the summary: counts, a table with the cases that are not ok first, and the evidence for these.

    Args:
        limit: maximum size in bytes.
    """
    head = f"## {SIGNS[run.verdict]} gradcheck: {run.verdict.value}\n\n{_format_counts(run)}\n"
    not_ok = sorted((result for result in run.results if not result.ok), key=lambda result: SEVERITY.index(result.outcome))
    passing = [result for result in run.results if result.ok]
    budget = limit - _byte_size(head) - RESERVE
    rows, rows_size = take_fitting((_format_row(result) for result in not_ok), budget // 2)
    evidence, evidence_size = take_fitting((_format_evidence(run, result) for result in not_ok), budget - rows_size)
    is_complete = len(rows) == len(evidence) == len(not_ok)  # passing cases are left out before anything else
    rest = budget - rows_size - evidence_size if is_complete else 0
    passing_rows, passing_size = take_fitting((_format_row(result) for result in passing), rest)
    grids = [_format_grid(table) for table in sweep_tables.list_tables(run)]
    shown_grids, _ = take_fitting(grids, rest - passing_size)
    parts = [head]
    if rows or passing_rows:
        parts.append(TABLE_HEAD + "".join(rows + passing_rows))
    omitted = {"passing cases": len(passing) - len(passing_rows), "other rows": len(not_ok) - len(rows)}
    parts.append(_format_omissions(omitted))
    parts += evidence
    parts.append(_format_omissions({"cases' evidence": len(not_ok) - len(evidence)}))
    parts += shown_grids
    parts.append(_format_omissions({"grids": len(grids) - len(shown_grids)}))
    return "\n".join(filter(None, parts))


def _format_grid(table: sweep_tables.SweepTable) -> str:
    """Return the table of a grid, with the explanation of its columns."""
    lines = [(*table.columns, "verdict"), ("--:",) * len(table.columns) + ("---",)]
    for cell in table.cells:
        verdict = f"{SIGNS[cell.outcome]} {escape_text(cell.verdict.value + sweep_tables.describe_verdict(cell))}"
        lines.append((*map(escape_text, table.format_row(cell)), verdict))
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{format_code(table.case)}, {table.title}:\n\n{rows}\n\n*{sweep_tables.LEGEND}*\n"


def take_fitting(texts: Iterable[str], budget: int) -> tuple[list[str], int]:
    """Take texts from the first on as long as they fit into a number of bytes; return them and their size."""
    taken, size = list[str](), 0
    for text in texts:
        if size + _byte_size(text) > budget:
            break
        taken.append(text)
        size += _byte_size(text)
    return taken, size


def _byte_size(text: str) -> int:
    return len(text.encode("utf-8", "replace")) + 1


def _format_omissions(counts: dict[str, int]) -> str:
    omitted = " and ".join(f"{n} {what}" for what, n in counts.items() if n)
    note = f"*{omitted} left out, so that this fits a step's summary; `--html` and `--json` contain everything.*\n"
    return note if omitted else ""


def _format_counts(run: RunResult) -> str:
    counts = [f"{n} {name.replace('_', ' ')}" for name, n in run.counts.items() if n] or ["no case was checked"]
    evaluations = sum(result.evaluations for result in run.results)
    text = f"**{', '.join(counts)}**; {evaluations} evaluations, {run.seconds:.1f} s, {phrases.describe_seeds(run)}"
    if phrases.describe_report_only(run):
        text += f"\n\n**{phrases.describe_report_only(run)}**"
    if run.interrupted:
        text += f"\n\n**interrupted: {len(run.results)} of {run.planned} cases are finished**"
    return text


def _format_row(result: CheckResult) -> str:
    problems = list_problems(result)
    what = escape_text(problems[0].short) if problems else result.reason.code
    verdict = escape_text(f"{result.verdict.value}{phrases.describe_expectation(result) if result.ok else ''}")
    cells = (
        SIGNS[result.outcome],
        format_code(result.case),
        verdict,
        what,
        phrases.format_resolution(result),
        result.evaluations,
        f"{result.seconds:.2f}",
    )
    return f"| {' | '.join(map(str, cells))} |\n"


def _format_evidence(run: RunResult, result: CheckResult) -> str:
    location = locations.locate(run, result)
    parts = [f"<details><summary>{result.outcome.value} <code>{escape(_collapse_whitespace(result.case))}</code></summary>\n"]
    parts.append(_fence(_format_table(result)))
    parts += [f"At {format_code(str(location))}.\n"] if location else []
    parts += [f"Replay:\n\n{_fence(result.replay)}"] if result.replay else []
    return "\n".join([*parts, "</details>\n"])


def _format_table(result: CheckResult) -> str:
    return "\n".join(line for line in run_tables.to_text(result).split("\n") if not line.startswith("replay: "))


def _fence(text: str) -> str:
    fence = "`" * max(3, 1 + _longest_backtick_run(text))
    return f"{fence}text\n{text}\n{fence}\n"


def format_code(text: str) -> str:
    """Return a code span for a table; nothing inside is read as Markdown or HTML."""
    content = _collapse_whitespace(text).replace("|", "\\|")
    fence = "`" * (1 + _longest_backtick_run(content))
    space = " " if content.startswith("`") or content.endswith("`") else ""
    return f"{fence}{space}{content}{space}{fence}"


def escape_text(text: str) -> str:
    """Escape text so that nothing is read as Markdown or HTML."""
    return MARKUP.sub(lambda match: f"&#{ord(match[0])};", _collapse_whitespace(text))


def _collapse_whitespace(text: str) -> str:
    return " ".join(text.split())


def _longest_backtick_run(text: str) -> int:
    """Return the length of the longest run of backticks."""
    return max((len(run) for run in re.findall("`+", text)), default=0)
