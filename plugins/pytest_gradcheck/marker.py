"""`@pytest.mark.gradcheck(rtol=..., trials=...)`: options for the checks of a test, class or module."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_gradcheck import settings

NAME = "gradcheck"
HELP = (
    f"{NAME}(**options): options of the checks in this test, class or module, such as rtol=1e-6, trials=3, strict=True; "
    "the closest marker takes precedence, and the arguments of a call over all markers"
)


def collect_options(item: pytest.Item) -> dict[str, Any]:
    """Return the options for a test: those of the session, overridden by the markers from the outermost to the closest."""
    session_settings = item.config.stash[settings.SETTINGS]
    options = {"strict": session_settings.strict, **session_settings.options}
    for mark in reversed(list(item.iter_markers(NAME))):
        options |= mark.kwargs
    return options


def reject_invalid_markers(item: pytest.Item) -> None:
    """Fail the test if one of its markers has invalid arguments."""
    for mark in item.iter_markers(NAME):
        mistake = _describe_mistake(mark)
        if mistake:
            pytest.fail(f"@pytest.mark.{NAME}: {mistake}", pytrace=False)


def _describe_mistake(mark: pytest.Mark) -> str:
    if mark.args:
        return f"{mark.args[0]!r} has no name: expected options by name, as in rtol=1e-6"
    if not isinstance(mark.kwargs.get("strict", False), bool):
        return f"strict={mark.kwargs['strict']!r}: expected True or False"
    options = {name: value for name, value in mark.kwargs.items() if name != "strict"}
    if not options:
        return ""
    from gradcheck.errors import UsageError
    from gradcheck.options import Options, override_options

    try:
        override_options(Options(), options)
    except UsageError as error:
        return str(error)
    return ""
