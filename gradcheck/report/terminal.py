"""The run as a table for people, readable at 80 columns."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradcheck.report import further, layers, story
from gradcheck.results import CheckResult, Comparison, Contract, Intent, Partial, Reason, RunResult, Verdict, Whereabouts

if TYPE_CHECKING:
    from collections.abc import Iterator

STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow", Verdict.ERROR: "bold red"}
UNKNOWN = "unknown:"  # a diagnosis that is told only where none of the other methods' has more to say
QUIET, NORMAL, VERBOSE, STORIES = -1, 0, 1, 2


def render(run: RunResult, *, width: int = 80, color: bool = False, verbosity: int = NORMAL) -> str:
    """Return the tables of all cases and a summary line.

    Args:
        verbosity: -1 the summary alone, 0 tables, 1 partial derivatives and the self-test too, 2 every step of the estimates.
    """
    parts: list[RenderableType] = []
    if verbosity > QUIET:
        for result in run.results:
            parts += [*_case(result, verbosity), Text()]
    return _to_string(Group(*parts, *_summary(run)), width, color)


def to_text(result: CheckResult, width: int = 100) -> str:
    """Return the table of one case without colour."""
    return _to_string(Group(*_case(result, NORMAL), *_replays((result,))), width, color=False).rstrip("\n")


def _to_string(what: RenderableType, width: int, color: bool) -> str:
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    console.print(what)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _case(result: CheckResult, verbosity: int) -> Iterator[RenderableType]:
    yield _headline(result)
    if result.comparisons:
        yield _table(result.comparisons)
    for wrt in dict.fromkeys(c.wrt for c in result.comparisons):
        yield from _explained([c for c in result.comparisons if c.wrt == wrt])
    yield from _contracts(result.contracts, all_=verbosity >= VERBOSE)
    if (not result.comparisons and not result.layers) or result.verdict is Verdict.ERROR:
        yield from _stopped(result)
    yield from _layers(result, verbosity)
    for check in result.checks:
        yield from further.blocks(check, STYLES[check.verdict])
    yield from _details(result, verbosity)
    for note in result.notes if verbosity >= VERBOSE else [n for n in result.notes if "-v does not" not in n]:
        yield _indented(Text(note, "dim"))
    if result.expect != "pass":
        yield _indented(Text(f"expected: {result.because}", "dim"))
    for intent in result.intents:
        if intent.kind != result.expect:
            yield _indented(Text(f"declared: {_intent(intent, result)}", "dim"))


def _intent(intent: Intent, result: CheckResult) -> str:
    """What is declared and why; of what is tolerated, whether it need be."""
    told = f"{intent.kind} {intent.subject}".rstrip() + f", as {intent.because}"
    honoured = any(c.name == intent.subject and c.verdict is Verdict.PASS for c in result.contracts)
    return f"{told} (not needed: it is honoured)" if intent.kind == "tolerates" and honoured else told


def _contracts(contracts: tuple[Contract, ...], *, all_: bool) -> Iterator[RenderableType]:
    for contract in contracts:
        if contract.verdict is not Verdict.PASS or all_:
            verdict = (contract.verdict.value, STYLES[contract.verdict])
            meant = f" (tolerated: {contract.tolerated})" if contract.tolerated else ""
            yield _indented(Text(f"contract {contract.name}: ").append(*verdict).append(f"{meant} {contract.message}"))


def _layers(result: CheckResult, verbosity: int) -> Iterator[RenderableType]:
    """The tree of layers, and what is wrong in those that are named."""
    if result.layers:
        yield _indented(layers.tree(result.layers, STYLES, all_=verbosity >= VERBOSE))
    for layer in [layer for layer in result.layers if layer.verdict in (Verdict.FAIL, Verdict.ERROR)]:
        yield _indented(Text(f"{layer.path}  {layer.kind}", "bold"))
        if layer.verdict is Verdict.ERROR:
            yield _indented(Text(layer.message).append(f"\n{layer.traceback}" if layer.traceback else "", "dim"), 4)
        for wrt in dict.fromkeys(c.wrt for c in layer.comparisons):
            yield from _explained([c for c in layer.comparisons if c.wrt == wrt])
        yield from _contracts(layer.contracts, all_=False)
    if result.culprit:
        yield _indented(Text(result.culprit, "bold"))


def _details(result: CheckResult, verbosity: int) -> Iterator[RenderableType]:
    if verbosity >= VERBOSE:
        yield from _self_test(result.comparisons)
        if result.partials:
            yield _partials(result.partials)
        yield from (_indented(Text(detail, "dim")) for detail in result.details)
    if verbosity >= STORIES:
        yield from _stories(result.comparisons)


def _headline(result: CheckResult) -> Text:
    text = Text(result.case, "bold")
    facts = [
        result.framework,
        f"{result.mode} mode" if result.mode else "",
        f"{result.trials} trials" if result.trials > 1 else "",
    ]
    text.append(f"  {', '.join(f for f in facts if f)}  ", "dim")
    text.append(result.verdict.value, STYLES[result.verdict])
    return text.append(_as_expected(result))


def _as_expected(result: CheckResult) -> str:
    """Beside the verdict, how it stands to what was declared."""
    if result.expect == "pass":
        return " (tolerated)" if result.ok and result.verdict is not Verdict.PASS else ""
    if result.outcome is Verdict.FAIL and result.verdict is Verdict.PASS:
        mended = {"fail": Reason.EXPECTED_FAIL_PASSED, "straight-through": Reason.NOTHING_STRAIGHT_THROUGH}[result.expect]
        return f" although expect={result.expect!r}: {mended.advice}"
    if result.expect == "straight-through":
        return ""
    return " (expected)" if result.verdict is Verdict.FAIL else " (expected to fail)"


def _table(comparisons: tuple[Comparison, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("wrt", overflow="fold", min_width=6)
    table.add_column("shape", overflow="fold", min_width=5)
    table.add_column("methods", no_wrap=True)
    for name in ("rel err", "bound", "right to"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    previous = None
    for c in comparisons:
        fresh = c.wrt != previous
        table.add_row(
            Text(c.wrt if fresh else ""),
            Text("×".join(map(str, c.shape)) or "scalar" if fresh else "", "dim"),
            Text(f"{c.method} ~ {c.against}"),
            Text(_number(c.rel_err)),
            Text(_number(_relative_bound(c))),
            Text(_number(c.resolution)),
            _verdict(c),
        )
        previous = c.wrt
    return table


def _verdict(c: Comparison) -> Text:
    text = Text(c.verdict.value, STYLES[c.verdict])
    extra = {
        Reason.KINK_SUBGRADIENT: " kink",
        Reason.BOTH_ZERO: " zero",
        Reason.TIE: " tie",
        Reason.STRAIGHT_THROUGH: " declared",
    }.get(c.reason, "")
    small = f" {c.unresolved} small" if c.unresolved and not extra else ""
    return text.append(extra + small, "dim") if c.verdict is Verdict.PASS else text


def _relative_bound(c: Comparison) -> float:
    """The bound in the same units as the relative error beside it; NaN at a kink, where slopes have an interval."""
    if math.isnan(c.rel_err) or (c.reason is Reason.KINK_SUBGRADIENT and c.abs_err == 0):
        return math.nan
    return (
        c.bound * c.rel_err / c.abs_err
        if c.abs_err and math.isfinite(c.rel_err)
        else _over(c.bound, max(abs(c.claimed), abs(c.estimate)))
    )


def _over(a: float, b: float) -> float:
    return a / b if b else math.nan


def _explained(of_leaf: list[Comparison]) -> Iterator[RenderableType]:
    """What is not PASS on one leaf: where, by how much, and who stands alone."""
    groups: dict[tuple[object, ...], list[Comparison]] = {}
    for c in of_leaf:
        if c.verdict is not Verdict.PASS:
            groups.setdefault((c.verdict, c.worst_entry, c.output, c.method, c.trial), []).append(c)
    said: dict[str, list[Whereabouts]] = defaultdict(list)
    for group in groups.values():
        yield _indented(_place(group[0]))
        for c in group:
            yield _indented(_values(c), 4)
        where, known = group[0].where, said[group[0].method]
        if where and not any(_covers(earlier, where) for earlier in known):
            known.append(where)
            yield _indented(Text(_whereabouts(group[0], where)), 4)
        told = dict.fromkeys(c.diagnosis for c in group if c.diagnosis)
        named = [line for line in told if not line.startswith(UNKNOWN)]
        yield from (_indented(Text(line), 4) for line in named or told)
        if group[0].self_test and group[0].self_test.slipped:
            yield _indented(Text(f"slipped through: {', '.join(group[0].self_test.slipped)}"), 4)
        if group[0].reason.advice:
            yield _indented(Text(group[0].reason.advice, "dim"), 4)
    alone = _alone(of_leaf)
    if alone:
        others = sorted({m for c in of_leaf for m in (c.method, c.against)} - {alone})
        yield _indented(Text(f"{alone} stands alone: {', '.join(others)} agree with each other"), 4)


def _covers(known: Whereabouts, where: Whereabouts) -> bool:
    """Whether the wrong entries of a claim were listed already: of the same ones another method may be sure of fewer."""
    before, now = ({w.entry for w in which.entries} for which in (known, where))
    return now <= before and (where.count or 0) <= (known.count or 0)


def _place(c: Comparison) -> Text:
    text = Text().append(c.verdict.value, STYLES[c.verdict]).append(f" {_derivative(c)}", "bold")
    return text.append(f"{f', trial {c.trial}' if c.trial else ''}: {c.reason.message}")


def _whereabouts(c: Comparison, where: Whereabouts) -> str:
    """How many entries are wrong, and which; where not all were looked at, what that rests on."""
    listed = len(where.entries)
    total = f"{c.entries:,} {'entry' if c.entries == 1 else 'entries'}"
    if where.count == c.entries:
        return f"all {total} are wrong" if c.entries > 1 else "the only entry is wrong"
    if where.count is not None:
        more = f" and {where.count - listed} more" if where.count > listed else ""
        counted = f"all {where.count} entries of {where.slice}" if where.slice else f"{where.count} of {total}"
        told = f"{counted} {'is' if where.count == 1 else 'are'} wrong: {_wrong(c, where, more)}"
        return told if where.examined == 1 else f"{told}; {_share(where)}"
    looked, wrong = where.sampled
    others = f"; of {looked} others taken at random {wrong} are wrong" if looked else ""
    return f"of {total} at least {listed} wrong: {_wrong(c, where)}{others}; {_share(where)}"


def _wrong(c: Comparison, where: Whereabouts, more: str = "") -> str:
    """The wrong entries with what is claimed for what is true; of which output, where it is not the one named above."""
    others = {w.output for w in where.entries} - {"", c.output}
    combined = others == {"combination"}
    of = {output: f" ({output})" for output in others if not combined}
    named = ", ".join(f"{_index(w.entry)} {w.claimed:.6g} for {w.estimate:.6g}{of.get(w.output, '')}" for w in where.entries)
    return named + more + (" (of a random combination of the outputs)" if combined else "")


def _share(where: Whereabouts) -> str:
    return f"{100 * where.examined:.3g} % of the leaf examined"


def _derivative(c: Comparison) -> str:
    index = f"[{', '.join(map(str, c.worst_entry))}]" if c.worst_entry else ""
    along = "" if c.mode == "full" or c.worst_entry is not None else " along a random direction"
    output = "(a random combination of the outputs)" if c.output == "combination" else c.output
    return f"∂{output} / ∂{c.wrt}{index}{along}"


def _values(c: Comparison) -> Text:
    return Text(f"{c.method} {c.claimed:.9g}, {c.against} {c.estimate:.9g} ± {c.bound:.0e}: relative error {c.rel_err:.2g}")


def _alone(of_leaf: list[Comparison]) -> str | None:
    """The one method that every other contradicts, while those agree; None where there is no such."""
    methods = {m for c in of_leaf for m in (c.method, c.against)}
    for method in sorted(methods):
        own = [c.verdict for c in of_leaf if method in (c.method, c.against)]
        rest = [c.verdict for c in of_leaf if method not in (c.method, c.against)]
        if rest and all(v is Verdict.FAIL for v in own) and all(v is Verdict.PASS for v in rest):
            return method
    return None


def _stopped(result: CheckResult) -> Iterator[RenderableType]:
    message = result.message or result.reason.message
    yield _indented(Text().append(f"{result.reason.code}: ", STYLES[result.verdict]).append(message))
    if result.message and result.verdict is Verdict.INCONCLUSIVE:
        yield _indented(Text(result.reason.message, "dim"))
    if result.reason.advice:
        yield _indented(Text(result.reason.advice, "dim"))
    if result.traceback:
        yield _indented(Text(result.traceback, "dim"), 4)


def _self_test(comparisons: tuple[Comparison, ...]) -> Iterator[RenderableType]:
    scores = [c.self_test for c in comparisons if c.self_test is not None]
    tried, slipped = sum(len(s.tried) for s in scores), sum(len(s.slipped) for s in scores)
    if tried:
        kinds = ", ".join(dict.fromkeys(name for s in scores for name in s.tried))
        yield _indented(Text(f"self-test: {tried - slipped} of {tried} planted faults caught ({kinds})"))


def _stories(comparisons: tuple[Comparison, ...]) -> Iterator[RenderableType]:
    """One story for each estimate: claims held against the same estimate share it."""
    told: set[tuple[object, ...]] = set()
    for c in comparisons:
        if c.story is None or (c.wrt, c.output, c.worst_entry, c.story.steps) in told:
            continue
        told.add((c.wrt, c.output, c.worst_entry, c.story.steps))
        yield _indented(Text(f"{_derivative(c)}: ", "bold").append(story.sentence(c.story), "not bold"))
        yield _indented(story.table(c, c.story), 4)


def _partials(partials: tuple[Partial, ...]) -> Table:
    methods = list(dict.fromkeys(m for p in partials for m in p.values if m != "numeric"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("partial derivative", overflow="fold")
    for method in (*methods, "numeric"):
        table.add_column(method, justify="right", no_wrap=True)
    table.add_column("±", justify="right", no_wrap=True)
    table.add_column("rel err", justify="right", no_wrap=True)
    for p in partials:
        name = f"{p.output}{_index(p.output_entry)} / {p.wrt}{_index(p.entry)}"
        values = [Text(f"{p.values[m]:.6g}" if m in p.values else "") for m in (*methods, "numeric")]
        table.add_row(Text(name), *values, Text(_number(p.bound)), Text(_number(p.rel_err)))
    return table


def _index(entry: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, entry))}]" if entry else ""


def _indented(text: RenderableType, by: int = 2) -> Padding:
    return Padding(text, (0, 0, 0, by))


def _number(x: float) -> str:
    return "-" if math.isnan(x) else "0" if x == 0 else f"{x:.1e}"


def _summary(run: RunResult) -> Iterator[RenderableType]:
    counts = run.counts
    words = [
        (counts["pass"], "passed", "green"),
        (counts["fail"], "failed", "bold red"),
        (counts["inconclusive"], "inconclusive", "yellow"),
        (counts["error"], "error" if counts["error"] == 1 else "errors", "bold red"),
    ]
    text = Text()
    for count, word, style in words:
        if count or word == "passed":
            text.append(", " if text else "").append(f"{count} {word}", style)
    if counts["expected_fail"]:
        text.append(f" ({counts['expected_fail']} of them expected to fail)")
    evaluations = sum(r.evaluations for r in run.results)
    text.append(f"; {evaluations} evaluations, {run.seconds:.1f} s, seed {run.seed}")
    yield text
    if run.interrupted:
        yield Text(f"interrupted: {len(run.results)} of {run.planned} cases are finished", "bold yellow")
    yield from _replays(run.results)


def _replays(results: tuple[CheckResult, ...]) -> Iterator[RenderableType]:
    for result in results:
        if not result.ok and result.replay:
            yield Text().append("replay: ", "dim").append(result.replay)
