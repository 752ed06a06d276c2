"""`gradcheck fuzz`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from gradcheck.cli import asked
from gradcheck.cli.app import Targets, app, messages, nothing
from gradcheck.cli.run import chosen, exit_code, progress, replayed_by, reported, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.options import Options
    from gradcheck.results import CheckResult, RunResult
    from gradcheck.run.fuzz.space import Example
    from gradcheck.run.plan import Request
    from gradcheck.targets.case import Case


@app.command()
def fuzz(
    target: Targets,
    inputs: asked.Inputs = None,
    init: asked.Init = None,
    dim: asked.Dim = None,
    gradient: asked.Gradient = None,
    jacobian: asked.Jacobian = None,
    vjp: asked.Vjp = None,
    jvp: asked.Jvp = None,
    wrt: asked.Wrt = None,
    framework: asked.Framework = None,
    examples: Annotated[int, typer.Option(min=1, help="Inputs to draw, at most.")] = 300,
    budget: Annotated[str, typer.Option(help="What the search through a case may take: 60s, 5min.")] = "60s",
    seed: asked.Seed = 0,
    rtol: asked.Rtol = None,
    dtype: asked.Dtype = None,
    keyword: asked.Keyword = None,
    verbose: asked.Verbose = 0,
    quiet: asked.Quiet = False,
    no_contracts: asked.NoContracts = False,
    no_contract: asked.NoContract = None,
    straight_through: asked.StraightThrough = False,
    json: asked.Json = None,
) -> None:
    """Search for the input that breaks a derivative."""
    with messages(), undisturbed() as ending:
        from gradcheck.options import Options
        from gradcheck.run.plan import Request, dims, seconds

        request = Request(
            targets=tuple(target),
            inputs=tuple(inputs or ()),
            init=tuple(init or ()),
            claims=asked.claims({"gradient": gradient, "jacobian": jacobian, "vjp": vjp, "jvp": jvp}),
            wrt=tuple(wrt or ()),
            framework=framework,
            keyword=keyword,
        )
        options = Options(
            seed=seed,
            rtol=rtol,
            dtype=dtype,
            contracts=not no_contracts,
            no_contract=tuple(no_contract or ()),
            straight_through=straight_through,
            dims=dims(dim or ()),
        )
        result = _carried_out(request, options, examples, seconds(budget), ending)
        reported(result, {"json": json}, -1 if quiet else verbose)
    raise typer.Exit(exit_code(result, strict=False))


def _carried_out(request: Request, options: Options, examples: int, budget: float, ending: Callable[[], None]) -> RunResult:
    from gradcheck.run.fuzz.search import attempted_search
    from gradcheck.run.plan import plan
    from gradcheck.run.runner import run as run_cases

    def replay(case: Case, options: Options, example: Example) -> str:
        """The command that checks an example."""
        from gradcheck.run.fuzz.pasted import texts_of
        from gradcheck.run.one import constructed

        told = replace(request, inputs=texts_of(example), wrt=example.wrt or request.wrt)
        plain = replace(options, dims={}, dtype=example.dtype if constructed(case) else options.dtype)
        return replayed_by(told, plain, [])(case)

    def examine(case: Case, options: Options, *, alone: bool) -> CheckResult:
        return attempted_search(case, options, count=examples, budget=budget, alone=alone, replay=replay)

    with redirect_stdout(sys.stderr):  # what the user's code prints is no data of ours
        cases = plan(request)
        if not cases:
            nothing(request)
        with progress(len(cases)) as started:
            return run_cases(
                cases,
                options,
                replay=lambda _: "",
                config={"targets": list(request.targets), "examples": examples, **chosen(request, options), "budget": budget},
                started=started,
                ending=ending,
                examine=examine,
            )
