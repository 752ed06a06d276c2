"""What can be chosen on the command line, in groups, and what it stands for. What was not given is None."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.options import Options
    from gradcheck.run.config.read import Config
    from gradcheck.run.plan import Entry, Request

Texts = list[str] | None
Text = str | None
CONFIG = typer.Option("--config", help="A pyproject.toml or gradcheck.toml. Default: the nearest, from here upwards.")


@dataclass(frozen=True)
class Named:
    """What to check."""

    inputs: Annotated[Texts, typer.Option("--input", help="A spec, 'normal(4, 3)' or x='normal(4, 3)'. Repeatable.")] = None
    init: Annotated[Texts, typer.Option(help="name=value for the constructor of a class or factory. Repeatable.")] = None
    gradient: Annotated[Text, typer.Option(help="module:name of a hand-written gradient (scalar output).")] = None
    jacobian: Annotated[Text, typer.Option(help="module:name of a hand-written Jacobian.")] = None
    vjp: Annotated[Text, typer.Option(help="module:name of a hand-written vjp(cotangent, *inputs).")] = None
    jvp: Annotated[Text, typer.Option(help="module:name of a hand-written jvp(tangents, *inputs).")] = None
    reference: Annotated[Text, typer.Option(help="module:name of a second implementation, trusted.")] = None
    wrt: Annotated[Texts, typer.Option(help="Argument or leaf path to differentiate with respect to. Repeatable.")] = None
    framework: Annotated[Text, typer.Option(help="numpy, torch or jax, where the code does not tell.")] = None


@dataclass(frozen=True)
class What(Named):
    """What to check."""

    optimizer: Annotated[
        Text, typer.Option(help="module:name of a step(parameters, gradients, learning_rate), or torch.optim:Adam.")
    ] = None
    partner: Annotated[Texts, typer.Option(help="module:name of a function of the same inputs, for the laws. Repeatable.")] = (
        None
    )


@dataclass(frozen=True)
class Drawn:
    """How to check."""

    seed: Annotated[int | None, typer.Option(help="Of all random numbers. Default: 0.")] = None
    rtol: Annotated[float | None, typer.Option(help="The relative error that matters. Default: as sharp as can be.")] = None
    dtype: Annotated[Text, typer.Option(help="Of drawn inputs and constructed modules.")] = None
    device: Annotated[Text, typer.Option(help="Where a torch target runs: cpu, cuda, cuda:1, mps. Default: where it is.")] = (
        None
    )
    dim: Annotated[Texts, typer.Option(help="Size of a named dimension: batch=3 or batch=1..4. Repeatable.")] = None
    contracts: Annotated[
        bool | None, typer.Option("--contracts/--no-contracts", help="Try what else a derivative must honour. Default: yes.")
    ] = None
    contract: Annotated[Texts, typer.Option(help="A contract to try besides, by its name, such as compile. Repeatable.")] = None
    no_contract: Annotated[Texts, typer.Option(help="A contract to leave out, by its name. Repeatable.")] = None
    straight_through: Annotated[
        bool | None, typer.Option("--straight-through", help="Let claims pass where the function is constant, as rounding is.")
    ] = None


@dataclass(frozen=True)
class How(Drawn):
    """How to check."""

    order: Annotated[int | None, typer.Option(help="2: also check second derivatives, those of the vjp. Default: 1.")] = None
    trials: Annotated[int | None, typer.Option(help="How many times inputs are drawn. Default: 1.")] = None
    mode: Annotated[
        Text, typer.Option(help="auto, full (every partial derivative) or probe (random directions). Default: auto.")
    ] = None
    budget: Annotated[Text, typer.Option(help="What a trial may take before random directions do. Default: 30s.")] = None
    memory: Annotated[Text, typer.Option(help="What a trial may hold besides the target: 500MB. Default: 2GiB.")] = None
    by_layer: Annotated[
        bool | None, typer.Option("--by-layer/--no-by-layer", help="Also check every layer of a module by itself.")
    ] = None
    checks: Annotated[Text, typer.Option(help="Further checks, with commas: differential, descent, laws, sensitivity.")] = None


@dataclass(frozen=True)
class Carried:
    """How to run."""

    config: Annotated[Text, CONFIG] = None
    keyword: Annotated[Text, typer.Option("-k", help="Only cases whose name fits: words with and, or, not.")] = None
    jobs: Annotated[int | None, typer.Option("-j", "--jobs", min=1, help="Processes to spread the cases over. Default: 1.")] = (
        None
    )
    executor: Annotated[Text, typer.Option(help="Whose processes: loky (this machine's), dask or ray. Default: loky.")] = None
    address: Annotated[Text, typer.Option(help="Where the dask scheduler or ray cluster is: tcp://127.0.0.1:8786.")] = None
    timeout: Annotated[Text, typer.Option(help="What a case may take, imports included, before it is ended: 90s, 5min.")] = None
    shard: Annotated[Text, typer.Option(help="Only the i-th of n parts, as 2/5; `gradcheck merge` joins their JSON.")] = None
    fail_fast: Annotated[bool, typer.Option("--fail-fast", "-x", help="Stop at the first failure.")] = False


@dataclass(frozen=True)
class Gate:
    """What passes."""

    strict: Annotated[
        bool | None, typer.Option("--strict/--no-strict", help="Exit 4 where a verdict is INCONCLUSIVE. Default: no.")
    ] = None
    baseline: Annotated[Text, typer.Option(help="A file of known failures: these pass, and fail once they are gone.")] = None
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="List the failures of this run in it, and no others.")
    ] = False
    reason: Annotated[Text, typer.Option(help="Why they are waited for; new ones need it.")] = None


@dataclass(frozen=True)
class Shown:
    """What to show and write."""

    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, help="-v: also partial derivatives, contracts, self-test; -vv: every step too."
        ),
    ] = 0
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show the summary alone.")] = False
    json: Annotated[Text, typer.Option("--json", help="Write the run as JSON to this path; '-' for stdout.")] = None
    html: Annotated[Text, typer.Option("--html", help="Write the run as one self-contained page to this path.")] = None
    markdown: Annotated[Text, typer.Option("--markdown", help="Write a summary as Markdown, for a CI step.")] = None
    junit_xml: Annotated[Text, typer.Option("--junit-xml", help="Write the run as JUnit XML.")] = None
    sarif: Annotated[Text, typer.Option("--sarif", help="Write what is not ok as SARIF 2.1.0, for code scanning.")] = None
    github: Annotated[
        bool | None,
        typer.Option(
            "--github/--no-github",
            help="Annotate a GitHub workflow, on stderr. Default: a run's, where GITHUB_ACTIONS=true.",
        ),
    ] = None

    @property
    def verbosity(self) -> int:
        """What `report.terminal` calls it."""
        return -1 if self.quiet else self.verbose

    @property
    def files(self) -> dict[str, str]:
        """The path of each file format that is asked for.

        Raises:
            UsageError: where two are to go to stdout.
        """
        from gradcheck.errors import UsageError
        from gradcheck.report.formats import FORMATS

        asked = {name: getattr(self, name.replace("-", "_")) for name in FORMATS}
        mixed = [f"--{name} -" for name, path in asked.items() if path == "-"]
        if len(mixed) > 1:
            raise UsageError(f"{' and '.join(mixed)}: only one can go to stdout; give paths to the others")
        return {name: path for name, path in asked.items() if path is not None}


def configured(path: str | None) -> Config:
    """The configuration at a path, or the nearest upwards from the working directory."""
    from gradcheck.run.config import read

    place = Path(path).resolve() if path is not None else read.nearest(Path.cwd())
    return read.read(place) if place else read.Config()


def entries_behind(config: Config, given: Mapping[str, Any]) -> list[Entry]:
    """The targets that are configured, without the options that the command line gives for all."""
    return [replace(e, options=tuple((k, v) for k, v in e.options if k not in given)) for e in config.entries]


def requested(
    targets: Sequence[str], what: Named, keyword: str | None = None, entries: Sequence[Entry] = (), root: str = ""
) -> Request:
    """The request that was typed, beside the targets that are configured."""
    from gradcheck.run.plan import Request

    kinds = ("gradient", "jacobian", "vjp", "jvp")
    return Request(
        targets=tuple(targets),
        inputs=tuple(what.inputs or ()),
        init=tuple(what.init or ()),
        claims=tuple((kind, getattr(what, kind)) for kind in kinds if getattr(what, kind)),
        reference=what.reference,
        wrt=tuple(what.wrt or ()),
        framework=what.framework,
        optimizer=getattr(what, "optimizer", None),
        partners=tuple(getattr(what, "partner", None) or ()),
        keyword=keyword,
        entries=tuple(entries),
        root=root,
    )


def options_given(how: Drawn) -> dict[str, Any]:
    """Those of Options that were typed, by name.

    Raises:
        UsageError: where one is of the wrong form.
    """
    from gradcheck.run.quantities import bytes_of, dims, seconds

    reads: dict[str, Callable[[Any], Any]] = {
        "budget": seconds,
        "memory": bytes_of,
        "contract": tuple,
        "no_contract": tuple,
        "checks": lambda text: tuple(name.strip() for name in text.split(",")),
        "dim": dims,
    }
    given = {name: value for name, value in asdict(how).items() if value is not None}
    return {"dims" if name == "dim" else name: reads[name](value) if name in reads else value for name, value in given.items()}


def limits_of(carried: Carried, config: Config) -> dict[str, Any]:
    """How the run is carried out, as for `runner.run`.

    Raises:
        UsageError: where one of it is of the wrong form.
    """
    from gradcheck.errors import UsageError
    from gradcheck.run.quantities import seconds

    timeout = seconds(carried.timeout) if carried.timeout is not None else config.running.get("timeout")
    chosen = {name: getattr(carried, name) or config.running.get(name) for name in ("jobs", "executor", "address")}
    if carried.address and (chosen["executor"] or "loky") == "loky":
        raise UsageError(f"--address {carried.address} is a cluster's: it goes with --executor dask or ray")
    return {**chosen, "executor": chosen["executor"] or "loky", "timeout": timeout, "fail_fast": carried.fail_fast}


def recorded(request: Request, options: Options) -> dict[str, Any]:
    """What was chosen, for the record: all that decides what is found, whatever folder it is run in."""
    entries = [{k: v for k, v in asdict(entry).items() if k not in ("root", "place")} for entry in request.entries]
    asked = {name: value for name, value in asdict(request).items() if name != "root"}
    return {**asdict(options), **asked, "targets": request.texts, "entries": entries}
