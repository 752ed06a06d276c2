"""The run as tables in the terminal, readable at 80 columns."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gradcheck.report import fuzz_summary, phrases, steps, sweep_tables
from gradcheck.report.display import to_display
from gradcheck.report.findings import Finding, explain
from gradcheck.report.locations import to_file_name
from gradcheck.report.phrases import format_number
from gradcheck.report.problems import format_explain_command
from gradcheck.report.terminal import check_tables, grids, laws, layers
from gradcheck.report.terminal.layout import STYLES, indent, new_table
from gradcheck.results import CheckResult, Comparison, Contract, Partial, RunResult, Verdict
from gradcheck.untrusted_text import escape_ci_commands

QUIET, NORMAL, VERBOSE, STEPS = -1, 0, 1, 2  # levels of verbosity: the `-q`, the default, `-v` and `-vv` of the command line
MAX_LISTED = 3  # cases that the summary names in one line


def render(run: RunResult, *, width: int = 80, color: bool = False, verbosity: int = NORMAL) -> str:
    """Return the tables of all cases and a summary line.

    Args:
        color: whether to use colours.
        verbosity: -1 only the summary, 0 tables, 1 also partial derivatives and the self-test, 2 also the steps of estimates.
    """
    run = to_display(run)
    parts: list[RenderableType] = []
    if verbosity > QUIET:
        for result in run.results:
            parts += [*_render_case(result, verbosity), Text()]
    parts += grids.render_grids(sweep_tables.list_tables(run), width)
    return to_string([*parts, *_render_summary(run)], width, color)


def to_text(result: CheckResult, width: int = 100) -> str:
    """Return the table of one case without colour."""
    result = to_display(result)
    return to_string([*_render_case(result, NORMAL), *_render_commands((result,))], width, color=False).rstrip("\n")


def to_string(parts: list[RenderableType], width: int, color: bool) -> str:
    """Return what rich prints for some parts; commands to a CI service in it are harmless."""
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=width,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        legacy_windows=False,
        force_jupyter=False,  # In Jupyter, rich would show the text itself and write nothing to the buffer.
        _environ={},
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))
    return escape_ci_commands("\n".join(line.rstrip() for line in buffer.getvalue().split("\n")))


def _render_case(result: CheckResult, verbosity: int) -> Iterator[RenderableType]:
    yield _format_headline(result)
    for heading, comparisons in phrases.group_by_order(result.comparisons):
        yield from [Text(heading)] if heading else []
        yield _build_comparison_table(comparisons)
    yield from _render_findings(explain(result.comparisons, result.framework, passed=result.verdict is Verdict.PASS))
    yield from _render_contracts(result.contracts, show_all=verbosity >= VERBOSE)
    search_passed = result.search is not None and result.verdict is Verdict.PASS
    is_explained = result.comparisons or result.layers or result.laws or search_passed
    if result.message or not is_explained or result.verdict is Verdict.ERROR:
        yield from _render_reason(result)
    yield from _render_layers(result, verbosity)
    yield from laws.render_laws(result.laws)
    for check in result.checks:
        yield from check_tables.render_check(check)
    yield from _render_details(result, verbosity)
    for note in result.notes if verbosity >= VERBOSE else phrases.list_notes(result):
        yield indent(Text(note, "dim"))
    if result.expect != "pass":
        yield indent(Text(f"expected: {result.because}", "dim"))
    for intent in result.intents:
        if intent.kind not in (result.expect, "known"):
            yield indent(Text(f"declared: {phrases.describe_intent(intent, result)}", "dim"))
    yield from fuzz_summary.render_search(result)


def _render_contracts(contracts: tuple[Contract, ...], *, show_all: bool) -> Iterator[RenderableType]:
    for contract in contracts:
        if contract.verdict is not Verdict.PASS or show_all:
            verdict = ("not tried", "dim") if contract.is_untried else (contract.verdict.value, STYLES[contract.verdict])
            tolerated = f" (tolerated: {contract.tolerated})" if contract.tolerated else ""
            yield indent(
                Text(f"contract {contract.name}: ").append(*verdict).append(f"{tolerated} {_shorten_untried(contract)}")
            )


def _shorten_untried(contract: Contract) -> str:
    """Return the message of a contract, without the words that say again that it was not tried."""
    return re.sub(r"not (fully )?tried: ", lambda match: "in every way: " if match[1] else "", contract.message, count=1)


def _render_layers(result: CheckResult, verbosity: int) -> Iterator[RenderableType]:
    """Render the tree of layers, and the findings in each layer that fails."""
    if result.layers:
        yield indent(layers.build_tree(result.layers, show_all=verbosity >= VERBOSE))
    shown: dict[tuple[str | None, int | None], str] = {}
    for layer in [layer for layer in result.layers if layer.verdict in (Verdict.FAIL, Verdict.ERROR)]:
        place = f"  {to_file_name(layer.file)}:{layer.line}" if layer.file else ""
        first = shown.setdefault((layer.file, layer.line), layer.path) if layer.derivative else layer.path
        yield indent(Text(f"{layer.derivative or layer.path}  {layer.kind}", "bold").append(place, "dim"))
        if first != layer.path:
            yield indent(Text(f"the backward of {first}, see above"), 4)
            continue
        if layer.verdict is Verdict.ERROR:
            yield indent(Text(layer.message).append(f"\n{layer.traceback}" if layer.traceback else "", "dim"), 4)
        yield from _render_findings(explain(layer.comparisons, result.framework))
        yield from _render_contracts(layer.contracts, show_all=False)
    if result.culprit:
        yield indent(Text(result.culprit, "bold"))


def _render_details(result: CheckResult, verbosity: int) -> Iterator[RenderableType]:
    if verbosity >= VERBOSE:
        self_test = phrases.describe_self_test(result.comparisons)
        yield from [indent(Text(line)) for line in phrases.list_accuracies(result.comparisons)]
        yield from [indent(Text(self_test))] if self_test else []
        if result.partials:
            yield _build_partials_table(result.partials)
        yield from (indent(Text(detail, "dim")) for detail in result.details)
    if verbosity >= STEPS:
        yield from _render_steps(result.comparisons)


def _format_headline(result: CheckResult) -> Text:
    text = Text(result.case, "bold")
    text.append(f"  {phrases.describe_setup(result)}  ", "dim")
    text.append(result.verdict.value, STYLES[result.verdict])
    return text.append(phrases.describe_expectation(result))


def _build_comparison_table(comparisons: tuple[Comparison, ...]) -> Table:
    table = new_table()
    table.add_column("wrt", overflow="fold", min_width=6)
    table.add_column("shape", overflow="fold", min_width=5)
    table.add_column("methods", no_wrap=True)
    for name in ("rel err", "bound", "right to"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    previous = None
    for comparison in comparisons:
        is_new_leaf = comparison.wrt != previous
        table.add_row(
            _Path(comparison.wrt if is_new_leaf else ""),
            Text(phrases.format_shape(comparison) if is_new_leaf else "", "dim"),
            Text(f"{comparison.method} ~ {comparison.against}"),
            Text(format_number(comparison.rel_err)),
            Text(format_number(phrases.relative_bound(comparison))),
            Text(format_number(comparison.resolution)),
            _format_verdict(comparison),
        )
        previous = comparison.wrt
    return table


@dataclass(frozen=True)
class _Path:
    """The path of a leaf in a cell: if the column is narrow, it breaks after its dots and before its brackets."""

    path: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        lines = [""]
        for part in self._parts():
            if lines[-1] and len(lines[-1]) + len(part) > options.max_width:
                lines.append("")
            lines[-1] += part
        yield Text("\n".join(lines), overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(max(map(len, self._parts()), default=0), len(self.path))

    def _parts(self) -> list[str]:
        return re.split(r"(?<=\.)|(?=\[)", self.path)


def _format_verdict(comparison: Comparison) -> Text:
    remark = phrases.verdict_remark(comparison)
    return Text(comparison.verdict.value, STYLES[comparison.verdict]).append(f" {remark}" if remark else "", "dim")


def _render_findings(findings: Iterable[Finding]) -> Iterator[RenderableType]:
    for finding in findings:
        text = Text().append(finding.verdict.value, STYLES[finding.verdict]).append(f" {finding.subject}", "bold")
        yield indent(text.append(f": {finding.message}"))
        yield from (indent(Text(line), 4) for line in finding.lines)
        if finding.advice:
            yield indent(Text(finding.advice, "dim"), 4)


def _render_reason(result: CheckResult) -> Iterator[RenderableType]:
    message = result.message or result.reason.message
    first, *lines = message.split("\n")
    yield indent(Text().append(f"{result.reason.code}: ", STYLES[result.verdict]).append(first))
    for line in lines:  # A command to paste is indented; it is never wrapped.
        yield Text(f"  {line}", no_wrap=True) if line.startswith("    ") else indent(Text(line))
    if result.message and result.verdict is Verdict.INCONCLUSIVE:
        yield indent(Text(result.reason.message, "dim"))
    if result.reason.advice:
        yield indent(Text(result.reason.advice, "dim"))
    if result.traceback:
        yield indent(Text(result.traceback, "dim"), 4)


def _render_steps(comparisons: tuple[Comparison, ...]) -> Iterator[RenderableType]:
    """Render the steps of each estimate once, however many claims were compared with it."""
    rendered: set[tuple[object, ...]] = set()
    for comparison in comparisons:
        story = comparison.story
        if story is None or (comparison.wrt, comparison.output, comparison.worst_entry, story.steps) in rendered:
            continue
        rendered.add((comparison.wrt, comparison.output, comparison.worst_entry, story.steps))
        title = Text(f"{phrases.name_derivative(comparison)}: ", "bold")
        yield indent(title.append(steps.describe_estimate(story), "not bold"))
        yield indent(steps.build_table(comparison, story), 4)


def _build_partials_table(partials: tuple[Partial, ...]) -> Table:
    methods = list(dict.fromkeys(method for partial in partials for method in partial.values if method != "numeric"))
    table = new_table()
    table.add_column("partial derivative", overflow="fold")
    for method in (*methods, "numeric"):
        table.add_column(method, justify="right", no_wrap=True)
    table.add_column("±", justify="right", no_wrap=True)
    table.add_column("rel err", justify="right", no_wrap=True)
    for partial in partials:
        output = f"{partial.output}{phrases.format_index(partial.output_entry)}"
        entry = f"{partial.wrt}{phrases.format_index(partial.entry)}"
        values = [Text(f"{partial.values[method]:.6g}" if method in partial.values else "") for method in (*methods, "numeric")]
        errors = (Text(format_number(partial.bound)), Text(format_number(partial.rel_err)))
        table.add_row(Text(f"{output} / {entry}"), *values, *errors)
    return table


def _render_summary(run: RunResult) -> Iterator[RenderableType]:
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
    for kind, phrase in (("expected_fail", "expected to fail"), ("known", "known to the baseline")):
        if counts[kind]:
            text.append(f" ({counts[kind]} of them {phrase})")
    evaluations = sum(result.evaluations for result in run.results)
    text.append(f"; {evaluations} evaluations, {run.seconds:.1f} s, {phrases.describe_seeds(run)}")
    yield text
    if phrases.describe_report_only(run):
        yield Text(phrases.describe_report_only(run), "bold yellow")
    if run.unchecked and len(run.results) > 1:
        listed = ", ".join(run.unchecked[:MAX_LISTED]) + (", ..." if len(run.unchecked) > MAX_LISTED else "")
        yield Text(f"no derivative of yours was checked in {listed}: see above, or gradcheck explain own-derivative", "yellow")
    if run.shard:
        yield Text(f"shard {run.shard.index}/{run.shard.total}, of {len(run.shard.cases)} cases in all")
    if run.interrupted:
        yield Text(f"interrupted: {len(run.results)} of {run.planned} cases are finished", "bold yellow")
    yield from _render_commands(run.results)


def _render_commands(results: tuple[CheckResult, ...]) -> Iterator[RenderableType]:
    """Render what to type next: how to read more about the problems, and how to check each of these cases again."""
    replays = [("replay", result.replay) for result in results if not result.ok and result.replay]
    for label, command in [("explain", format_explain_command(results)), *dict.fromkeys(replays)]:
        if command:
            line = Text(no_wrap=True)  # The command is meant to be pasted, so it is never wrapped.
            yield line.append(f"{label}: ", "dim").append(command)
