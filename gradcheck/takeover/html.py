"""The report of a takeover as one self-contained page, with the styles of the report of a run."""

from __future__ import annotations

from gradcheck.report.display import to_display
from gradcheck.report.html.page import load_template
from gradcheck.takeover.records import TakeoverRun
from gradcheck.takeover.sections import build_sections, describe_category, describe_prediction, describe_times, describe_totals
from gradcheck.untrusted_text import escape_ci_commands

MAX_CALLS = 5000  # rows in the table of every call


def render(run: TakeoverRun) -> str:
    """Return the page."""
    run = to_display(run)
    page = load_template("takeover.html.j2").render(
        run=run,
        totals=describe_totals(run),
        prediction=describe_prediction(run),
        times=describe_times(run),
        sections=build_sections(run),
        describe_category=describe_category,
        max_calls=MAX_CALLS,
    )
    return escape_ci_commands(page)
