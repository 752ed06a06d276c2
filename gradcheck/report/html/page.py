"""The run as one self-contained page: reads without scripts, on a phone, in the dark and on paper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.glossary.verdicts import SEVERITY
from gradcheck.report import (
    fuzz_summary,
    locations,
    phrases,
    steps,
)
from gradcheck.report.html import svg
from gradcheck.results import CheckResult, Comparison, LayerResult, RunResult, Verdict

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

SIGNS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?", "ERROR": "!"}
DRAWN = 6  # comparisons of a case that have pictures, of each kind: those that are not PASS, and those that are
LISTED = 64  # rows of the table beside a picture
CELL, FRAME = 26, 600  # characters of markup around a cell, and around a picture with its legend
LIMIT = 2_950_000  # bytes of a page, so that it opens at once: pictures are left out to stay within
PICTURES, FEWEST = 1_800_000, 300_000  # characters that all pictures of a page may take, and may in any case
SECTIONS = 500  # cases with a section of their own; where there are more, the worst have one
OPEN = 20  # sections of those that are not ok that stand open
STEPS = (("dot", "difference"), ("dashes", "what noise may do"), ("band", "steps chosen"))
SHADES = (
    *((f"s{k}", told) for k, told in enumerate(("below 1e-14", "1e-10", "1e-6", "1e-3", "0.1", "above"))),
    ("cross", "wrong"),
)


@dataclass(frozen=True)
class Figure:
    """A picture, what it shows in a sentence, and its numbers.

    Attributes:
        width: of the picture, in pixels.
        legend: classes of the style sheet and what each stands for.
    """

    svg: Markup
    width: str
    told: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Characters that it takes on the page, about."""
        return FRAME + len(self.svg) + len(self.told) + sum(len(cell) + CELL for row in self.rows for cell in row)


@dataclass
class Node:
    """A layer and what lies inside it."""

    name: str
    layer: LayerResult
    inside: list[Node] = field(default_factory=list)


def render(run: RunResult) -> str:
    """Return the page."""
    page = _page(run, PICTURES)
    over = len(page.encode("utf-8", "replace")) - LIMIT
    return page if over <= 0 else _page(run, max(PICTURES - over, FEWEST))


def _page(run: RunResult, room: int) -> str:
    """The page with pictures of so many characters."""
    order = sorted(range(len(run.results)), key=lambda k: (run.results[k].ok, SEVERITY.index(run.results[k].outcome)))
    album = _album([(run.results[k], str(k + 1)) for k in order[:SECTIONS]], room)
    counts = [(name.replace("_", " "), count) for name, count in run.counts.items() if count]
    found = {result.outcome.value for result in run.results}
    filters = [("all", "all"), *((v.value, v.value) for v in Verdict if v.value in found)]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            run=run,
            words=phrases,
            counted=fuzz_summary.counted,
            place_of=lambda result: locations.of(run, result),
            signs=SIGNS,
            counts=counts,
            filters=filters,
            evaluations=sum(result.evaluations for result in run.results),
            figures_of=lambda name, passed: [figure for figure in album[_key(name, passed=passed)] if figure],
            sections={k + 1: run.results[k] for k in sorted(order[:SECTIONS])},
            open=[k + 1 for k in order[:OPEN] if not run.results[k].ok or len(run.results) == 1],
            undrawn=sum(figure is None for found in album.values() for figure in found),
            tree_of=tree,
            css=_raw("page.css"),
            js=_raw("page.js"),
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_folder()), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _folder() -> Path:
    return Path(__file__).parent / "templates"


def _raw(name: str) -> Markup:
    from markupsafe import Markup

    return Markup((_folder() / name).read_text(encoding="utf-8"))


def _key(name: str, *, passed: bool) -> str:
    return f"p{name}{'y' if passed else 'n'}"


def _album(cases: Sequence[tuple[CheckResult, str]], room: int) -> dict[str, list[Figure | None]]:
    """The pictures of cases, by the name of their place on the page; None for one that there is no room for.

    What is wrong comes first, then what passed, of the cases in their order.
    """
    places: list[tuple[CheckResult | LayerResult, str, bool]] = []
    for passed in (False, True):
        for result, name in cases:
            wrong = [layer for layer in result.layers if layer.verdict in (Verdict.FAIL, Verdict.ERROR)]
            places += [(result, name, passed), *((layer, f"{name}-{k}", passed) for k, layer in enumerate(wrong, 1))]
    album: dict[str, list[Figure | None]] = {}
    for of, name, passed in places:
        found = album.setdefault(_key(name, passed=passed), [])
        for figure in figures(of, _key(name, passed=passed), passed=passed):
            found.append(figure if figure.size <= room else None)
            room -= figure.size if figure.size <= room else 0
    return album


def tree(layers: Sequence[LayerResult]) -> Node:
    """The layers as they lie in each other; the first is the model."""
    grown: dict[str, Node] = {}
    for layer in layers:
        above, _, name = layer.path.rpartition(".")
        node = Node(name or layer.kind, layer)
        if layer.path:
            grown[above].inside.append(node)
        grown[layer.path] = node
    return grown[""]


def figures(of: CheckResult | LayerResult, name: str, *, passed: bool) -> Iterator[Figure]:
    """The pictures of a case's comparisons: of those that passed, or of the others.

    Args:
        name: what their names on the page begin with.
    """
    kind = [c for c in of.comparisons if (c.verdict is Verdict.PASS) is passed and (c.story or c.picture)]
    for k, c in enumerate(kind[:DRAWN]):
        yield from _of_story(c, f"{name}-{k}s")
        yield from _of_picture(c, f"{name}-{k}p")


def _figure(
    drawing: str, told: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], **more: Any
) -> Iterator[Figure]:
    from markupsafe import Markup

    if drawing:
        width = drawing.partition(' width="')[2].partition('"')[0]
        yield Figure(Markup(drawing), width, told, columns, tuple(rows[:LISTED]), **more)


def _of_story(c: Comparison, name: str) -> Iterator[Figure]:
    if c.story is None:
        return
    s = c.story
    told = f"{phrases.derivative(c)}: {steps.sentence(s)}; {_off(c, s.value, s.bound)}."
    rows = [
        (f"{h:.1e}", f"{d:.9g}", f"{b:.0e}", f"{abs(d - s.value):.0e}")
        for h, d, b in zip(s.steps, s.differences, s.bounds, strict=True)
    ]
    drawing = svg.steps(c, s, name, told)
    yield from _figure(drawing, told, ("step", "difference", "± noise", "off by"), rows, legend=STEPS)


def _of_picture(c: Comparison, name: str) -> Iterator[Figure]:
    if c.picture is None:
        return
    p = c.picture
    marked = sum(p.wrong)
    count = c.where.count if c.where and c.where.count is not None else None
    state = f"{count or marked} wrong" if marked else f"largest {phrases.number(_largest(p.errors))}"
    told = f"{_second(c)}Relative error of {c.method} ~ {c.against} over {c.wrt} ({phrases.shape(c)}): {state}."
    cells = sorted(((e, k) for k, e in enumerate(p.errors) if not math.isnan(e)), reverse=True)
    rows = [(f"{k // p.grid[1]}, {k % p.grid[1]}", phrases.number(e), "wrong" if p.wrong[k] else "") for e, k in cells]
    yield from _figure(svg.heat(p, name, told), told, ("row, column", "rel err", ""), rows, legend=SHADES)
    pairs = [(f"{a:.5g}", f"{b:.5g}") for a, b in zip(p.claimed, p.estimate, strict=True)]
    which = "wrong ones lie off" if marked else "all lie on" if c.verdict is Verdict.PASS else "right ones lie on"
    told = f"{_second(c)}{c.method} against numeric, {len(pairs)} of the numbers of {c.wrt}: {which} the diagonal."
    yield from _figure(svg.scatter(p, f"{name}n", told, c.method), told, (c.method, "numeric"), pairs)


def _second(c: Comparison) -> str:
    return "" if c.order == 1 else "Second derivatives. "


def _off(c: Comparison, value: float, bound: float) -> str:
    """How the claim stands to an estimate."""
    apart = abs(c.claimed - value)
    if not math.isfinite(apart) or not math.isfinite(bound):
        return f"{c.method} says {c.claimed:.9g}"
    if apart <= bound:
        return f"{c.method} lies within the bound"
    return f"{c.method} is off by {apart:.1e}" + (f", {apart / bound:.2g} times the bound" if bound else "")


def _largest(errors: Sequence[float]) -> float:
    return max((e for e in errors if not math.isnan(e)), default=math.nan)
