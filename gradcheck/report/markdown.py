"""The run as Markdown, for the summary of a CI step and within its limit: what passed is left out first, and it is said."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.report import locations, phrases
from gradcheck.report.problems import problems
from gradcheck.report.terminal import table
from gradcheck.results import CheckResult, RunResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 1_000_000  # bytes: a step's summary may have 1024 kB, and another tool a word to add
RESERVE = 2_000  # of these for what is said about the rest
SIGNS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCONCLUSIVE: "❔", Verdict.ERROR: "💥"}
MEANT = re.compile(r"[!#$&*<>?@\[\\\]_`{|}~]")  # what Markdown or HTML may read as its own
HEAD = "| | case | verdict | what | right to | evaluations | seconds |\n|---|---|---|---|--:|--:|--:|\n"


def render(run: RunResult, limit: int = LIMIT) -> str:
    """Return the summary: counts, a table with what is not ok first, and the evidence of that.

    Args:
        limit: bytes that it may have.
    """
    head = f"## {SIGNS[run.verdict]} gradcheck: {run.verdict.value}\n\n{_counts(run)}\n"
    bad = sorted((r for r in run.results if not r.ok), key=lambda r: SEVERITY.index(r.outcome))
    good = [r for r in run.results if r.ok]
    left = limit - _size(head) - RESERVE
    rows, spent = fitting((_row(r) for r in bad), left // 2)
    shown, used = fitting((_evidence(run, r) for r in bad), left - spent)
    whole = len(rows) == len(shown) == len(bad)  # what passed is left out before anything else is
    passed, _ = fitting((_row(r) for r in good), left - spent - used if whole else 0)
    parts = [head]
    if rows or passed:
        parts.append(HEAD + "".join(rows + passed))
    parts.append(_left_out({"passing cases": len(good) - len(passed), "other rows": len(bad) - len(rows)}))
    parts += shown
    parts.append(_left_out({"cases' evidence": len(bad) - len(shown)}))
    return "\n".join(filter(None, parts))


def fitting(texts: Iterable[str], budget: int) -> tuple[list[str], int]:
    """As many of the texts as fit, from the first on, and their size."""
    kept, size = list[str](), 0
    for text in texts:
        if size + _size(text) > budget:
            break
        kept.append(text)
        size += _size(text)
    return kept, size


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace")) + 1


def _left_out(counts: dict[str, int]) -> str:
    told = " and ".join(f"{n} {what}" for what, n in counts.items() if n)
    return f"*{told} left out, so that this fits a step's summary; `--html` and `--json` hold all.*\n" if told else ""


def _counts(run: RunResult) -> str:
    counts = [f"{n} {name.replace('_', ' ')}" for name, n in run.counts.items() if n] or ["no case was checked"]
    evaluations = sum(result.evaluations for result in run.results)
    told = f"**{', '.join(counts)}**; {evaluations} evaluations, {run.seconds:.1f} s, seed {run.seed}"
    if run.interrupted:
        told += f"\n\n**interrupted: {len(run.results)} of {run.planned} cases are finished**"
    return told


def _row(result: CheckResult) -> str:
    found = problems(result)
    what = plain(found[0].short) if found else result.reason.code
    verdict = plain(f"{result.verdict.value}{phrases.as_expected(result) if result.ok else ''}")
    cells = (
        SIGNS[result.outcome],
        code(result.case),
        verdict,
        what,
        phrases.right_to(result),
        result.evaluations,
        f"{result.seconds:.2f}",
    )
    return f"| {' | '.join(map(str, cells))} |\n"


def _evidence(run: RunResult, result: CheckResult) -> str:
    place = locations.of(run, result)
    parts = [f"<details><summary>{result.outcome.value} <code>{escape(_joined(result.case))}</code></summary>\n"]
    parts.append(_fenced(_table(result)))
    parts += [f"At {code(str(place))}.\n"] if place else []
    parts += [f"Replay:\n\n{_fenced(result.replay)}"] if result.replay else []
    return "\n".join([*parts, "</details>\n"])


def _table(result: CheckResult) -> str:
    return "\n".join(line for line in table.to_text(result).split("\n") if not line.startswith("replay: "))


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}text\n{text}\n{fence}\n"


def code(text: str) -> str:
    """A code span in a table: nothing inside is read as Markdown or HTML."""
    told = _joined(text).replace("|", "\\|")
    fence = "`" * (1 + _longest_run(told))
    space = " " if told.startswith("`") or told.endswith("`") else ""
    return f"{fence}{space}{told}{space}{fence}"


def plain(text: str) -> str:
    """Text in which nothing is read as Markdown or HTML."""
    return MEANT.sub(lambda found: f"&#{ord(found[0])};", _joined(text))


def _joined(text: str) -> str:
    return " ".join(text.split())


def _longest_run(text: str) -> int:
    """Of backticks."""
    return max((len(run) for run in re.findall("`+", text)), default=0)
