"""The object that the fixture `gradcheck` provides: `gradcheck.check` for tests."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gradcheck import aggregate, marker, outcome, settings

if TYPE_CHECKING:
    from gradcheck.results import CheckResult

CURRENT_ITEM = pytest.StashKey[pytest.Item]()
WARNED_CASES = pytest.StashKey[set[str]]()
DEFAULT_DTYPE = "float32"  # PyTorch's own default dtype
EXAMPLE = "    gradcheck(MyLayer(8), gradcheck.normal(4, 8))"


class Gradcheck:
    """Checks derivatives in a test; it also has the public names of the module `gradcheck`, such as `gradcheck.normal`."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def __call__(self, *target_and_inputs: Any, **arguments: Any) -> CheckResult:
        """Check a derivative like `gradcheck.check`: `gradcheck(MyLayer(8), normal(4, 8))`.

        Args:
            *target_and_inputs: the function or module, and its inputs.
            **arguments: the arguments of `gradcheck.check`; `strict`: whether INCONCLUSIVE fails; `drawn`: see
                `gradcheck.assert_gradients`. Arguments that are not passed come from the markers, the command line and the ini
                file, in this order. The random numbers depend on the seed and on the id of the test.

        Returns:
            The result, if it is ok, or if it is INCONCLUSIVE and not `strict`; then with a warning.

        Raises:
            GradientError: if the derivative is not ok; the message contains the table.
            UsageError: if inputs or options do not fit the target.
        """
        __tracebackhide__ = True
        from gradcheck.errors import GradcheckError

        item = self._config.stash[CURRENT_ITEM]
        options = {**marker.collect_options(item), **arguments}
        strict, drawn = options.pop("strict"), options.pop("drawn", False)
        try:
            result = _check(item, target_and_inputs, options, drawn=drawn)
            warn = _discard_warning if drawn else _make_warner(item, result.case)
            outcome.report_outcome(result, strict=strict and not drawn, warn=warn)
        except GradcheckError as error:
            raise error.with_traceback(None) from None
        return result

    def __repr__(self) -> str:
        """Return a short text, which pytest shows among the arguments of a failed test."""
        return "<fixture gradcheck>"

    def __getattr__(self, name: str) -> Any:
        """Look up a public name of the module `gradcheck`, which the fixture hides in a test."""
        import gradcheck

        if name not in dir(gradcheck):
            raise AttributeError(f"neither the fixture nor the module gradcheck has {name!r}")
        return getattr(gradcheck, name)


class GradcheckStep:
    """Tries the laws of a training step in a test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def __call__(self, *pieces: Any, **arguments: Any) -> CheckResult:
        """Try the laws like `gradcheck.step`: `gradcheck_step(model, loss, batch, optimizer=torch.optim.Adam)`.

        Returns:
            The result, if it is ok, or if it is INCONCLUSIVE and the session is not strict; then with a warning.

        Raises:
            GradientError: if a law is broken; the message contains the table.
            UsageError: if a piece is not what it must be.
        """
        __tracebackhide__ = True
        import gradcheck

        item = self._config.stash[CURRENT_ITEM]
        options = marker.collect_options(item)
        title = arguments.pop("name", "step")
        result = gradcheck.step(*pieces, **{"seed": options.get("seed") or 0, **arguments}, name=f"{item.nodeid}: {title}")
        replay = settings.format_replay(item.config, item.nodeid, result.seed)
        result = aggregate.record_result(item, replace(result, target=title, replay=replay))
        outcome.report_outcome(result, strict=options["strict"], warn=_make_warner(item, result.case))
        return result


def _check(item: pytest.Item, target_and_inputs: tuple[Any, ...], arguments: dict[str, Any], *, drawn: bool) -> CheckResult:
    from gradcheck.errors import UsageError
    from gradcheck.run.api import check, discard_rejected_example, get_target_name

    if not target_and_inputs and "fn" not in arguments:
        raise UsageError("gradcheck() has nothing to check: expected a target and its inputs, as in\n" + EXAMPLE)
    target = target_and_inputs[0] if target_and_inputs else arguments["fn"]
    title = arguments.pop("name", None) or get_target_name(target).rpartition("<locals>.")[2]
    dtype_notes = _note_default_dtype()
    result = check(*target_and_inputs, name=f"{item.nodeid}: {title}", **arguments)
    if drawn:
        discard_rejected_example(result)
    result = replace(
        result,
        target=title,
        notes=(*result.notes, *(dtype_notes if result.framework == "torch" else ())),
        replay=settings.format_replay(item.config, item.nodeid, result.seed),
    )
    return aggregate.record_result(item, result, drawn=drawn)


def _make_warner(item: pytest.Item, case: str) -> Callable[[Warning], object]:
    """Return a function that warns at the call in the test, once for all examples of a Hypothesis test."""
    warned = item.stash.setdefault(WARNED_CASES, set())
    warn = _discard_warning if case in warned else functools.partial(warnings.warn, stacklevel=3)
    warned.add(case)
    return warn


def _discard_warning(_: Warning) -> None:
    """Do nothing."""


def _note_default_dtype() -> tuple[str, ...]:
    """Return a note if a test has changed the default dtype of PyTorch, on which a target may depend."""
    torch = sys.modules.get("torch")
    dtype = str(torch.get_default_dtype()).removeprefix("torch.") if torch else DEFAULT_DTYPE
    if dtype == DEFAULT_DTYPE:
        return ()
    return (f"PyTorch's default dtype is {dtype} here: constants that the code creates have it too",)
