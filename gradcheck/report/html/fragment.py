"""A result in a notebook: a part of the page, with its styles inline, which follow the colours of the notebook."""

from __future__ import annotations

import re

from gradcheck.report.display import to_display
from gradcheck.report.html.page import load_template
from gradcheck.results import CheckResult, RunResult

GREY = "rgba(128,128,128,.45)"
LINE = f"border:0;border-bottom:1px solid {GREY}"
MONO = "font-family:ui-monospace,monospace"
CELL = f"{LINE};text-align:left;vertical-align:top;padding:.2em .9em .2em 0;max-width:none"


def _mix(color: str) -> str:
    """Return a colour that is readable on light and on dark ground, as it is mixed with that of the text around."""
    return f"color:color-mix(in srgb,{color} 70%,currentColor)"


# Styles of elements and of the classes of the page. A notebook may remove style sheets, but keeps these.
STYLES = {
    "fragment": "line-height:1.45;max-width:72em;overflow-wrap:anywhere",
    "p": "margin:.25em 0",
    "h3": "font-size:1em;font-weight:600;margin:.9em 0 .2em",
    "pre": f"{MONO};font-size:.9em;white-space:pre-wrap;margin:.2em 0;padding:.3em .6em;border:1px solid {GREY}",
    "details": "margin:.4em 0",
    "summary": "cursor:pointer",
    "table": "border-collapse:collapse;margin:.3em 0;font-size:.9em",
    "caption": "text-align:left",
    "th": f"{CELL};font-weight:600",
    "td": CELL,
    "number": "text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums",
    "name": "white-space:nowrap",
    "methods": "white-space:nowrap",
    "mono": MONO,
    "lines": "white-space:pre-wrap",
    "wide": "overflow-x:auto",
    "dim": "opacity:.75",
    "finding": f"border-left:3px solid {GREY};padding-left:.75em;margin:.5em 0",
    "verdict": "font-weight:700;white-space:nowrap",
    "PASS": _mix("#12a150"),
    "FAIL": _mix("#e5252a"),
    "INCONCLUSIVE": _mix("#c98500"),
    "ERROR": _mix("#d1309c"),
}
TAG = re.compile(r"<(\w+)((?: [^<>]*)?)>")  # The user's text has neither < nor > here, nor a quote in an attribute.
CLASS = re.compile(r' class="([^"]*)"')


def render(result: CheckResult | RunResult) -> str:
    """Return the table, the findings and the commands of a result, or of each case of a run, as an HTML fragment."""
    shown = to_display(result)
    values = {"run": shown, "result": None} if isinstance(shown, RunResult) else {"run": None, "result": shown}
    return TAG.sub(_inline_styles, load_template("fragment.html.j2").render(values))


def _inline_styles(match: re.Match[str]) -> str:
    """Replace the classes of an element by the styles that it and they have."""
    tag, attributes = match.groups()
    classes = " ".join(CLASS.findall(attributes)).split()
    styles = ";".join(STYLES[name] for name in (tag, *classes) if name in STYLES)
    return f"<{tag}{CLASS.sub('', attributes)}" + (f' style="{styles}">' if styles else ">")
