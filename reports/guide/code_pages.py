"""The pages of the guide that come from the code: `python reports/guide/code_pages.py` writes them.

The rules of the verdicts and the lists of options, keys and fields are written whole. A page of a reason, a diagnosis or a
contract begins with what the code says of it; its example, from the heading `## Example` on, is written by hand and kept. So
is a first line that marks the examples as slow.
"""

from __future__ import annotations

import re
from pathlib import Path

from reference_pages import describe_lists

from gradcheck.cli.guide_pages import CODES, GUIDE, SECTIONS, read_pages
from gradcheck.glossary.contracts import CONTRACTS, ON_REQUEST
from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.results import Reason
from gradcheck.verdict.rules import describe_rules

EXAMPLE = "## Example\n"
MODULES = Path(__file__).resolve().parents[1] / "modules.md"
SITE = Path(__file__).resolve().parents[2] / ".zensical.toml"
NAVIGATION = "# `make guide` writes the navigation below.\n"
SLOW = "<!-- The examples of this page take minutes: `make examples` runs them. -->\n"


def describe_codes() -> dict[str, str]:
    """Describe each reason, diagnosis and contract: from the path of its page, relative to the guide, to its first lines."""
    return {
        **{f"reference/reasons/{reason.code}.md": _describe_reason(reason) for reason in Reason},
        **{f"reference/diagnoses/{kind.code}.md": _describe_diagnosis(kind) for kind in Diagnosis},
        **{f"reference/contracts/{name}.md": _describe_contract(name) for name in CONTRACTS},
    }


def describe_whole_pages() -> dict[str, str]:
    """Return the text of each page that is written whole, by its path in the guide."""
    return {
        "reference/verdicts.md": describe_rules(),
        **describe_lists(),
        "why/reproducers.md": describe_reproducers(),
        "index.md": describe_contents(),
    }


def describe_reproducers() -> str:
    """Return the reproducers of the study of modules, each with the command that finds it.

    The packages are not dependencies, so the page does not run the blocks: the study runs them and shows what they print.
    """
    findings = MODULES.read_text(encoding="utf-8").partition("## Findings\n")[2].partition("\n## ")[0]
    parts = re.split(r"^### \d+\. ", findings, flags=re.M)[1:]
    sections = [_describe_reproducer(part.replace("```python\n", "```py\n").strip()) for part in parts]
    return (
        "# Reproducers of the faults that gradcheck found\n\n"
        "Each section can be sent upstream as it stands. `python reports/modules/study.py` runs the code and writes the output;"
        " `reports/modules.md` has the versions of the packages. [The overview](findings.md) has one line for each.\n\n"
        + "\n\n".join(sections)
        + "\n"
    )


def _describe_reproducer(text: str) -> str:
    title, _, rest = text.partition("\n")
    package = title.partition(":")[0]
    return f"## {title}\n\nFound by `python reports/modules/study.py --only {package}`.\n{rest}"


def describe_contents() -> str:
    """Return the first page of the guide: every page by section."""
    parts = [
        "# The gradcheck guide\n\n"
        "gradcheck says whether a derivative is right, where it is wrong, and why. New here? Read the"
        " [quick start](start/quick-start.md). In the terminal, `gradcheck explain` lists these pages, and"
        " `gradcheck explain NAME` prints one.\n"
    ]
    pages = read_pages()
    for section, heading in SECTIONS.items():
        chosen = [page for page in pages if page.section == section]
        link = (
            "[{0.name}]({0.section}/{0.name}.md): {0.summary}" if section in CODES else "[{0.summary}]({0.section}/{0.name}.md)"
        )
        parts.append(f"## {heading}\n\n" + "".join(f"- {link.format(page)}\n" for page in chosen))
    return "\n".join(parts)


def describe_navigation() -> str:
    """Return the navigation of the site: every page by section, in the order of the contents."""
    pages = read_pages()
    lines = ["[[project.nav]]", 'Home = "index.md"']
    for section, heading in SECTIONS.items():
        paths = "".join(f'  "{page.section}/{page.name}.md",\n' for page in pages if page.section == section)
        lines += ["", "[[project.nav]]", f'"{heading}" = [\n{paths}]']
    return "\n".join(lines) + "\n"


def _describe_reason(reason: Reason) -> str:
    advice = f"**What to do.** {_sentence(reason.advice)}\n\n" if reason.advice else ""
    return f"# Reason: {reason.code}\n\n{_sentence(reason.message)}\n\n{advice}"


def _describe_diagnosis(kind: Diagnosis) -> str:
    fix = f"**The usual fix.** {_sentence(kind.fix)}\n\n**A typical line.** `{kind.example}`"
    return f"# Diagnosis: {kind.code}\n\n{_sentence(kind.message)}\n\n{fix}\n\n"


def _describe_contract(name: str) -> str:
    choice = (
        f"It takes seconds, so it is tried only if you ask for it: `--contract {name}`."
        if name in ON_REQUEST
        else f"To leave it out, use `--no-contract {name}`. If your code breaks it on purpose, declare"
        f" `tolerates={{{name!r}: 'the reason'}}`."
    )
    return f"# Contract: {name}\n\n{_sentence(CONTRACTS[name])}\n\n{choice}\n\n"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def write_pages() -> None:
    """Write the pages."""
    for name, head in describe_codes().items():
        path = GUIDE / name
        text = path.read_text(encoding="utf-8") if path.exists() else f"{EXAMPLE}\n"
        mark = SLOW if text.startswith(SLOW) else ""
        path.write_text(f"{mark}{head}{EXAMPLE}{text.partition(EXAMPLE)[2]}", encoding="utf-8")
    for name, text in describe_whole_pages().items():
        (GUIDE / name).write_text(text, encoding="utf-8")


def write_navigation() -> None:
    """Write the navigation into the configuration of the site."""
    kept = SITE.read_text(encoding="utf-8").partition(NAVIGATION)[0]
    SITE.write_text(f"{kept}{NAVIGATION}\n{describe_navigation()}", encoding="utf-8")


if __name__ == "__main__":
    print(f"{len(describe_codes()) + 1} pages in {Path(GUIDE).name}/")  # noqa: T201
    write_pages()
    write_navigation()
