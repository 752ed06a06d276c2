"""The run as a table for people, readable at 80 columns."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradcheck.report import fuzz_summary, phrases, steps
from gradcheck.report.phrases import number
from gradcheck.report.terminal import check_tables, layers
from gradcheck.results import CheckResult, Comparison, Contract, Partial, RunResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow", Verdict.ERROR: "bold red"}
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
    return _to_string([*parts, *_summary(run)], width, color)


def to_text(result: CheckResult, width: int = 100) -> str:
    """Return the table of one case without colour."""
    return _to_string([*_case(result, NORMAL), *_replays((result,))], width, color=False).rstrip("\n")


def _to_string(parts: list[RenderableType], width: int, color: bool) -> str:
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
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _case(result: CheckResult, verbosity: int) -> Iterator[RenderableType]:
    yield _headline(result)
    for heading, comparisons in phrases.by_order(result.comparisons):
        yield from [Text(heading)] if heading else []
        yield _table(comparisons)
        for of_leaf in phrases.by_leaf(comparisons):
            yield from _explained(of_leaf)
    yield from _contracts(result.contracts, all_=verbosity >= VERBOSE)
    found_nothing = result.search is not None and result.verdict is Verdict.PASS
    told = result.comparisons or result.layers or found_nothing
    if result.message or not told or result.verdict is Verdict.ERROR:
        yield from _stopped(result)
    yield from _layers(result, verbosity)
    for check in result.checks:
        yield from check_tables.blocks(check, STYLES[check.verdict])
    yield from _details(result, verbosity)
    for note in result.notes if verbosity >= VERBOSE else phrases.notes(result):
        yield _indented(Text(note, "dim"))
    if result.expect != "pass":
        yield _indented(Text(f"expected: {result.because}", "dim"))
    for intent in result.intents:
        if intent.kind not in (result.expect, "known"):
            yield _indented(Text(f"declared: {phrases.meant(intent, result)}", "dim"))
    yield from fuzz_summary.blocks(result)


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
        for of_leaf in phrases.by_leaf(layer.comparisons):
            yield from _explained(of_leaf)
        yield from _contracts(layer.contracts, all_=False)
    if result.culprit:
        yield _indented(Text(result.culprit, "bold"))


def _details(result: CheckResult, verbosity: int) -> Iterator[RenderableType]:
    if verbosity >= VERBOSE:
        told = phrases.self_test(result.comparisons)
        yield from [_indented(Text(line)) for line in phrases.accuracies(result.comparisons)]
        yield from [_indented(Text(told))] if told else []
        if result.partials:
            yield _partials(result.partials)
        yield from (_indented(Text(detail, "dim")) for detail in result.details)
    if verbosity >= STORIES:
        yield from _stories(result.comparisons)


def _headline(result: CheckResult) -> Text:
    text = Text(result.case, "bold")
    text.append(f"  {phrases.facts(result)}  ", "dim")
    text.append(result.verdict.value, STYLES[result.verdict])
    return text.append(phrases.as_expected(result))


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
            Text(phrases.shape(c) if fresh else "", "dim"),
            Text(f"{c.method} ~ {c.against}"),
            Text(number(c.rel_err)),
            Text(number(phrases.relative_bound(c))),
            Text(number(c.resolution)),
            _verdict(c),
        )
        previous = c.wrt
    return table


def _verdict(c: Comparison) -> Text:
    remark = phrases.remark(c)
    return Text(c.verdict.value, STYLES[c.verdict]).append(f" {remark}" if remark else "", "dim")


def _explained(of_leaf: list[Comparison]) -> Iterator[RenderableType]:
    """What is not PASS on one leaf, and who stands alone."""
    for told in phrases.explained(of_leaf):
        text = Text().append(told.verdict.value, STYLES[told.verdict]).append(f" {told.place}", "bold")
        yield _indented(text.append(f": {told.why}"))
        yield from (_indented(Text(line), 4) for line in told.lines)
        if told.advice:
            yield _indented(Text(told.advice, "dim"), 4)
    alone = phrases.stands_alone(of_leaf)
    if alone:
        yield _indented(Text(alone))


def _stopped(result: CheckResult) -> Iterator[RenderableType]:
    message = result.message or result.reason.message
    yield _indented(Text().append(f"{result.reason.code}: ", STYLES[result.verdict]).append(message))
    if result.message and result.verdict is Verdict.INCONCLUSIVE:
        yield _indented(Text(result.reason.message, "dim"))
    if result.reason.advice:
        yield _indented(Text(result.reason.advice, "dim"))
    if result.traceback:
        yield _indented(Text(result.traceback, "dim"), 4)


def _stories(comparisons: tuple[Comparison, ...]) -> Iterator[RenderableType]:
    """One story for each estimate: claims held against the same estimate share it."""
    told: set[tuple[object, ...]] = set()
    for c in comparisons:
        if c.story is None or (c.wrt, c.output, c.worst_entry, c.story.steps) in told:
            continue
        told.add((c.wrt, c.output, c.worst_entry, c.story.steps))
        yield _indented(Text(f"{phrases.derivative(c)}: ", "bold").append(steps.sentence(c.story), "not bold"))
        yield _indented(steps.table(c, c.story), 4)


def _partials(partials: tuple[Partial, ...]) -> Table:
    methods = list(dict.fromkeys(m for p in partials for m in p.values if m != "numeric"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("partial derivative", overflow="fold")
    for method in (*methods, "numeric"):
        table.add_column(method, justify="right", no_wrap=True)
    table.add_column("±", justify="right", no_wrap=True)
    table.add_column("rel err", justify="right", no_wrap=True)
    for p in partials:
        name = f"{p.output}{phrases.index(p.output_entry)} / {p.wrt}{phrases.index(p.entry)}"
        values = [Text(f"{p.values[m]:.6g}" if m in p.values else "") for m in (*methods, "numeric")]
        table.add_row(Text(name), *values, Text(number(p.bound)), Text(number(p.rel_err)))
    return table


def _indented(text: RenderableType, by: int = 2) -> Padding:
    return Padding(text, (0, 0, 0, by))


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
    for kind, said in (("expected_fail", "expected to fail"), ("known", "known to the baseline")):
        if counts[kind]:
            text.append(f" ({counts[kind]} of them {said})")
    evaluations = sum(r.evaluations for r in run.results)
    text.append(f"; {evaluations} evaluations, {run.seconds:.1f} s, seed {run.seed}")
    yield text
    if run.shard:
        yield Text(f"shard {run.shard.index}/{run.shard.total}, of {len(run.shard.cases)} cases in all")
    if run.interrupted:
        yield Text(f"interrupted: {len(run.results)} of {run.planned} cases are finished", "bold yellow")
    yield from _replays(run.results)


def _replays(results: tuple[CheckResult, ...]) -> Iterator[RenderableType]:
    for result in results:
        if not result.ok and result.replay:
            line = Text(no_wrap=True)  # to be pasted: not broken, however long
            yield line.append("replay: ", "dim").append(result.replay)
