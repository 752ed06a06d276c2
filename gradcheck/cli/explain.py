"""`gradcheck explain`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gradcheck.cli.app import app, messages, put

if TYPE_CHECKING:
    from gradcheck.glossary.diagnoses import Diagnosis
    from gradcheck.results import Reason


@app.command()
def explain(
    name: Annotated[
        str | None, typer.Argument(help="A reason, diagnosis or contract, such as kink-subgradient, factor or state.")
    ] = None,
) -> None:
    """Say what a reason, a diagnosis or a contract means and what to do about it."""
    with messages():
        import difflib

        from gradcheck.errors import UsageError
        from gradcheck.glossary.contracts import ASKED, CONTRACTS
        from gradcheck.glossary.diagnoses import Diagnosis
        from gradcheck.results import Reason

        known: dict[str, Reason | Diagnosis] = {found.code: found for found in (*Reason, *Diagnosis)}
        if name is None:
            for title, kinds in (("reasons", Reason), ("diagnoses", Diagnosis)):
                put(sys.stdout, f"{title}:\n" + "".join(f"  {k.code:<24}{k.message}\n" for k in kinds))
            put(sys.stdout, "contracts:\n" + "".join(f"  {contract:<24}{about}\n" for contract, about in CONTRACTS.items()))
            return
        if name not in {**known, **CONTRACTS}:
            near = difflib.get_close_matches(name, [*known, *CONTRACTS], 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join([*known, *CONTRACTS])}"
            raise UsageError(f"no reason, diagnosis or contract {name!r}; {hint}")
        if name in CONTRACTS:
            choice = f"To try it: --contract {name}" if name in ASKED else f"To leave it out: --no-contract {name}"
            put(sys.stdout, f"{name}: {CONTRACTS[name]}.\n{choice}\n")
            return
        found = known[name]
        put(sys.stdout, f"{found.code}: {found.message}.\n")
        if isinstance(found, Diagnosis):
            put(sys.stdout, f"What to do: {found.mend}.\nFor example:\n    {found.example}\n")
        elif found.advice:
            put(sys.stdout, f"{found.advice}\n")
