"""`@pytest.mark.gradcheck(rtol=..., trials=...)`: what a test, class or module chooses for its checks."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_gradcheck import settings

NAME = "gradcheck"
ABOUT = (
    f"{NAME}(**options): options of the checks in this test, class or module, such as rtol=1e-6, trials=3, strict=True; "
    "of several markers the closest decides, and a call's own arguments above all"
)


def chosen(item: pytest.Item) -> dict[str, Any]:
    """The options for a test: of the session, the markers from the outermost to the closest."""
    known = item.config.stash[settings.KEY]
    found = {"strict": known.strict, **known.chosen}
    for mark in reversed(list(item.iter_markers(NAME))):
        found |= mark.kwargs
    return found


def refuse_mistakes(item: pytest.Item) -> None:
    """Fail the test where a marker of it has arguments that cannot be understood."""
    for mark in item.iter_markers(NAME):
        mistake = _mistake(mark)
        if mistake:
            pytest.fail(f"@pytest.mark.{NAME}: {mistake}", pytrace=False)


def _mistake(mark: pytest.Mark) -> str:
    if mark.args:
        return f"{mark.args[0]!r} has no name: expected options by name, as in rtol=1e-6"
    if not isinstance(mark.kwargs.get("strict", False), bool):
        return f"strict={mark.kwargs['strict']!r}: expected True or False"
    given = {name: value for name, value in mark.kwargs.items() if name != "strict"}
    if not given:
        return ""
    from gradcheck.errors import UsageError
    from gradcheck.options import Options, overridden

    try:
        overridden(Options(), given)
    except UsageError as error:
        return str(error)
    return ""
