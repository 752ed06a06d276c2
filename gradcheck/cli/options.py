"""The options of the command line, in groups, and what they turn into. An option that was not given is None."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from gradcheck.options import Options
    from gradcheck.run.config.read import Config
    from gradcheck.run.plan import Entry, Request

OptionalTexts = list[str] | None
OptionalText = str | None
CONFIG_OPTION = typer.Option(
    "--config", help="A pyproject.toml or gradcheck.toml. Default: the nearest one, from here upwards."
)
KEYWORD_OPTION = typer.Option("-k", help="Only cases whose name matches: words with and, or, not.")


# The first line of each docstring below is the title of the group in the help.


@dataclass(frozen=True)
class TargetOptions:
    """What to check."""

    inputs: Annotated[
        OptionalTexts, typer.Option("--input", help="An input spec: 'normal(4, 3)' or x='normal(4, 3)'. Repeatable.")
    ] = None
    init: Annotated[
        OptionalTexts, typer.Option(help="A constructor argument of a class or factory, as name=value. Repeatable.")
    ] = None
    gradient: Annotated[
        OptionalText,
        typer.Option(help="A hand-written gradient of a scalar output, as module:name; 'returned': the target returns it."),
    ] = None
    jacobian: Annotated[OptionalText, typer.Option(help="A hand-written Jacobian, as module:name.")] = None
    vjp: Annotated[OptionalText, typer.Option(help="A hand-written vjp(cotangent, *inputs), as module:name.")] = None
    jvp: Annotated[OptionalText, typer.Option(help="A hand-written jvp(tangents, *inputs), as module:name.")] = None
    backward: Annotated[OptionalText, typer.Option(help="The backward(dout, cache) of a forward, as module:name.")] = None
    backward_takes: Annotated[
        OptionalText, typer.Option(help="What the backward takes, if its names do not show it: cache,dout.")
    ] = None
    params: Annotated[
        OptionalTexts,
        typer.Option(help="Where the target reads parameters: an attribute of its object, or module:name. Repeatable."),
    ] = None
    reference: Annotated[OptionalText, typer.Option(help="A second implementation to trust, as module:name.")] = None
    wrt: Annotated[OptionalTexts, typer.Option(help="Argument or leaf path to differentiate with respect to. Repeatable.")] = (
        None
    )
    framework: Annotated[OptionalText, typer.Option(help="numpy, torch or jax. Default: inferred from the code.")] = None


@dataclass(frozen=True)
class RunTargetOptions(TargetOptions):
    """What to check."""

    optimizer: Annotated[
        OptionalText,
        typer.Option(
            help="A step(parameters, gradients, learning_rate), as module:name, or torch.optim:Adam. For --checks descent."
        ),
    ] = None
    partner: Annotated[
        OptionalTexts,
        typer.Option(help="A function of the same inputs, as module:name. For --checks laws. Repeatable."),
    ] = None


@dataclass(frozen=True)
class CheckOptions:
    """How to check."""

    seed: Annotated[OptionalText, typer.Option(help="Seed of all random numbers. Default: 0.")] = None
    rtol: Annotated[
        float | None, typer.Option(help="The relative error that matters. Default: 1e-7 in float64, 1e-4 in float32.")
    ] = None
    dtype: Annotated[OptionalText, typer.Option(help="Dtype of drawn inputs and constructed modules.")] = None
    device: Annotated[
        OptionalText,
        typer.Option(help="Device of a torch target: cpu, cuda, cuda:1, mps. Default: where it is."),
    ] = None
    dim: Annotated[OptionalTexts, typer.Option(help="Size of a named dimension: batch=3 or batch=1..4. Repeatable.")] = None
    contracts: Annotated[
        bool | None,
        typer.Option("--contracts/--no-contracts", help="Check the contracts of a derivative, too. Default: yes."),
    ] = None
    contract: Annotated[
        OptionalTexts, typer.Option(help="A contract to check that is off by default, such as compile. Repeatable.")
    ] = None
    no_contract: Annotated[OptionalTexts, typer.Option(help="A contract to leave out, by its name. Repeatable.")] = None
    exact: Annotated[
        bool | None,
        typer.Option("--exact/--no-exact", help="Decide derivatives exactly, too. Default: where rounding hides them."),
    ] = None
    straight_through: Annotated[
        bool | None,
        typer.Option("--straight-through", help="Accept any gradient where the function is constant, as rounding is."),
    ] = None


@dataclass(frozen=True)
class RunCheckOptions(CheckOptions):
    """How to check."""

    seed: Annotated[
        OptionalText,
        typer.Option(help="Seed of all random numbers. Default: 0. Several make a grid of cases: 0,1,2."),
    ] = None
    dtype: Annotated[
        OptionalText,
        typer.Option(help="Dtype of drawn inputs and constructed modules. Several make a grid of cases: float32,bfloat16."),
    ] = None
    dim: Annotated[
        OptionalTexts,
        typer.Option(help="Size of a named dimension: batch=3, batch=1..4, or batch=1,8,64 for a grid of cases. Repeatable."),
    ] = None
    order: Annotated[
        int | None,
        typer.Option(help="2: also check second derivatives, by differentiating the vjp; 3: third ones too. Default: 1."),
    ] = None
    trials: Annotated[int | None, typer.Option(help="How many times to draw inputs. Default: 1.")] = None
    mode: Annotated[
        OptionalText,
        typer.Option(help="full (no partial derivative stays unknown), probe (random directions) or auto. Default: auto."),
    ] = None
    methods: Annotated[
        OptionalText, typer.Option(help="Methods to compare, comma-separated: analytic,numeric. Default: all that there are.")
    ] = None
    budget: Annotated[
        OptionalText, typer.Option(help="Time per trial, above which random directions are used. Default: 30s.")
    ] = None
    memory: Annotated[OptionalText, typer.Option(help="Memory per trial, besides the target's own: 500MB. Default: 2GiB.")] = (
        None
    )
    world: Annotated[
        int | None, typer.Option(help="Run a torch target on this many processes of torch.distributed (gloo, CPU).")
    ] = None
    ranks: Annotated[
        OptionalText,
        typer.Option(help="What the ranks' code differentiates: sum of their outputs, replicated or mean. Default: sum."),
    ] = None
    replicated: Annotated[
        OptionalTexts, typer.Option(help="An input or parameter that all ranks share, or params. Repeatable.")
    ] = None
    by_layer: Annotated[
        bool | None,
        typer.Option("--by-layer/--no-by-layer", help="Also check each layer of a model, or rule of a JAX function."),
    ] = None
    checks: Annotated[
        OptionalText, typer.Option(help="Further checks, comma-separated: differential, descent, laws, sensitivity.")
    ] = None


@dataclass(frozen=True)
class StepOptions:
    """What to try."""

    law: Annotated[OptionalTexts, typer.Option(help="A law to try, such as micro-batches. Repeatable. Default: all.")] = None
    seed: Annotated[
        OptionalText,
        typer.Option(help="Seed of all random numbers. Default: 0. Several make a grid of cases: 0,1,2."),
    ] = None


@dataclass(frozen=True)
class ExecutionOptions:
    """How to run."""

    config: Annotated[OptionalText, CONFIG_OPTION] = None
    keyword: Annotated[OptionalText, KEYWORD_OPTION] = None
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Number of processes to run cases in. Default: 1.")
    ] = None
    executor: Annotated[
        OptionalText, typer.Option(help="Where to run cases: loky (this machine), dask or ray. Default: loky.")
    ] = None
    address: Annotated[
        OptionalText, typer.Option(help="Address of the dask scheduler or ray cluster: tcp://127.0.0.1:8786.")
    ] = None
    timeout: Annotated[OptionalText, typer.Option(help="Time limit of a case, imports included: 90s, 5min. Default: none.")] = (
        None
    )
    shard: Annotated[
        OptionalText, typer.Option(help="Run only part i of n, as 2/5; `gradcheck merge` joins the JSON files.")
    ] = None
    fail_fast: Annotated[bool, typer.Option("--fail-fast", "-x", help="Stop at the first failure.")] = False


@dataclass(frozen=True)
class PassOptions:
    """What passes."""

    strict: Annotated[
        bool | None,
        typer.Option(
            "--strict/--no-strict",
            help="Exit with 4 if a verdict is INCONCLUSIVE, or a derivative of yours was not checked. Default: no.",
        ),
    ] = None
    report_only: Annotated[
        bool | None,
        typer.Option(
            "--report-only/--no-report-only",
            help="Report FAIL and INCONCLUSIVE, and exit with 0 all the same. Other exit codes stay. Default: no.",
        ),
    ] = None
    baseline: Annotated[
        OptionalText,
        typer.Option(help="A file of known failures. They pass; an entry that no longer fails is a failure."),
    ] = None
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Make the baseline list exactly the failures of this run.")
    ] = False
    reason: Annotated[OptionalText, typer.Option(help="Why new failures are listed in the baseline; required for them.")] = None


@dataclass(frozen=True)
class OutputOptions:
    """What to show and write."""

    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, help="-v: show partial derivatives, contracts, self-test; -vv: every step, too."
        ),
    ] = 0
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only the summary.")] = False
    json: Annotated[OptionalText, typer.Option("--json", help="Write the run as JSON to this path; '-' for stdout.")] = None
    html: Annotated[OptionalText, typer.Option("--html", help="Write the run as one self-contained HTML page.")] = None
    markdown: Annotated[OptionalText, typer.Option("--markdown", help="Write a Markdown summary, for a CI step.")] = None
    csv: Annotated[OptionalText, typer.Option("--csv", help="Write a table as CSV: a row for each case and leaf.")] = None
    junit_xml: Annotated[OptionalText, typer.Option("--junit-xml", help="Write the run as JUnit XML.")] = None
    sarif: Annotated[
        OptionalText, typer.Option("--sarif", help="Write cases that do not pass as SARIF 2.1.0, for code scanning.")
    ] = None
    github: Annotated[
        bool | None,
        typer.Option(
            "--github/--no-github", help="Annotate a GitHub workflow, on stderr. Default for a run: if GITHUB_ACTIONS=true."
        ),
    ] = None

    @property
    def verbosity(self) -> int:
        """How much the table shows: -1 for the summary only, 0, or the number of `-v`."""
        return -1 if self.quiet else self.verbose

    @property
    def report_paths(self) -> dict[str, str]:
        """The path of each requested report, by the name of its format.

        Raises:
            UsageError: if two reports would go to stdout.
        """
        from gradcheck.report.formats import FORMATS

        paths = {name: getattr(self, name.replace("-", "_")) for name in FORMATS}
        to_stdout = [f"--{name} -" for name, path in paths.items() if path == "-"]
        if len(to_stdout) > 1:
            raise UsageError(f"{' and '.join(to_stdout)}: only one report can go to stdout; give paths to the others")
        return {name: path for name, path in paths.items() if path is not None}


def load_config(path: str | None) -> Config:
    """Read the configuration at a path; without one, the nearest from the working directory upwards."""
    from gradcheck.run.config import find, read

    location = Path(path).resolve() if path is not None else find.find_nearest(Path.cwd())
    return read.read_config(location) if location else read.Config()


def build_request(
    targets: Sequence[str],
    target_options: TargetOptions,
    keyword: str | None = None,
    entries: Sequence[Entry] = (),
    root: str = "",
    typed_options: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Request:
    """Build the request from the command line and the entries of the configuration.

    Args:
        options: the options of the run; those with several values make a grid of every case.
    """
    from gradcheck import sweeps
    from gradcheck.run.plan import Request
    from gradcheck.targets.case import CLAIM_KINDS

    return Request(
        targets=tuple(targets),
        inputs=tuple(target_options.inputs or ()),
        init=tuple(target_options.init or ()),
        claims=tuple((kind, getattr(target_options, kind)) for kind in CLAIM_KINDS if getattr(target_options, kind)),
        backward_takes=target_options.backward_takes or "",
        params=tuple(target_options.params or ()),
        reference=target_options.reference,
        wrt=tuple(target_options.wrt or ()),
        framework=target_options.framework,
        optimizer=getattr(target_options, "optimizer", None),
        partners=tuple(getattr(target_options, "partner", None) or ()),
        keyword=keyword,
        entries=tuple(entries),
        root=root,
        typed_options=tuple(typed_options),
        sweep=sweeps.freeze(sweeps.select_swept(options or {})),
    )


def parse_check_options(check_options: CheckOptions) -> dict[str, Any]:
    """Return the fields of `gradcheck.Options` that the command line sets, by name.

    Raises:
        UsageError: if a value cannot be parsed.
    """
    from gradcheck import sweeps
    from gradcheck.run.parse_quantities import parse_bytes, parse_seconds, parse_seeds, parse_sizes

    parsers: dict[str, Callable[[Any], Any]] = {
        "budget": parse_seconds,
        "memory": parse_bytes,
        "contract": tuple,
        "no_contract": tuple,
        "replicated": tuple,
        "checks": _split_at_commas,
        "methods": _split_at_commas,
        "dim": parse_sizes,
        "seed": parse_seeds,
        "dtype": lambda text: list(_split_at_commas(text)) if "," in text else text,
    }
    specified = {name: value for name, value in asdict(check_options).items() if value is not None}
    parsed = {name: parsers[name](value) if name in parsers else value for name, value in specified.items()}
    return sweeps.read_options({"dims" if name == "dim" else name: value for name, value in parsed.items()})


def _split_at_commas(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def resolve_execution(execution: ExecutionOptions, config: Config) -> dict[str, Any]:
    """Return how to carry out the run, as keyword arguments of `runner.run`.

    Raises:
        UsageError: if a value cannot be parsed, or an address is given without a cluster.
    """
    from gradcheck.run.parse_quantities import parse_seconds

    timeout = parse_seconds(execution.timeout) if execution.timeout is not None else config.execution.get("timeout")
    settings = {name: getattr(execution, name) or config.execution.get(name) for name in ("jobs", "executor", "address")}
    if execution.address and (settings["executor"] or "loky") == "loky":
        raise UsageError(f"--address {execution.address} is the address of a cluster: add --executor dask or --executor ray")
    return {**settings, "executor": settings["executor"] or "loky", "timeout": timeout, "fail_fast": execution.fail_fast}


def record_settings(request: Request, options: Options) -> dict[str, Any]:
    """Return what the results depend on, for the JSON report: everything but the folder that the run started in.

    The keys are part of the JSON report. There, the request of an entry is called `asked`.
    """
    settings = {name: value for name, value in asdict(request).items() if name not in ("root", "typed_options", "sweep")}
    for entry in settings["entries"]:
        del entry["request"]["typed_options"], entry["request"]["sweep"]
    entries = [
        {"asked" if name == "request" else name: value for name, value in entry.items() if name not in ("root", "place")}
        for entry in settings["entries"]
    ]
    swept = {name: dict(value) if name == "dims" else value for name, value in request.sweep}
    return {**asdict(options), **swept, **settings, "targets": request.distinct_targets, "entries": entries}
