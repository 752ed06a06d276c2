"""The fixture's callable: `gradcheck.check` for tests."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gradcheck import gathered, marker, outcome, settings

if TYPE_CHECKING:
    from gradcheck.results import CheckResult

CURRENT = pytest.StashKey[pytest.Item]()
WARNED = pytest.StashKey[set[str]]()
DEFAULT = "float32"  # PyTorch's own default dtype
EXAMPLE = "    gradcheck(MyLayer(8), gradcheck.normal(4, 8))"


class Gradcheck:
    """Checks the derivatives of a function within a test; it stands in for the module of its name, as in `gradcheck.normal`."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def __call__(self, *target_and_inputs: Any, **arguments: Any) -> CheckResult:
        """Check, as `gradcheck.check` does: `gradcheck(MyLayer(8), normal(4, 8))`.

        Args:
            *target_and_inputs: the function or module, and its inputs.
            **arguments: those of `gradcheck.check`, and `strict`: whether INCONCLUSIVE fails. What is not given here comes
                from the markers, the command line and the ini file, in this order; the seed's numbers derive from the test.
                And `drawn`, as for `gradcheck.assert_gradients`.

        Returns:
            The result, where it is ok, or INCONCLUSIVE with a warning.

        Raises:
            GradientError: with the table as message.
            UsageError: where inputs or options do not fit the target.
        """
        __tracebackhide__ = True
        from gradcheck.errors import GradcheckError

        item = self._config.stash[CURRENT]
        chosen = {**marker.chosen(item), **arguments}
        strict, drawn = chosen.pop("strict"), chosen.pop("drawn", False)
        try:
            result = _checked(item, target_and_inputs, chosen, drawn=drawn)
            outcome.judge(result, strict=strict and not drawn, warn=_silent if drawn else _warner(item, result.case))
        except GradcheckError as error:
            raise error.with_traceback(None) from None
        return result

    def __repr__(self) -> str:
        """Say what it is, among the arguments of a test that failed."""
        return "<fixture gradcheck>"

    def __getattr__(self, name: str) -> Any:
        """Look a public name of the module up, which the fixture's name hides in a test."""
        import gradcheck

        if name not in dir(gradcheck):
            raise AttributeError(f"the fixture gradcheck has no {name!r}, nor has the module")
        return getattr(gradcheck, name)


def _checked(item: pytest.Item, given: tuple[Any, ...], arguments: dict[str, Any], *, drawn: bool) -> CheckResult:
    from gradcheck.errors import UsageError
    from gradcheck.run.api import check, discard_rejected, title_of

    if not given and "fn" not in arguments:
        raise UsageError("gradcheck() was given nothing to check: expected a target and its inputs, as in\n" + EXAMPLE)
    target = given[0] if given else arguments["fn"]
    title = arguments.pop("name", None) or title_of(target).rpartition("<locals>.")[2]
    around = _surroundings()
    found = check(*given, name=f"{item.nodeid}: {title}", **arguments)
    if drawn:
        discard_rejected(found)
    found = replace(
        found,
        target=title,
        notes=(*found.notes, *(around if found.framework == "torch" else ())),
        replay=settings.replay(item.config, item.nodeid, found.seed),
    )
    return gathered.record(item, found, drawn=drawn)


def _warner(item: pytest.Item, case: str) -> Callable[[Warning], object]:
    """Warns at the call in the test, once for all examples of a Hypothesis test."""
    known = item.stash.setdefault(WARNED, set())
    warn = _silent if case in known else functools.partial(warnings.warn, stacklevel=3)
    known.add(case)
    return warn


def _silent(_: Warning) -> None:
    """Warns of nothing."""


def _surroundings() -> tuple[str, ...]:
    """What an earlier test, or this one, has left in PyTorch that a target may depend on."""
    torch = sys.modules.get("torch")
    dtype = str(torch.get_default_dtype()).removeprefix("torch.") if torch else DEFAULT
    return () if dtype == DEFAULT else (f"PyTorch's default dtype is {dtype} here: constants that the code makes follow it",)
