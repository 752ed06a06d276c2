"""A result as people see it: control characters are visible, and long texts are cut."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from gradcheck.untrusted_text import cut_middle, escape_control_characters

MAX_LENGTH = 20_000  # characters of a text: a traceback of 200 lines fits
MAX_NAME_LENGTH = 2_000  # characters of a text that is shown in one line
# The fields that are shown in one line: a newline in them would let a name look like a line of the report.
SINGLE_LINE = {"case", "target", "wrt", "output", "slice", "path", "kind", "name", "subject", "label", "file", "replay"}
T = TypeVar("T")


def to_display(value: T, *, single_line: bool = False) -> T:
    """Return a run, a result or a part of one with texts that are safe to show; the value itself if all its texts are.

    Args:
        value: a run, a result, or any part of it.
        single_line: whether texts are shown in one line.
    """
    shown: Any = value
    if isinstance(value, str):
        shown = _to_safe_text(value, single_line)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        safe_parts = {name: to_display(part, single_line=name in SINGLE_LINE) for name, part in parts.items()}
        changed = {name: part for name, part in safe_parts.items() if part is not parts[name]}
        shown = replace(value, **changed) if changed else value
    elif isinstance(value, dict):
        shown = {to_display(key, single_line=True): to_display(part) for key, part in value.items()}
    elif isinstance(value, tuple | list):
        shown = type(value)(to_display(part, single_line=single_line) for part in value)
    return value if shown == value else shown


def _to_safe_text(text: str, single_line: bool) -> str:
    limit = MAX_NAME_LENGTH if single_line else MAX_LENGTH
    return cut_middle(escape_control_characters(cut_middle(text, limit), single_line=single_line), limit)
