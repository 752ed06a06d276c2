"""Two runs beside each other: what fails now, what was mended, where resolution or time was lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.report import markdown, phrases
from gradcheck.report.problems import BROKEN, problems
from gradcheck.results import CheckResult, RunResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DULLER = 10.0  # times as large a resolution is one that was lost
SLOWER, LEAST = 2.0, 1.0  # times as many seconds, and at least so many more: less is the machine's mood
DEARER = 1.5  # times as many evaluations; these are the same on every machine


@dataclass(frozen=True)
class Change:
    """What became of a case."""

    case: str
    what: str


@dataclass(frozen=True)
class Diff:
    """What a new run has that an old one had not.

    Attributes:
        failures: cases that fail or raise and did not, or do so in another place.
        undecided: INCONCLUSIVE, and passed before.
        mended: pass, and did not before.
        duller: pass with a resolution that is more than DULLER times as large.
        slower: take much longer, or more evaluations.
        gone, added: are in one of the runs alone.
        settings: in which the runs themselves differ.
    """

    failures: tuple[Change, ...]
    undecided: tuple[Change, ...]
    mended: tuple[Change, ...]
    duller: tuple[Change, ...]
    slower: tuple[Change, ...]
    gone: tuple[Change, ...]
    added: tuple[Change, ...]
    settings: tuple[str, ...]


TITLES = {
    "failures": "new failures",
    "undecided": "no longer decided",
    "mended": "mended",
    "duller": "duller",
    "slower": "slower",
    "gone": "gone",
    "added": "new",
}


def diff(old: RunResult, new: RunResult) -> Diff:
    """Hold a new run against an old one, case by case."""
    before, now = ({_name(r): r for r in run.results} for run in (old, new))
    both = [(name, before[name], now[name]) for name in now if name in before]
    fresh = [r for name, r in now.items() if name not in before]
    failing = [*((n, _failure(a, b)) for n, a, b in both), *((r.case, _reason(r)) for r in fresh if r.outcome in BROKEN)]
    return Diff(
        failures=_changes(failing),
        undecided=_changes((n, _reason(b)) for n, a, b in both if a.ok and b.outcome is Verdict.INCONCLUSIVE),
        mended=_changes((n, f"{_state(a)} before") for n, a, b in both if b.ok and not a.ok),
        duller=_changes((n, _duller(a, b)) for n, a, b in both),
        slower=_changes((n, _slower(a, b)) for n, a, b in both),
        gone=_changes((n, f"{_state(r)} before") for n, r in before.items() if n not in now),
        added=_changes((r.case, _state(r)) for r in fresh),
        settings=tuple(_settings(old, new)),
    )


def render(found: Diff) -> str:
    """Return the lists as text, and a line that counts."""
    parts = []
    for title, changes in _sections(found):
        parts.append(
            f"{title}:\n" + "".join(f"  {change.case}{f'  {change.what}' if change.what else ''}\n" for change in changes)
        )
    if found.settings:
        parts.append("the runs differ in:\n" + "".join(f"  {line}\n" for line in found.settings))
    return "\n".join([*parts, _counted(found) + "\n"])


def render_markdown(found: Diff, limit: int = markdown.LIMIT) -> str:
    """Return the same as Markdown; of a list that would take more than half of the room that is left the first ones.

    Args:
        limit: bytes that it may have.
    """
    lists = [
        (f"### {title[:1].upper()}{title[1:]}\n\n| case | |\n|---|---|\n", [_row(change) for change in changes])
        for title, changes in _sections(found)
    ]
    if found.settings:
        lists.append(("The runs differ in:\n\n", [f"- {markdown.plain(line)}\n" for line in found.settings]))
    parts, left = [f"## gradcheck: {_counted(found)}\n"], limit - markdown.RESERVE
    for head, lines in lists:
        kept, size = markdown.fitting(lines, left // 2)
        left -= size
        more = len(lines) - len(kept)
        rest = f"\nand {more} more, left out so that this fits a step's summary\n" if more else ""
        parts.append(f"{head}{''.join(kept)}{rest}")
    return "\n".join(parts)


def _row(change: Change) -> str:
    return f"| {markdown.code(change.case)} | {markdown.plain(change.what)} |\n"


def _sections(found: Diff) -> list[tuple[str, tuple[Change, ...]]]:
    return [(title, getattr(found, name)) for name, title in TITLES.items() if getattr(found, name)]


def _counted(found: Diff) -> str:
    counts = [f"{title}: {len(changes)}" for title, changes in _sections(found)]
    return ", ".join(counts) or "no case has changed"


def _changes(told: Iterable[tuple[str, str]]) -> tuple[Change, ...]:
    return tuple(Change(name, what) for name, what in told if what)


def _name(result: CheckResult) -> str:
    return result.case.replace("\\", "/")


def _state(result: CheckResult) -> str:
    return f"{result.verdict.value} {result.reason.code}{phrases.as_expected(result) if result.ok else ''}"


def _reason(result: CheckResult) -> str:
    found = problems(result)
    return f"{result.outcome.value}: {found[0].short}" if found else ""


def _failure(old: CheckResult, new: CheckResult) -> str:
    """Why a case that passed, or failed elsewhere, fails now; '' where it does not."""
    if new.outcome not in BROKEN:
        return ""
    if old.outcome not in BROKEN or old.verdict is not new.verdict:
        return _reason(new)
    more = [part for part in new.failing if part not in old.failing]
    return f"{new.outcome.value}: also {', '.join(more)}" if more else ""


def _duller(old: CheckResult, new: CheckResult) -> str:
    """The comparison that lost most of its resolution."""
    before, now = _resolutions(old), _resolutions(new)
    ratios = {key: now[key] / was for key, was in before.items() if key in now and 0 < was < math.inf}
    key = max(ratios, key=lambda key: ratios[key], default=None)
    if key is None or not ratios[key] > DULLER:
        return ""
    return f"{key}: right to {phrases.number(now[key])}, before to {phrases.number(before[key])}"


def _resolutions(result: CheckResult) -> dict[str, float]:
    """Of each comparison that passed, by its name."""
    passed = [c for c in result.comparisons if c.verdict is Verdict.PASS]
    return {f"{c.wrt}{', order 2' * (c.order > 1)}, {c.method} ~ {c.against}": c.resolution for c in passed}


def _slower(old: CheckResult, new: CheckResult) -> str:
    told: list[str] = []
    if new.outcome is not old.outcome:  # a FAIL is looked into
        return ""
    if new.evaluations > DEARER * old.evaluations > 0:
        told.append(f"{new.evaluations} evaluations, before {old.evaluations} ({new.evaluations / old.evaluations:.1f} times)")
    if new.seconds > SLOWER * old.seconds > 0 and new.seconds - old.seconds > LEAST:
        told.append(f"{new.seconds:.1f} s, before {old.seconds:.1f} s ({new.seconds / old.seconds:.1f} times)")
    return "; ".join(told)


def _apart(one: object, other: object) -> tuple[object, object]:
    """Of two lists of tables, as configured targets are, what is in one of them alone; anything else whole."""
    if not (isinstance(one, list) and isinstance(other, list) and all(isinstance(x, dict) for x in (*one, *other))):
        return one, other
    return [x for x in one if x not in other], [x for x in other if x not in one]


def _settings(old: RunResult, new: RunResult) -> Iterator[str]:
    before, now = (
        {"gradcheck": run.gradcheck_version, **run.environment, "seed": run.seed, **run.config} for run in (old, new)
    )
    for name in dict.fromkeys([*before, *now]):
        if name in before and name in now and before[name] != now[name]:
            here, there = _apart(now[name], before[name])
            changed = f"{phrases.setting(here)}, before {phrases.setting(there)}"
            yield f"{name}: {changed if here != there else 'in another order'}"
    for run, which in ((old, "old"), (new, "new")):
        if run.interrupted:
            yield f"the {which} run was interrupted: {len(run.results)} of {run.planned} cases are finished"
