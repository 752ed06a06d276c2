"""The report of a takeover as plain text in sections, which every format lays out in its own way."""

from __future__ import annotations

import math
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import PurePath

from gradcheck.glossary.verdicts import Verdict
from gradcheck.takeover.interception import INTERCEPTED, NOT_IMPORTED, NOT_INSTALLED
from gradcheck.takeover.prediction import predict
from gradcheck.takeover.records import MIN_LOOSENESS, NOT_SAMPLED, TOLERATED, Category, TakeoverCall, TakeoverRun
from gradcheck.tracebacks import format_place, shorten

EXACT = 1e12  # looseness from which on any tolerance would do
MAX_TEXT = 300  # characters of a message
Groups = list[list[TakeoverCall]]
# The categories that are listed: what their calls are called, what they have in common, and the verdict of their colour.
KINDS = {
    Category.FINDING: ("that only gradcheck fails", "gradcheck has evidence against the derivative.", "FAIL"),
    Category.THEIRS_FAILED: (
        "that only the suite's checker fails",
        "gradcheck's evidence confirms the derivative; each entry says why the checker could not.",
        "PASS",
    ),
    Category.INCONCLUSIVE: ("inconclusive", "gradcheck's evidence cannot decide.", "INCONCLUSIVE"),
    Category.OURS_ALONE: ("with an unknown outcome", "The checker returned a number, which its caller judged.", ""),
    Category.NOT_COMPARED: ("not compared", "The outcome of the suite's own checker holds.", ""),
}
# Why the checker fails where gradcheck passes, by the cause of a record; any other is the name of a dtype.
CAUSES = {
    "kink": "the function has a kink here",
    "tolerance": "its tolerance is below the error of its own estimate",
    "step size": "its step size does not suit the function",
    "nondeterminism": "values change from run to run",
    "batched gradients": "it demands batched gradients, too",
    "undefined gradients": "it demands undefined gradients, too",
    "unknown cause": "for an unknown cause",
    "": "",
}


@dataclass(frozen=True)
class Entry:
    """Equal calls of one test function, or of one line.

    Attributes:
        subject: the test without its parameters; outside pytest the line.
        calls: number of calls.
        place: the line of the first call; '' if it is the subject.
        checker: name of the suite's own checker.
        text: what there is to say.
        command: what repeats the first of these calls; '' if there is no need to.
    """

    subject: str
    calls: int
    place: str
    checker: str
    text: str
    command: str = ""


@dataclass(frozen=True)
class Section:
    """Entries of one kind.

    Attributes:
        key: a word for programs.
        title: the heading, with the number of calls.
        explanation: what the entries have in common, in a sentence.
        entries: the entries, those with most calls first.
        verdict: name of the verdict whose colour the heading has; '' for none.
    """

    key: str
    title: str
    explanation: str
    entries: tuple[Entry, ...]
    verdict: str = ""


def describe_totals(run: TakeoverRun) -> str:
    """Return the totals in a sentence."""
    if not run.calls:
        known = ", ".join(name for name, state in run.checkers.items() if state != NOT_INSTALLED) or "none is installed"
        return f"No call of a known checker was seen ({known})."
    counts = Counter(call.category for call in _list_compared(run))
    tolerated = sum(call.category is Category.AGREE_PASS and call.reason == TOLERATED for call in run.calls)
    parts = [
        (
            counts[Category.AGREE_PASS] + counts[Category.AGREE_FAIL],
            f"agree ({tolerated} only by tolerances)" if tolerated else "agree",
        ),
        *((counts[category], what + _count_failing(run, category)) for category, (what, _, _) in KINDS.items()),
        (len(run.calls) - counts.total(), "left out of the sample"),
    ]
    tests = len({call.test for call in run.calls if call.test})
    where = f" in {count_of(tests, 'test')}" if tests else ""
    names = ", ".join(sorted({call.checker for call in run.calls}))
    return f"{count_of(len(run.calls), 'call')} of {names}{where}: {', '.join(f'{n} {what}' for n, what in parts if n)}."


def _count_failing(run: TakeoverRun, category: Category) -> str:
    """Say how many calls with an unknown outcome gradcheck fails; '' for any other category, and if there are none."""
    calls = [call for call in run.calls if call.category is category is Category.OURS_ALONE and call.verdict is Verdict.FAIL]
    return f" ({len(calls)} of them FAIL)" if calls else ""


def describe_category(category: Category) -> str:
    """Say in a few words how the two checkers compare."""
    if category in KINDS:
        return KINDS[category][0].removeprefix("that ").removeprefix("with an ")
    return "both fail" if category is Category.AGREE_FAIL else "both pass"


def describe_times(run: TakeoverRun) -> str:
    """Return the seconds of each checker in a sentence."""
    text = f"The suite's checkers took {run.theirs_seconds:.1f} s, gradcheck {run.ours_seconds:.1f} s"
    text += f" and further runs of the checkers {run.extra_seconds:.1f} s"
    added, without = run.ours_seconds + run.extra_seconds, run.seconds - run.ours_seconds - run.extra_seconds
    if run.processes > 1 or without <= 0:
        return f"{text}, in {count_of(run.processes, 'process')}; everything took {run.seconds:.1f} s."
    return f"{text}: {run.seconds:.1f} s instead of {run.seconds - added:.1f} s, {run.seconds / without:.1f} times as long."


def describe_prediction(run: TakeoverRun) -> str:
    """Return the predicted seconds of a takeover in a sentence; '' in any other mode than `predict`."""
    if run.mode != "predict" or not run.calls:
        return ""
    prediction = predict(run)
    spread = f", spread over {run.processes} processes" if run.processes > 1 else ""
    return (
        f"A takeover would add about {prediction.seconds:.0f} s ({prediction.low:.0f} to {prediction.high:.0f} s){spread}: "
        f"measured on {prediction.sampled} of {count_of(prediction.calls, 'call')}."
    )


def build_sections(run: TakeoverRun) -> tuple[Section, ...]:
    """Return the sections that have entries, the most important first."""
    calls = _list_compared(run)
    sections = (
        _build_category(run, Category.FINDING),
        _build_zero_section(run, calls),
        _build_looseness_section(run, calls),
        _build_tolerated_section(run, calls),
        *(_build_category(run, category) for category in list(KINDS)[1:]),
        _build_checker_section(run),
    )
    return tuple(section for section in sections if section.entries)


def _list_compared(run: TakeoverRun) -> list[TakeoverCall]:
    """List the calls that `predict` did not leave out."""
    return [call for call in run.calls if call.not_compared != NOT_SAMPLED]


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, as in '1 call' or '2 calls'."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _build_category(run: TakeoverRun, category: Category) -> Section:
    what, explanation, verdict = KINDS[category]
    calls = [call for call in _list_compared(run) if call.category is category]
    alone = category is Category.NOT_COMPARED  # one cause may concern the whole suite
    groups = _group(
        calls,
        lambda call: (None if alone else _subject(run, call), call.checker, call.not_compared or call.cause or call.reason),
    )
    entries = tuple(_make_entry(run, group, _detail(group[0]), replays=category is Category.FINDING) for group in groups)
    return Section(category.value, f"{count_of(len(calls), 'call')} {what}", explanation, entries, verdict)


def _build_zero_section(run: TakeoverRun, calls: list[TakeoverCall]) -> Section:
    passing = [call for call in calls if call.passes_zero_gradient]
    tried: dict[Hashable, int] = defaultdict(int)
    for call in calls:
        tried[_subject(run, call), call.checker] += call.passes_zero_gradient is not None
    entries = []
    for group in _group(passing, lambda call: (_subject(run, call), call.checker)):
        total = tried[_subject(run, group[0]), group[0].checker]
        text = f"{len(group)} of {count_of(total, 'call')}" + (
            f" with {format_tolerances(group[0])}" if group[0].tolerances else ""
        )
        entries.append(_make_entry(run, group, text))
    title = f"{count_of(len(passing), 'call')} would have passed a gradient of zero"
    return Section("zero-gradient", title, "The checker ran once more, with a derivative of zero.", tuple(entries), "FAIL")


def _build_looseness_section(run: TakeoverRun, calls: list[TakeoverCall]) -> Section:
    entries, count = [], 0
    measured = [call for call in calls if not math.isnan(call.looseness)]
    for group in _group(measured, lambda call: (_place(run, call), _subject(run, call), format_tolerances(call))):
        factor = min(call.looseness for call in group)
        if factor >= MIN_LOOSENESS:
            smaller = ", ".join(f"{value / factor:.0e}" for value in group[0].tolerances.values() if value)
            enough = "any would do" if factor >= EXACT else f"{smaller} would do"
            entries.append(_make_entry(run, group, f"{format_tolerances(group[0])}: {enough}"))
            count += len(group)
    title = f"{count_of(count, 'call')} with tolerances looser than needed"
    return Section("looseness", title, "The checker ran again, with smaller tolerances.", tuple(entries), "INCONCLUSIVE")


def _build_tolerated_section(run: TakeoverRun, calls: list[TakeoverCall]) -> Section:
    tolerated = [call for call in calls if call.reason == TOLERATED and not call.not_compared]
    groups = _group(tolerated, lambda call: (_subject(run, call), call.checker, format_tolerances(call)))
    entries = tuple(_make_entry(run, group, f"{format_tolerances(group[0])}: {group[0].summary}") for group in groups)
    title = f"{count_of(len(tolerated), 'call')} with an error that only the tolerances allow"
    return Section("tolerated", title, "By default, gradcheck would fail.", entries, "INCONCLUSIVE")


def _build_checker_section(run: TakeoverRun) -> Section:
    ordinary = (INTERCEPTED, NOT_IMPORTED, NOT_INSTALLED)
    entries = tuple(Entry("", 0, "", name, state) for name, state in run.checkers.items() if state not in ordinary)
    return Section("checkers", f"{count_of(len(entries), 'checker')} not intercepted", "Calls were not seen.", entries)


def format_tolerances(call: TakeoverCall) -> str:
    """Return the tolerances of a call, as in 'atol=0.01, rtol=0.001'."""
    return ", ".join(f"{name}={value:g}" for name, value in call.tolerances.items() if value)


def _group(calls: Iterable[TakeoverCall], key: Callable[[TakeoverCall], Hashable]) -> Groups:
    """Group calls with equal keys; the largest groups first."""
    groups: dict[Hashable, list[TakeoverCall]] = defaultdict(list)
    for call in calls:
        groups[key(call)].append(call)
    return sorted(groups.values(), key=lambda group: -len(group))


def _make_entry(run: TakeoverRun, group: list[TakeoverCall], text: str, *, replays: bool = False) -> Entry:
    first, subject, place = group[0], _subject(run, group[0]), _place(run, group[0])
    others = len({_subject(run, call) for call in group}) - 1
    return Entry(
        subject=subject + (f" and {count_of(others, 'other')}" if others else ""),
        calls=len(group),
        place="" if place == subject else place,
        checker=first.checker,
        text=text,
        command=_format_replay(run, first) if replays else "",
    )


def _subject(run: TakeoverRun, call: TakeoverCall) -> str:
    return call.test_function or _place(run, call) or call.checker


def _place(run: TakeoverRun, call: TakeoverCall) -> str:
    if not call.file:
        return ""
    path = PurePath(call.file)
    inside = run.root and path.is_relative_to(run.root)
    return format_place(os.fspath(path.relative_to(run.root)) if inside else call.file, call.line)


def _detail(call: TakeoverCall) -> str:
    """Say what there is to say of a call: the reason, and the message behind it."""
    message = "" if call.theirs_message in call.not_compared else call.theirs_message
    if call.not_compared:
        parts = (call.not_compared, message)
    elif call.category is Category.THEIRS_FAILED:
        parts = (
            CAUSES.get(call.cause, f"{call.cause} is too coarse for its step"),
            message or ("" if call.cause else "the test fails"),
        )
    else:
        verdict = call.verdict.value if call.verdict else ""
        parts = (call.reason, call.summary.removeprefix(verdict).strip())
    return shorten(": ".join(filter(None, parts)), MAX_TEXT)


def _format_replay(run: TakeoverRun, call: TakeoverCall) -> str:
    """Return the command that repeats a call, to be run in the folder in which the run was started."""
    if not call.test:
        return run.rerun
    file, *names = call.test.split("::")
    path = PurePath(os.path.relpath(PurePath(run.test_root, file), run.root)).as_posix() if run.test_root else file
    return shlex.join(["pytest", "::".join([path, *names]), "--gradcheck-takeover=enforce"])
