"""`gradcheck fuzz`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from gradcheck.cli import output
from gradcheck.cli.app import Targets, app, messages, nothing
from gradcheck.cli.option_groups import grouped, typed
from gradcheck.cli.options import (
    CONFIG,
    Drawn,
    Named,
    Shown,
    configured,
    entries_behind,
    options_given,
    recorded,
    requested,
)
from gradcheck.cli.run import exit_code, progress, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.fuzzing.space import Example
    from gradcheck.options import Options
    from gradcheck.results import CheckResult, RunResult
    from gradcheck.targets.case import Case


@dataclass(frozen=True)
class Searched:
    """How to search."""

    examples: Annotated[int, typer.Option(min=1, help="Inputs to draw, at most.")] = 300
    budget: Annotated[str, typer.Option(help="What the search through a case may take: 60s, 5min.")] = "60s"
    keyword: Annotated[str | None, typer.Option("-k", help="Only cases whose name fits: words with and, or, not.")] = None
    config: Annotated[str | None, CONFIG] = None


@app.command()
@grouped
def fuzz(target: Targets = None, *, what: Named, how: Drawn, searched: Searched, shown: Shown) -> None:
    """Search for the input that breaks a derivative."""
    with messages(), undisturbed() as ending:
        files = output.ready(shown.files)
        result = _carried_out(target or [], what, how, searched, ending)
        output.report(result, shown, files, github=output.in_workflow())
    raise typer.Exit(exit_code(result, strict=False))


def _carried_out(targets: list[str], what: Named, how: Drawn, searched: Searched, ending: Callable[[], None]) -> RunResult:
    from gradcheck.fuzzing.search import attempted_search
    from gradcheck.options import Options, overridden
    from gradcheck.run.plan import plan, replay_command
    from gradcheck.run.quantities import seconds
    from gradcheck.run.runner import run as run_cases

    config, given, budget = configured(searched.config), options_given(how), seconds(searched.budget)
    request = requested(targets, what, searched.keyword, entries_behind(config, given))
    options = overridden(Options(), {**config.options, **given})
    where = ("--config", searched.config) if searched.config else ()

    def replay(case: Case, options: Options, example: Example) -> str:
        """The command that checks an example."""
        from gradcheck.backends.loading import constructed
        from gradcheck.fuzzing.reproducer import texts_of

        told = replace(what, inputs=list(texts_of(example)), wrt=list(example.wrt) if example.wrt else what.wrt)
        plain = replace(how, seed=None, dim=None, dtype=example.dtype if constructed(case) else how.dtype)
        return replay_command(options, [*typed(told), *typed(plain), *where])(case)

    def examine(case: Case, options: Options, *, alone: bool) -> CheckResult:
        return attempted_search(case, options, count=searched.examples, budget=budget, alone=alone, replay=replay)

    with redirect_stdout(sys.stderr):  # what the user's code prints is no data of ours
        cases = plan(request)
        if not cases:
            nothing(request)
        with progress(len(cases)) as started:
            return run_cases(
                cases,
                options,
                replay=lambda _: "",
                alone=len(cases) == 1 and not ("dims" in config.options and "dims" not in given),
                config={**recorded(request, options), "examples": searched.examples, "budget": budget},
                started=started,
                ending=ending,
                examine=examine,
            )
