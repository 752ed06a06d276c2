"""The heat map of a leaf: its cells and the entries that each holds, drawn with labelled axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradcheck.report.html.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, wrap_svg
from gradcheck.results import Picture

CELL_WIDTH, CELL_HEIGHT = 52, 44  # largest cell, in pixels
MAX_ASPECT = 3.0  # longest side of a cell divided by the other
MAX_WIDTH = 300  # widest heat map without its labels, in pixels
MIN_WIDTH = 180  # narrowest picture without its margins, in pixels: its axis is named below it
NUMBER_WIDTH, NUMBER_HEIGHT = 38, 32  # smallest cell that shows its error as a number, in pixels
CHARACTER_WIDTH, LINE_HEIGHT = 7, 14  # of a label, in pixels
NAME_WIDTH = 24  # room for the name of the vertical axis, in pixels
SHADE_DECADES = (-14, -10, -6, -3, -1)  # decimal exponents of the relative errors at which the next shade begins
FIRST_STRONG_SHADE = 4  # From this shade on, marks are drawn in the colour of the page's ground.
CROSS_SHARE, CROSS_SIZE = 0.6, 10.0  # width of a cross divided by the shorter side of its cell, and its largest, in pixels
NO_MEANING = len(SHADE_DECADES) + 1  # the shade of cells whose error has no meaning


@dataclass(frozen=True)
class HeatmapGrid:
    """The cells of a heat map. Rows stand for all axes of the leaf but the last; a vector is folded into rows.

    Attributes:
        shape: shape of the leaf.
        rows: number of rows of cells.
        columns: number of columns of cells.
    """

    shape: tuple[int, ...]
    rows: int
    columns: int

    @property
    def entry_columns(self) -> int:
        """The number of entries from one row of entries to the next; a vector of several rows has one block per column."""
        is_vector = len(self.shape) < 2
        return self.columns if is_vector else self.shape[-1]

    @property
    def block(self) -> tuple[int, int]:
        """The number of rows and columns of entries in a cell."""
        entry_rows = -(-math.prod(self.shape) // self.entry_columns)
        return -(-entry_rows // self.rows), -(-self.entry_columns // self.columns)

    def first_entry(self, cell: int) -> tuple[int, ...] | None:
        """Return the index of the first entry of a cell; None if it holds none, as after the end of a folded vector."""
        row, column = divmod(cell, self.columns)
        flat = row * self.block[0] * self.entry_columns + column * self.block[1]
        return self._index(flat) if flat < math.prod(self.shape) else None

    def describe_cell(self, cell: int) -> str:
        """Name the entries of a cell: '[0, 3]', or '[0, 2] to [1, 3]' for a block."""
        row, column = divmod(cell, self.columns)
        last_row = min((row + 1) * self.block[0], -(-math.prod(self.shape) // self.entry_columns)) - 1
        last_column = min((column + 1) * self.block[1], self.entry_columns) - 1
        last = min(last_row * self.entry_columns + last_column, math.prod(self.shape) - 1)
        names = [str(list(index)) for index in (self.first_entry(cell) or (), self._index(last))]
        return " to ".join(dict.fromkeys(names))

    def row_labels(self) -> list[str]:
        """Return the index of the first entry of each row, without the last axis; none for a vector in one row."""
        if len(self.shape) < 2 and self.rows == 1:
            return []
        firsts = [self.first_entry(row * self.columns) or () for row in range(self.rows)]
        return [", ".join(map(str, first if len(self.shape) < 2 else first[:-1])) for first in firsts]

    def column_labels(self) -> list[str]:
        """Return the position of the first entry of each column along the last axis; '+3' in a folded vector."""
        sign = "+" if len(self.shape) < 2 and self.rows > 1 else ""
        return [f"{sign}{column * self.block[1]}" for column in range(self.columns)]

    def axis_names(self) -> tuple[str, str]:
        """Name the axis of the rows and that of the columns."""
        last = len(self.shape) - 1
        if last < 1:
            return ("index", "offset") if self.rows > 1 else ("", "index")
        return ("axis 0" if last == 1 else f"axes 0 to {last - 1}"), f"axis {last}"

    def _index(self, flat: int) -> tuple[int, ...]:
        index: list[int] = []
        for size in reversed(self.shape):
            flat, place = divmod(flat, size)
            index.append(place)
        return tuple(reversed(index))


@dataclass(frozen=True)
class Layout:
    """The place of the cells on a picture, in pixels.

    Attributes:
        left: the left edge of the cells; there is room for labels on its left.
        top: the upper edge of the cells.
        width: width of a cell.
        height: height of a cell.
    """

    left: float
    top: float
    width: float
    height: float

    @property
    def has_numbers(self) -> bool:
        """Whether a cell has room for its error as a number."""
        return self.width >= NUMBER_WIDTH and self.height >= NUMBER_HEIGHT

    def find_middle(self, cell: int, grid: HeatmapGrid) -> tuple[float, float]:
        """Return the middle of a cell."""
        row, column = divmod(cell, grid.columns)
        return self.left + (column + 0.5) * self.width, self.top + (row + 0.5) * self.height


def draw_heatmap(picture: Picture, grid: HeatmapGrid, name: str, description: str) -> str:
    """Draw the relative error of each cell of a leaf; a cross marks cells with a wrong entry.

    Args:
        picture: the errors of the leaf.
        grid: the cells, which label the axes.
        name: an id that is unique on the page.
        description: what the picture shows, in a sentence.
    """
    if grid.rows * grid.columns < 2:
        return ""
    layout = _lay_out(grid)
    filled = [k for k in range(grid.rows * grid.columns) if grid.first_entry(k) is not None]
    shades = {k: choose_shade(picture.errors[k]) for k in filled}
    cells = [
        f'<path class="shade{shade}" d="{_join_cells([k for k in filled if shades[k] == shade], grid)}"/>'
        for shade in sorted(set(shades.values()))
    ]
    moved = f"translate({layout.left} {layout.top:g}) scale({layout.width:g} {layout.height:g})"
    width, height = grid.columns * layout.width, grid.rows * layout.height
    frame = f'<rect class="frame" x="{layout.left}" y="{layout.top:g}" width="{width:g}" height="{height:g}"/>'
    crosses = _draw_crosses([k for k in filled if picture.wrong[k]], shades, grid, layout)
    numbers = [_draw_number(picture, k, shades[k], grid, layout) for k in filled if layout.has_numbers]
    parts = [f'<g transform="{moved}">{"".join(cells)}</g>', frame, *crosses, *numbers, *_draw_labels(grid, layout)]
    total_width = layout.left + max(width, MIN_WIDTH) + RIGHT
    return wrap_svg(name, total_width, HEIGHT, "Relative error over the leaf", description, parts)


def choose_shade(error: float) -> int:
    """Return 0 to 5 from the smallest to the largest errors; 6 for NaN."""
    if math.isnan(error):
        return NO_MEANING
    return sum(error >= 10.0**decade for decade in SHADE_DECADES)


def _lay_out(grid: HeatmapGrid) -> Layout:
    """Make the cells as large as fits, and not too narrow or flat."""
    width = min(CELL_WIDTH, MAX_WIDTH / grid.columns)
    height = min(CELL_HEIGHT, (HEIGHT - TOP - BOTTOM) / grid.rows)
    width, height = min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width)
    longest = max(map(len, grid.row_labels()), default=0)
    left = max(LEFT, NAME_WIDTH + CHARACTER_WIDTH * longest) if longest else RIGHT
    return Layout(left, TOP + (HEIGHT - TOP - BOTTOM - grid.rows * height) / 2, width, height)


def _join_cells(cells: Sequence[int], grid: HeatmapGrid) -> str:
    return "".join(f"M{k % grid.columns} {k // grid.columns}h1v1h-1z" for k in cells)


def _ink(shade: int) -> str:
    """Return the class of marks that stand out on a shade."""
    return "strong" if FIRST_STRONG_SHADE <= shade < NO_MEANING else "weak"


def _draw_crosses(wrong: Sequence[int], shades: dict[int, int], grid: HeatmapGrid, layout: Layout) -> list[str]:
    """Draw a cross on each wrong cell, above its number if it shows one."""
    size = min(CROSS_SHARE * min(layout.width, layout.height), CROSS_SIZE)
    shift = size / 2 + 2 if layout.has_numbers else 0.0
    parts = []
    for ink in ("weak", "strong"):
        middles = [layout.find_middle(k, grid) for k in wrong if _ink(shades[k]) == ink]
        path = "".join(
            f"M{x - size / 2:.1f} {y - shift - size / 2:.1f}l{size:.3g} {size:.3g}m-{size:.3g} 0l{size:.3g} -{size:.3g}"
            for x, y in middles
        )
        parts += [f'<path class="cross {ink}" d="{path}"/>'] if middles else []
    return parts


def _draw_number(picture: Picture, cell: int, shade: int, grid: HeatmapGrid, layout: Layout) -> str:
    """Write the error of a cell into it."""
    x, y = layout.find_middle(cell, grid)
    error = picture.errors[cell]
    text = "-" if math.isnan(error) else f"{error:.1g}".replace("e-0", "e-").replace("e+0", "e")
    baseline = y + (12 if picture.wrong[cell] else 4)
    return f'<text class="{_ink(shade)}" x="{x:g}" y="{baseline:g}" text-anchor="middle">{text}</text>'


def _draw_labels(grid: HeatmapGrid, layout: Layout) -> list[str]:
    """Label rows and columns, as many as fit, and name the axes."""
    columns, rows, right = grid.column_labels(), grid.row_labels(), layout.left - 6
    row_name, column_name = grid.axis_names()
    bottom = layout.top + grid.rows * layout.height
    spacing = CHARACTER_WIDTH * max(map(len, columns)) + 4
    parts = [
        f'<text x="{layout.find_middle(k, grid)[0]:g}" y="{bottom + 14:g}" text-anchor="middle">{columns[k]}</text>'
        for k in range(0, len(columns), _choose_stride(spacing / layout.width))
    ]
    parts += [
        f'<text x="{right}" y="{layout.find_middle(k * grid.columns, grid)[1] + 4:g}" text-anchor="end">{rows[k]}</text>'
        for k in range(0, len(rows), _choose_stride(LINE_HEIGHT / layout.height))
    ]
    middle = layout.left + grid.columns * layout.width / 2
    parts.append(f'<text x="{middle:g}" y="{bottom + 30:g}" text-anchor="middle">{column_name}</text>')
    if row_name:
        y = layout.top + grid.rows * layout.height / 2
        parts.append(f'<text x="12" y="{y:g}" text-anchor="middle" transform="rotate(-90 12 {y:g})">{row_name}</text>')
    return parts


def _choose_stride(cells: float) -> int:
    """Return a round number of cells from one label to the next: at least `cells`."""
    strides = (unit * int(10**power) for power in range(9) for unit in (1, 2, 5))
    return next(stride for stride in strides if stride >= cells)
