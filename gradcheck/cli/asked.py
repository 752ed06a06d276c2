"""Options that several commands have in common: what the target is, how it is checked, and what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

Inputs = Annotated[list[str] | None, typer.Option("--input", help="A spec, 'normal(4, 3)' or x='normal(4, 3)'. Repeatable.")]
Init = Annotated[list[str] | None, typer.Option(help="name=value for the constructor of a class or factory. Repeatable.")]
Dim = Annotated[list[str] | None, typer.Option(help="Size of a named dimension: batch=3 or batch=1..4. Repeatable.")]
Gradient = Annotated[str | None, typer.Option(help="module:name of a hand-written gradient (scalar output).")]
Jacobian = Annotated[str | None, typer.Option(help="module:name of a hand-written Jacobian.")]
Vjp = Annotated[str | None, typer.Option(help="module:name of a hand-written vjp(cotangent, *inputs).")]
Jvp = Annotated[str | None, typer.Option(help="module:name of a hand-written jvp(tangents, *inputs).")]
Wrt = Annotated[list[str] | None, typer.Option(help="Argument or leaf path to differentiate with respect to. Repeatable.")]
Framework = Annotated[str | None, typer.Option(help="numpy or torch, where the code does not tell.")]
Seed = Annotated[int, typer.Option(help="Of all random numbers.")]
Rtol = Annotated[float | None, typer.Option(help="The relative error that matters. Default: as sharp as can be.")]
Dtype = Annotated[str | None, typer.Option(help="Of drawn inputs and constructed modules.")]
Keyword = Annotated[str | None, typer.Option("-k", help="Only cases whose name fits: words with and, or, not.")]
NoContracts = Annotated[bool, typer.Option("--no-contracts", help="Do not try what else a derivative must honour.")]
NoContract = Annotated[list[str] | None, typer.Option(help="A contract to leave out, by its name. Repeatable.")]
StraightThrough = Annotated[
    bool, typer.Option("--straight-through", help="Let claims pass where the function is constant, as rounding is.")
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, help="-v: also partial derivatives, contracts, self-test; -vv: every step too."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show the summary alone.")]
Json = Annotated[str | None, typer.Option("--json", help="Write the run as JSON to this path; '-' for stdout.")]


def claims(written: Mapping[str, str | None]) -> tuple[tuple[str, str], ...]:
    """The hand-written derivatives that were named."""
    return tuple((kind, text) for kind, text in written.items() if text)
