"""The pages of the guide that come from the code: `python reports/guide/code_pages.py` writes them.

The rules of the verdicts are written whole. A page of a reason, a diagnosis or a contract begins with what the code says of it;
its example, from the heading `## Example` on, is written by hand and kept.
"""

from __future__ import annotations

from pathlib import Path

from gradcheck.cli.guide_pages import GUIDE
from gradcheck.glossary.contracts import CONTRACTS, ON_REQUEST
from gradcheck.glossary.diagnoses import Diagnosis
from gradcheck.results import Reason
from gradcheck.verdict.rules import describe_rules

EXAMPLE = "## Example\n"


def describe_codes() -> dict[str, str]:
    """Describe each reason, diagnosis and contract: from the path of its page, relative to the guide, to its first lines."""
    return {
        **{f"reference/reasons/{reason.code}.md": _describe_reason(reason) for reason in Reason},
        **{f"reference/diagnoses/{kind.code}.md": _describe_diagnosis(kind) for kind in Diagnosis},
        **{f"reference/contracts/{name}.md": _describe_contract(name) for name in CONTRACTS},
    }


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
        else f"To leave it out, use `--no-contract {name}`. If your code breaks it on purpose, declare `tolerates={name!r}`."
    )
    return f"# Contract: {name}\n\n{_sentence(CONTRACTS[name])}\n\n{choice}\n\n"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def write_pages() -> None:
    """Write the pages."""
    for name, head in describe_codes().items():
        path = GUIDE / name
        kept = path.read_text(encoding="utf-8").partition(EXAMPLE)[2] if path.exists() else "\n"
        path.write_text(f"{head}{EXAMPLE}{kept}", encoding="utf-8")
    (GUIDE / "reference" / "verdicts.md").write_text(describe_rules(), encoding="utf-8")


if __name__ == "__main__":
    print(f"{len(describe_codes()) + 1} pages in {Path(GUIDE).name}/")  # noqa: T201
    write_pages()
