"""Comparison of two runs: new failures, fixed cases, and losses of resolution or speed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gradcheck.report import markdown, phrases
from gradcheck.report.display import to_display
from gradcheck.report.problems import BROKEN, list_problems
from gradcheck.results import CheckResult, RunResult, Verdict

COARSER_RATIO = 10.0  # A resolution is reported as lost if it is more than this many times as large.
# A case is reported as slower if it takes more than SLOWER_RATIO times as long and more than MIN_EXTRA_SECONDS longer. Smaller
# differences are noise of the machine.
SLOWER_RATIO = 2.0
MIN_EXTRA_SECONDS = 1.0
# It is also reported if it needs more than this many times the evaluations, whose number is the same on every machine.
EVALUATIONS_RATIO = 1.5


@dataclass(frozen=True)
class Change:
    """A case that changed, with a description of the change."""

    case: str
    description: str


@dataclass(frozen=True)
class Diff:
    """The changes from an old run to a new one.

    Attributes:
        failures: cases that fail or raise and did not before, or that fail in another place.
        undecided: cases that are INCONCLUSIVE and passed before.
        fixed: cases that pass and did not before.
        coarser: cases that pass with a resolution more than `COARSER_RATIO` times as large.
        slower: cases that take much longer, or need many more evaluations.
        removed: cases of the old run only.
        new: cases of the new run only.
        settings: the settings that differ between the runs.
    """

    failures: tuple[Change, ...]
    undecided: tuple[Change, ...]
    fixed: tuple[Change, ...]
    coarser: tuple[Change, ...]
    slower: tuple[Change, ...]
    removed: tuple[Change, ...]
    new: tuple[Change, ...]
    settings: tuple[str, ...]


TITLES = {
    "failures": "new failures",
    "undecided": "no longer decided",
    "fixed": "fixed",
    "coarser": "coarser resolution",
    "slower": "slower",
    "removed": "removed",
    "new": "new",
}


def compare_runs(old: RunResult, new: RunResult) -> Diff:
    """Compare a new run with an old one, case by case."""
    old, new = to_display(old), to_display(new)
    # Runs made on Windows and elsewhere can be compared.
    before, now = ({result.case.replace("\\", "/"): result for result in run.results} for run in (old, new))
    pairs = [(name, before[name], now[name]) for name in now if name in before]
    new_cases = [result for name, result in now.items() if name not in before]
    failures = [(name, _describe_new_failure(a, b)) for name, a, b in pairs]
    failures += [(result.case, _describe_problem(result)) for result in new_cases if result.outcome in BROKEN]
    undecided = [(name, b) for name, a, b in pairs if a.ok and b.outcome is Verdict.INCONCLUSIVE]
    return Diff(
        failures=_make_changes(failures),
        undecided=_make_changes((name, _describe_problem(result)) for name, result in undecided),
        fixed=_make_changes((name, f"was {_describe_state(a)}") for name, a, b in pairs if b.ok and not a.ok),
        coarser=_make_changes((name, _describe_lost_resolution(a, b)) for name, a, b in pairs),
        slower=_make_changes((name, _describe_slowdown(a, b)) for name, a, b in pairs),
        removed=_make_changes((name, f"was {_describe_state(a)}") for name, a in before.items() if name not in now),
        new=_make_changes((result.case, _describe_state(result)) for result in new_cases),
        settings=tuple(_list_changed_settings(old, new)),
    )


def render(difference: Diff) -> str:
    """Return the changes as text, with a final line that counts them."""
    parts = []
    for title, changes in _list_sections(difference):
        lines = [f"  {change.case}{f'  {change.description}' if change.description else ''}\n" for change in changes]
        parts.append(f"{title}:\n{''.join(lines)}")
    if difference.settings:
        parts.append("settings that differ:\n" + "".join(f"  {line}\n" for line in difference.settings))
    return "\n".join([*parts, _format_counts(difference) + "\n"])


def render_markdown(difference: Diff, limit: int = markdown.LIMIT) -> str:
    """Return the changes as Markdown; a list that would take more than half of the remaining bytes is cut short.

    Args:
        limit: maximum size in bytes.
    """
    lists = [
        (f"### {title[:1].upper()}{title[1:]}\n\n| case | |\n|---|---|\n", [_format_row(change) for change in changes])
        for title, changes in _list_sections(difference)
    ]
    if difference.settings:
        lists.append(("Settings that differ:\n\n", [f"- {markdown.escape_text(line)}\n" for line in difference.settings]))
    parts, budget = [f"## gradcheck: {_format_counts(difference)}\n"], limit - markdown.RESERVE
    for head, lines in lists:
        fitting, size = markdown.take_fitting(lines, budget // 2)
        budget -= size
        omitted = len(lines) - len(fitting)
        rest = f"\nand {omitted} more, left out so that this fits a step's summary\n" if omitted else ""
        parts.append(f"{head}{''.join(fitting)}{rest}")
    return "\n".join(parts)


def _format_row(change: Change) -> str:
    return f"| {markdown.format_code(change.case)} | {markdown.escape_text(change.description)} |\n"


def _list_sections(difference: Diff) -> list[tuple[str, tuple[Change, ...]]]:
    return [(title, getattr(difference, name)) for name, title in TITLES.items() if getattr(difference, name)]


def _format_counts(difference: Diff) -> str:
    counts = [f"{title}: {len(changes)}" for title, changes in _list_sections(difference)]
    return ", ".join(counts) or "no case has changed"


def _make_changes(descriptions: Iterable[tuple[str, str]]) -> tuple[Change, ...]:
    return tuple(Change(name, description) for name, description in descriptions if description)


def _describe_state(result: CheckResult) -> str:
    return f"{result.verdict.value} {result.reason.code}{phrases.describe_expectation(result) if result.ok else ''}"


def _describe_problem(result: CheckResult) -> str:
    problems = list_problems(result)
    return f"{result.outcome.value}: {problems[0].short}" if problems else ""


def _describe_new_failure(old: CheckResult, new: CheckResult) -> str:
    """Say why a case fails that passed, or failed elsewhere; '' if it does not fail, or failed in the same way before."""
    if new.outcome not in BROKEN:
        return ""
    if old.outcome not in BROKEN or old.verdict is not new.verdict:
        return _describe_problem(new)
    new_parts = [part for part in new.failing if part not in old.failing]
    return f"{new.outcome.value}: also {', '.join(new_parts)}" if new_parts else ""


def _describe_lost_resolution(old: CheckResult, new: CheckResult) -> str:
    """Name the comparison that lost most of its resolution; '' if none lost much."""
    before, now = _list_resolutions(old), _list_resolutions(new)
    ratios = {key: now[key] / resolution for key, resolution in before.items() if key in now and 0 < resolution < math.inf}
    key = max(ratios, key=lambda key: ratios[key], default=None)
    if key is None or not ratios[key] > COARSER_RATIO:
        return ""
    return f"{key}: right to {phrases.format_number(now[key])}, was {phrases.format_number(before[key])}"


def _list_resolutions(result: CheckResult) -> dict[str, float]:
    """Return the resolution of each comparison that passed, by leaf, order and methods."""
    passed = [c for c in result.comparisons if c.verdict is Verdict.PASS]
    return {f"{c.wrt}{f', order {c.order}' * (c.order > 1)}, {c.method} ~ {c.against}": c.resolution for c in passed}


def _describe_slowdown(old: CheckResult, new: CheckResult) -> str:
    if new.outcome is not old.outcome:  # a FAIL takes longer, since it is examined more closely
        return ""
    parts: list[str] = []
    if new.evaluations > EVALUATIONS_RATIO * old.evaluations > 0:
        ratio = new.evaluations / old.evaluations
        parts.append(f"{new.evaluations} evaluations, was {old.evaluations} ({ratio:.1f} times)")
    if new.seconds > SLOWER_RATIO * old.seconds > 0 and new.seconds - old.seconds > MIN_EXTRA_SECONDS:
        parts.append(f"{new.seconds:.1f} s, was {old.seconds:.1f} s ({new.seconds / old.seconds:.1f} times)")
    return "; ".join(parts)


def _without_common(new: object, old: object) -> tuple[object, object]:
    """Remove the common elements of two lists of tables, such as configured targets; return anything else unchanged."""
    if not (isinstance(new, list) and isinstance(old, list) and all(isinstance(x, dict) for x in (*new, *old))):
        return new, old
    return [x for x in new if x not in old], [x for x in old if x not in new]


def _list_changed_settings(old: RunResult, new: RunResult) -> Iterator[str]:
    before, now = (
        {"gradcheck": run.gradcheck_version, **run.environment, "seed": run.seed, **run.config} for run in (old, new)
    )
    for name in dict.fromkeys([*before, *now]):
        if name in before and name in now and before[name] != now[name]:
            new_value, old_value = _without_common(now[name], before[name])
            change = f"{phrases.format_setting(new_value)}, was {phrases.format_setting(old_value)}"
            yield f"{name}: {change if new_value != old_value else 'in another order'}"
    for run, which in ((old, "old"), (new, "new")):
        if run.interrupted:
            yield f"the {which} run was interrupted: {len(run.results)} of {run.planned} cases are finished"
