"""The run as one self-contained page, which works without JavaScript, on a phone, in dark mode and on paper."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.glossary.columns import COLUMNS, METHODS, REMARKS
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.report import fuzz_summary, locations, phrases, steps, sweep_tables
from gradcheck.report.findings import explain
from gradcheck.report.html import svg
from gradcheck.report.html.heatmap import HeatmapGrid, draw_heatmap
from gradcheck.report.problems import format_explain_command
from gradcheck.results import CheckResult, Comparison, LayerResult, RunResult, Verdict

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup

SIGNS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?", "ERROR": "!"}
MAX_PICTURES = 6  # comparisons with pictures in one case, counted separately for those that passed and the others
MAX_PICTURE_ROWS = 64  # rows in the table of a picture's numbers
CELL_LENGTH, FIGURE_LENGTH = 26, 600  # characters of markup around a table cell, and around a picture with its legend
MAX_PAGE_BYTES = 2_950_000  # size of a page that opens without delay: pictures are left out to stay within it
PICTURE_BUDGET = 1_800_000  # characters that all pictures of a page may take
MIN_PICTURE_BUDGET = 300_000  # characters that pictures may take even if the rest of the page is large
MAX_SECTIONS = 500  # cases with a section; if there are more cases, the worst have one
MAX_OPEN_SECTIONS = 20  # sections that are open when the page loads: those of the worst cases that are not ok
# Legends: classes of the style sheet, and what each stands for.
STEP_LEGEND = (("dot", "difference"), ("dashes", "bound of the noise"), ("band", "steps chosen"))
SCATTER_LEGEND = (("dot", "right"), ("cross off", "wrong"), ("dashes", "equal"))
SHADE_LEGEND = (
    *((f"s{k}", f"< {limit}") for k, limit in enumerate(("1e-14", "1e-10", "1e-6", "1e-3", "0.1"))),
    ("s5", "≥ 0.1"),
)
UNDEFINED_LEGEND, WRONG_LEGEND = ("s6", "undefined"), ("cross", "wrong")


@dataclass(frozen=True)
class Figure:
    """A picture with its caption and its numbers.

    Attributes:
        svg: the picture.
        width: width of the picture in pixels.
        caption: what it shows, in a sentence.
        columns: the headings of the table of numbers.
        rows: the rows of that table.
        legend: classes of the style sheet, each with what it stands for.
    """

    svg: Markup
    width: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """The approximate number of characters that it takes on the page."""
        return (
            FIGURE_LENGTH
            + len(self.svg)
            + len(self.caption)
            + sum(len(cell) + CELL_LENGTH for row in self.rows for cell in row)
        )


@dataclass
class LayerNode:
    """A layer with the layers inside it."""

    name: str
    layer: LayerResult
    inside: list[LayerNode] = field(default_factory=list)


def render(run: RunResult) -> str:
    """Return the page."""
    page = _render_page(run, PICTURE_BUDGET)
    over = len(page.encode("utf-8", "replace")) - MAX_PAGE_BYTES
    return page if over <= 0 else _render_page(run, max(PICTURE_BUDGET - over, MIN_PICTURE_BUDGET))


def _render_page(run: RunResult, picture_budget: int) -> str:
    """Render the page with pictures of at most `picture_budget` characters in all."""
    results = sorted(run.results, key=lambda result: (result.ok, SEVERITY.index(result.outcome)))  # worst first
    sections = dict(enumerate(results[:MAX_SECTIONS], 1))
    album = _build_album([(result, str(number)) for number, result in sections.items()], picture_budget)
    tally = Counter(result.outcome for result in results)
    return load_template("page.html.j2").render(
        run=run,
        results=results,
        sections=sections,
        remarks=REMARKS,
        sweep_tables=sweep_tables.list_tables(run),
        sweep_legend=sweep_tables.LEGEND,
        describe_sweep_verdict=sweep_tables.describe_verdict,
        section_of={result.case: number for number, result in sections.items()},
        locate=lambda result: locations.locate(run, result),
        tally=[(verdict.value, tally[verdict]) for verdict in SEVERITY if tally[verdict]],
        origin=_describe_origin(run),
        evaluations=sum(result.evaluations for result in results),
        figures_of=lambda name, passed: [figure for figure in album[_album_key(name, passed=passed)] if figure],
        open=[n for n, r in sections.items() if n <= MAX_OPEN_SECTIONS and (not r.ok or len(results) == 1)],
        omitted_pictures=sum(figure is None for figures in album.values() for figure in figures),
        css=_read_asset("page.css"),
        js=_read_asset("page.js"),
    )


def _describe_origin(run: RunResult) -> list[str]:
    """Return the date of the run and the commit of the checked code, as far as they are known."""
    commit, dirty, _ = run.commit.partition("-dirty")
    date = run.started.replace("T", " ").replace("+00:00", " UTC")
    text = f"commit {commit[:12]}" + (" with uncommitted changes" if dirty else "")
    return [*([date] if date else []), *([text] if commit else [])]


def load_template(name: str) -> Template:
    """Load a template of the page."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_template_folder()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _mark_breaks
    environment.globals.update(
        phrases=phrases,
        columns=COLUMNS,
        methods=METHODS,
        contract_texts=CONTRACTS,
        explain=explain,
        explain_command=format_explain_command,
        describe_counts=fuzz_summary.describe_counts,
        signs=SIGNS,
        build_tree=build_tree,
    )
    return environment


def _mark_breaks(name: str) -> Markup:
    """Escape a name, and let lines break after its dots and other separators, and before a bracket."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<=[./:_])(?=\w)|(?=\[)", "<wbr>", str(escape(name))))


def _template_folder() -> Path:
    return Path(__file__).parent / "templates"


def _read_asset(name: str) -> Markup:
    from markupsafe import Markup

    return Markup((_template_folder() / name).read_text(encoding="utf-8"))


def _album_key(name: str, *, passed: bool) -> str:
    return f"p{name}{'y' if passed else 'n'}"


def _build_album(cases: Sequence[tuple[CheckResult, str]], budget: int) -> dict[str, list[Figure | None]]:
    """Return the pictures of cases by the key of their place on the page; None for a picture that exceeds the budget.

    The budget is spent on comparisons that are wrong first, then on those that passed, each in the order of the cases.

    Args:
        cases: results, each with the name of its section.
        budget: the number of characters that the pictures may take.
    """
    places: list[tuple[CheckResult | LayerResult, str, bool]] = []
    for passed in (False, True):
        for result, name in cases:
            wrong = [layer for layer in result.layers if layer.verdict in (Verdict.FAIL, Verdict.ERROR)]
            places += [(result, name, passed), *((layer, f"{name}-{k}", passed) for k, layer in enumerate(wrong, 1))]
    album: dict[str, list[Figure | None]] = {}
    for source, name, passed in places:
        figures = album.setdefault(_album_key(name, passed=passed), [])
        for figure in build_figures(source, _album_key(name, passed=passed), passed=passed):
            figures.append(figure if figure.size <= budget else None)
            budget -= figure.size if figure.size <= budget else 0
    return album


def build_tree(layers: Sequence[LayerResult]) -> LayerNode:
    """Build the tree of the layers and return its root, the model."""
    nodes: dict[str, LayerNode] = {}
    for layer in layers:
        parent, name = phrases.split_layer_path(layer.path, nodes)
        node = LayerNode(name or layer.kind, layer)
        if layer.path and parent in nodes:  # a very long path is cut
            nodes[parent].inside.append(node)
        nodes[layer.path] = node
    return nodes[""]


def build_figures(source: CheckResult | LayerResult, name: str, *, passed: bool) -> Iterator[Figure]:
    """Draw the pictures of the comparisons of a case or a layer.

    Args:
        name: prefix of the pictures' ids on the page.
        passed: whether to draw the comparisons that passed, or the others.
    """
    selected = [c for c in source.comparisons if (c.verdict is Verdict.PASS) is passed and (c.story or c.picture)]
    for k, comparison in enumerate(selected[:MAX_PICTURES]):
        yield from _build_entry_figures(comparison, f"{name}-{k}p")
        yield from _build_step_figure(comparison, f"{name}-{k}s")


def _make_figure(
    drawing: str, caption: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], **fields: Any
) -> Iterator[Figure]:
    """Yield the figure of a drawing; nothing if the drawing is empty."""
    from markupsafe import Markup

    if drawing:
        width = drawing.partition(' width="')[2].partition('"')[0]
        yield Figure(Markup(drawing), width, caption, columns, tuple(rows[:MAX_PICTURE_ROWS]), **fields)


def _build_step_figure(comparison: Comparison, name: str) -> Iterator[Figure]:
    story = comparison.story
    if story is None:
        return
    estimate = f"{phrases.name_derivative(comparison)}: {steps.describe_estimate(story)}"
    caption = f"{estimate}; {_describe_error(comparison, story.value, story.bound)}."
    rows = [
        (f"{h:.1e}", f"{difference:.9g}", f"{bound:.0e}", f"{abs(difference - story.value):.0e}")
        for h, difference, bound in zip(story.steps, story.differences, story.bounds, strict=True)
    ]
    drawing = svg.draw_steps(comparison, story, name, caption)
    yield from _make_figure(drawing, caption, ("step", "difference", "± noise", "off by"), rows, legend=STEP_LEGEND)


def _build_entry_figures(comparison: Comparison, name: str) -> Iterator[Figure]:
    """Yield the heat map of the errors, and the plot of claimed against numeric derivatives."""
    picture = comparison.picture
    if picture is None:
        return
    wrong_cells = sum(picture.wrong)
    count = comparison.where.count if comparison.where and comparison.where.count is not None else None
    largest = phrases.format_number(sweep_tables.find_largest(picture.errors))
    state = f"{count or wrong_cells} wrong" if wrong_cells else f"largest {largest}"
    methods, leaf = f"{comparison.method} ~ {comparison.against}", f"{comparison.wrt} ({phrases.format_shape(comparison)})"
    caption = f"{_order_prefix(comparison)}Relative error of {methods} over {leaf}: {state}."
    grid = HeatmapGrid(comparison.shape, *picture.grid)
    cells = sorted(((error, k) for k, error in enumerate(picture.errors) if not math.isnan(error)), reverse=True)
    rows = [
        (grid.describe_cell(k), phrases.format_number(error), "wrong" if picture.wrong[k] else "")
        for error, k in cells[:MAX_PICTURE_ROWS]
    ]
    undefined = (UNDEFINED_LEGEND,) if len(cells) < min(len(picture.errors), comparison.entries) else ()
    legend = (*SHADE_LEGEND, *undefined, *((WRONG_LEGEND,) if wrong_cells else ()))
    if grid.block != (1, 1):
        caption += f" Each cell shows the worst of {grid.block[0]}×{grid.block[1]} entries."
    drawing = draw_heatmap(picture, grid, name, caption)
    yield from _make_figure(drawing, caption, ("entry", "rel err", ""), rows, legend=legend)
    wrong_entries = picture.wrong_entries or (False,) * len(picture.claimed)
    pairs = [
        (f"{a:.5g}", f"{b:.5g}", "wrong" if wrong else "")
        for a, b, wrong in zip(picture.claimed, picture.estimate, wrong_entries, strict=True)
    ]
    legend = tuple(entry for entry in SCATTER_LEGEND if entry[1] != "wrong" or any(wrong_entries))
    if wrong_cells:
        position = "wrong ones lie off"
    else:
        position = "all lie on" if comparison.verdict is Verdict.PASS else "right ones lie on"
    numbers = f"{len(pairs)} of the numbers of {comparison.wrt}"
    caption = f"{_order_prefix(comparison)}{comparison.method} against numeric, {numbers}: {position} the diagonal."
    drawing = svg.draw_scatter(picture, f"{name}n", caption, comparison.method)
    yield from _make_figure(drawing, caption, (comparison.method, "numeric", ""), pairs, legend=legend)


def _order_prefix(comparison: Comparison) -> str:
    return {1: "", 2: "Second derivatives. ", 3: "Third derivatives. "}[comparison.order]


def _describe_error(comparison: Comparison, value: float, bound: float) -> str:
    """Say how far the claim is from an estimate."""
    error = abs(comparison.claimed - value)
    if not math.isfinite(error) or not math.isfinite(bound):
        return f"{comparison.method} says {comparison.claimed:.9g}"
    if error <= bound:
        return f"{comparison.method} lies within the bound"
    return f"{comparison.method} is off by {error:.1e}" + (f", {error / bound:.2g} times the bound" if bound else "")
