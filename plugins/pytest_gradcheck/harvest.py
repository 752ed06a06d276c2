"""`--gradcheck-harvest`: the calls that the tests make of your own derivatives, checked when the session ends."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gradcheck import aggregate, settings

if TYPE_CHECKING:
    from gradcheck.harvest.join import Joined
    from gradcheck.harvest.watch import Watched

KEY = "gradcheck_harvest"  # of the parts among the output of xdist's workers, and the place of the results in the session
FAILS_SESSION = "the session fails for these checks, whatever its tests say; --gradcheck-report-only lets it pass"
WATCHED: pytest.StashKey[Watched] = pytest.StashKey()
PARTS = pytest.StashKey[list[dict[str, Any] | None]]()  # None: a worker that crashed
FAILS = pytest.StashKey[bool]()
JOINED: pytest.StashKey[Joined] = pytest.StashKey()


def add_options(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("gradcheck")
    group.addoption(
        "--gradcheck-harvest",
        action="store_true",
        help="check the calls that the tests make of your Functions, operators, modules and JAX rules",
    )
    group.addoption(
        "--gradcheck-harvest-budget", metavar="TIME", default="60s", help="time for these checks: 60s, 5min; default: 60s"
    )
    group.addoption(
        "--gradcheck-harvest-include",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="an installed package whose code counts as yours. Repeatable",
    )


def start(config: pytest.Config) -> None:
    """Begin to watch, if the option is set.

    Raises:
        UsageError: if the budget is no time.
    """
    if not config.getoption("gradcheck_harvest") or config.option.collectonly:
        return
    from gradcheck.harvest.watch import Watched

    _read_budget(config)
    config.stash[PARTS] = []
    config.stash[WATCHED] = Watched(tuple(config.getoption("gradcheck_harvest_include")))
    config.stash[WATCHED].start()


def stop(config: pytest.Config) -> None:
    """Leave the process as it was; for a session that ended early, too."""
    if WATCHED in config.stash:
        config.stash[WATCHED].stop()


def _read_budget(config: pytest.Config) -> float:
    from gradcheck.run.parse_quantities import parse_seconds

    with settings.usage_errors("--gradcheck-harvest-budget"):
        return parse_seconds(config.getoption("gradcheck_harvest_budget"))


def receive(config: pytest.Config, output: dict[str, Any]) -> None:
    """Take the part of one of xdist's workers, which has none if it crashed."""
    if PARTS in config.stash:
        config.stash[PARTS].append(json.loads(output[KEY]) if KEY in output else None)


def finish(session: pytest.Session) -> None:
    """Check what this process has called; on a worker of xdist, send the part, elsewhere join all parts.

    A derivative that is wrong fails a session whose tests all pass.
    """
    config = session.config
    if WATCHED not in config.stash:
        return
    from gradcheck.harvest.child import make_part
    from gradcheck.harvest.join import join_parts

    stop(config)
    chosen = config.stash[settings.SETTINGS]
    replay = shlex.join(["pytest", *map(str, config.invocation_params.args)])
    part = make_part(config.stash[WATCHED], {"budget": _read_budget(config), "options": dict(chosen.options), "replay": replay})
    if hasattr(config, "workeroutput"):
        config.workeroutput[KEY] = json.dumps(part)
        return
    parts = [other for other in config.stash[PARTS] if other is not None]
    joined = config.stash[JOINED] = join_parts([part, *parts], lost=len(config.stash[PARTS]) - len(parts))
    results = joined.run.results if joined.run is not None else ()
    if results:
        config.stash[aggregate.SESSION_RESULTS].results[KEY] = [json.dumps(result.to_dict()) for result in results]
    config.stash[FAILS] = bool(joined.errors) or _fails(joined, chosen)
    if session.exitstatus == pytest.ExitCode.OK and config.stash[FAILS]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _fails(joined: Joined, chosen: settings.Settings) -> bool:
    from gradcheck.results import Verdict

    allowed = {Verdict.PASS} if chosen.strict else {Verdict.PASS, Verdict.INCONCLUSIVE}
    if chosen.report_only:
        allowed |= {Verdict.FAIL, Verdict.INCONCLUSIVE}
    return joined.run is not None and any(result.outcome not in allowed for result in joined.run.results)


def summary_lines(config: pytest.Config) -> Iterator[str]:
    """Yield the table of the checks, what was not checked, and the drafted cases."""
    joined = config.stash.get(JOINED, None)
    if joined is None:
        return
    from gradcheck.harvest import draft
    from gradcheck.report.display import to_display
    from gradcheck.report.terminal import run_tables

    if joined.run is not None:
        width = max(shutil.get_terminal_size((100, 24)).columns, 60)
        yield run_tables.render(to_display(joined.run), width=width).rstrip("\n")
    yield from joined.messages
    if config.stash[FAILS]:
        yield FAILS_SESSION
    for text in (draft.format_cases(joined.drafts), draft.format_configuration(joined.drafts)):
        if text:
            yield f"\n{text.rstrip()}"
