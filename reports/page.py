"""The page of a study: one heading, the command and versions that made it, tables and charts."""

from __future__ import annotations

import argparse
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.figure import Figure


def heading(title: str, script: str, packages: Sequence[str], options: str = "") -> list[str]:
    """The first lines of a page: its title, and what made it when."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    command = f"python reports/{Path(script).name} {options}".rstrip()
    made = f"`{command}`, {date.today()}, Python {platform.python_version()}, {versions}."
    return [f"# {title}", "", made, ""]


def arguments(doc: str, script: str, only: str) -> tuple[str, Path]:
    """Read the command line of a study: what its cases' names must contain (`only` says whose), and where the page goes."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--only", default="", help=only)
    parser.add_argument("--out", default=str(Path(script).with_suffix(".md")))
    given = parser.parse_args()
    return given.only, Path(given.out)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A Markdown table; bars in cells are escaped."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def chart(figure: Figure, path: Path, title: str, description: str) -> list[str]:
    """Write a figure as SVG, the same bytes for the same data, and return the Markdown that shows it."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None, "Title": title})
    return [f"![{title}: {description}]({path.name})", ""]


def write(lines: Iterable[str], path: Path) -> None:
    """Write a page."""
    path.write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")
