"""`gradcheck fuzz`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from gradcheck.cli import output
from gradcheck.cli.app import Command, Targets, app, exit_nothing_collected, exit_on_error
from gradcheck.cli.option_groups import command_words, spread_option_groups
from gradcheck.cli.options import (
    CONFIG_OPTION,
    KEYWORD_OPTION,
    CheckOptions,
    OutputOptions,
    TargetOptions,
    build_request,
    load_config,
    parse_check_options,
    record_settings,
)
from gradcheck.cli.run import exit_code_of, interrupt_guard, show_progress
from gradcheck.errors import UsageError
from gradcheck.options import Options
from gradcheck.untrusted_text import user_output_on_stderr

if TYPE_CHECKING:
    from gradcheck.fuzzing.space import Example
    from gradcheck.results import CheckResult, RunResult
    from gradcheck.targets.case import Case


@dataclass(frozen=True)
class SearchOptions:
    """How to search."""

    examples: Annotated[int, typer.Option(min=1, help="Maximum number of inputs to try.")] = 300
    budget: Annotated[str, typer.Option(help="Time to search each case: 60s, 5min.")] = "60s"
    keyword: Annotated[str | None, KEYWORD_OPTION] = None
    config: Annotated[str | None, CONFIG_OPTION] = None


@app.command(cls=Command)
@spread_option_groups
def fuzz(
    target: Targets = None,
    *,
    target_options: TargetOptions,
    check_options: CheckOptions,
    search_options: SearchOptions,
    output_options: OutputOptions,
) -> None:
    """Search for an input on which a derivative is wrong."""
    with exit_on_error(), interrupt_guard() as ignore_interrupts:
        paths = output.require_writable(output_options.report_paths)
        result = _run_searches(target or [], target_options, check_options, search_options, ignore_interrupts)
        output.write_reports(result, output_options, paths, github=output.in_github_workflow())
    raise typer.Exit(exit_code_of(result, strict=False))


def _run_searches(
    targets: list[str],
    target_options: TargetOptions,
    check_options: CheckOptions,
    search_options: SearchOptions,
    ignore_interrupts: Callable[[], None],
) -> RunResult:
    """Plan the cases and search each of them."""
    from gradcheck import sweeps
    from gradcheck.fuzzing.search import search_planned_case
    from gradcheck.options import Options, override_options
    from gradcheck.run.parse_quantities import parse_seconds
    from gradcheck.run.plan import build_replay_command, plan
    from gradcheck.run.runner import run as run_cases

    config, overrides = load_config(search_options.config), parse_check_options(check_options)
    if several := sweeps.list_axes(overrides):
        axis, values = next(iter(several.items()))
        raise UsageError(f"{axis}={list(values)}: a search takes one value; `gradcheck run` checks a grid of them")
    budget = parse_seconds(search_options.budget)
    config_words = ("--config", search_options.config) if search_options.config else ()
    typed_options = [*command_words(target_options), *command_words(check_options), *config_words]
    request = build_request(
        targets, target_options, search_options.keyword, config.override_entries(overrides), typed_options=typed_options
    )
    options = override_options(Options(), sweeps.choose_cell({**config.options, **overrides}, {}))

    def replay(case: Case, options: Options, example: Example) -> str:
        """Return the command that checks an example."""
        from gradcheck.backends.load_target import needs_construction
        from gradcheck.fuzzing.reproducer import command_line_inputs

        wrt = list(example.wrt) if example.wrt else target_options.wrt
        example_target = replace(target_options, inputs=list(command_line_inputs(example)), wrt=wrt)
        dtype = example.dtype if needs_construction(case) else check_options.dtype
        example_check = replace(check_options, seed=None, dim=None, dtype=dtype)
        words = [*command_words(example_target), *command_words(example_check), *config_words]
        return build_replay_command(options, words)(case)

    def search(case: Case, options: Options, *, alone: bool) -> CheckResult:
        return search_planned_case(case, options, count=search_options.examples, budget=budget, alone=alone, replay=replay)

    with user_output_on_stderr():
        cases = plan(request, whole_grid=False)
        if not cases:
            exit_nothing_collected(request)
        with show_progress(len(cases)) as progress:
            return run_cases(
                cases,
                options,
                replay=lambda _: "",
                alone=len(cases) == 1 and not ("dims" in config.options and "dims" not in overrides),
                config={**record_settings(request, options), "examples": search_options.examples, "budget": budget},
                **progress,
                on_end=ignore_interrupts,
                check_one=search,
            )
