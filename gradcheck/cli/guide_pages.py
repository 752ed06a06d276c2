"""The pages of the guide, which `gradcheck explain` prints."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[1] / "guide"
# The folders of the guide in the order of its contents, each with the heading that the contents give it.
SECTIONS = {
    "start": "Start",
    "how-to": "How to",
    "why": "Why",
    "reference": "Reference",
    "reference/drop-ins": "Drop-in replacements for other checkers",
    "reference/reasons": "Reasons of a verdict",
    "reference/diagnoses": "Diagnoses",
    "reference/contracts": "Contracts",
}
# Pages to read in this order.
FIRST = ("quick-start", "tutorial-numpy", "tutorial-custom-function", "tutorial-ci", "tutorial-training-step")
# Words of a report that no page is named after, each with its page.
ALIASES = {**dict.fromkeys(("pass", "fail", "inconclusive", "error", "verdict"), "results"), "resolution": "what-a-pass-means"}
CODES = ("reference/reasons", "reference/diagnoses", "reference/contracts")  # these folders have one page per code of a report
_LINK = re.compile(r"\[([^\]]+)\]\((?:[\w./-]*/)?([\w-]+)\.md(?:#[\w-]*)?\)")


@dataclass(frozen=True)
class Page:
    """A page of the guide.

    Attributes:
        name: what `gradcheck explain` calls it: the name of its file without `.md`. A reason, a diagnosis and a contract may
            share a name.
        section: a key of `SECTIONS`.
        text: Markdown.
    """

    name: str
    section: str
    text: str

    @property
    def summary(self) -> str:
        """Its title, or for a code of a report the sentence below the title."""
        lines = [line for line in self.text.splitlines() if line and not line.startswith("<!--")]
        return lines[1].rstrip(".") if self.section in CODES else lines[0].removeprefix("# ")


def _reading_order(path: Path) -> tuple[int, str]:
    return (FIRST.index(path.stem) if path.stem in FIRST else len(FIRST)), path.stem


def read_pages() -> list[Page]:
    """Read every page, in the order of `SECTIONS`; within a section, those of `FIRST` and then the others by name."""
    return [
        Page(path.stem, section, path.read_text(encoding="utf-8"))
        for section in SECTIONS
        for path in sorted((GUIDE / section).glob("*.md"), key=_reading_order)
    ]


def list_pages(pages: list[Page], width: int) -> str:
    """List the pages by section, each with its name and summary, in lines of at most `width` characters."""
    indent = max(len(page.name) for page in pages) + 4
    lines = ["`gradcheck explain NAME` prints a page of this guide."]
    for section, heading in SECTIONS.items():
        lines += ["", f"{heading}:"]
        for page in pages:
            if page.section == section:
                text = f"  {page.name:<{indent - 2}}{page.summary}"
                lines.append(textwrap.fill(text, max(width, 2 * indent), subsequent_indent=" " * indent))
    return "\n".join(lines) + "\n"


def name_linked_pages(text: str) -> str:
    """Replace each link to another page by the command that prints it, for a reader who cannot follow links."""
    return _LINK.sub(r"\1 (`gradcheck explain \2`)", text)
