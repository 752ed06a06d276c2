"""The page of a study: a heading with the command and the versions that made it, tables and charts.

The study in `reports/NAME/` writes its page to `reports/NAME.md`. Its script finds this file and the others that several
studies share by one line before it imports them:

    sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
"""

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

ROOT = Path(__file__).resolve().parents[2]


def page_path(script: str) -> Path:
    """Return where the page of a study's script goes: `reports/NAME.md` for a script in `reports/NAME/`."""
    return Path(script).resolve().parent.with_suffix(".md")


def make_heading(title: str, script: str, packages: Sequence[str], options: str = "") -> list[str]:
    """Return the first lines of a page: its title, the command that made it, the date and the versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    command = f"python {Path(script).resolve().relative_to(ROOT).as_posix()} {options}".rstrip()
    made_by = f"`{command}`, {date.today()}, Python {platform.python_version()}, {versions}."
    return [f"# {title}", "", made_by, ""]


def read_arguments(doc: str, script: str, only: str) -> tuple[str, Path]:
    """Read the command line of a study: the text that the names of its cases must contain, and where the page goes.

    Args:
        doc: the script's docstring, whose first line describes the study.
        script: the script's file.
        only: help of the option `--only`, which says what the names belong to.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--only", default="", help=only)
    parser.add_argument("--out", default=str(page_path(script)))
    arguments = parser.parse_args()
    return arguments.only, Path(arguments.out)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a Markdown table; bars in cells are escaped."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def save_chart(figure: Figure, path: Path, title: str, description: str) -> list[str]:
    """Write a figure as SVG, with the same bytes for the same data, and return the Markdown that shows it."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None, "Title": title})
    return [f"![{title}: {description}]({path.name})", ""]


def write_page(lines: Iterable[str], path: Path) -> None:
    """Write the lines of a page to a file."""
    path.write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")
