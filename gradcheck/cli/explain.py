"""`gradcheck explain`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gradcheck.cli.app import app, exit_on_error, write_and_flush

if TYPE_CHECKING:
    from gradcheck.glossary.diagnoses import Diagnosis
    from gradcheck.results import Reason


@app.command()
def explain(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A reason, diagnosis or contract, such as kink-subgradient, factor or state; or 'verdicts' for the rules by"
            " which a verdict is reached. Default: list all."
        ),
    ] = None,
) -> None:
    """Explain what a reason, a diagnosis or a contract means and what to do about it."""
    with exit_on_error():
        import difflib

        from gradcheck.errors import UsageError
        from gradcheck.glossary.contracts import CONTRACTS, ON_REQUEST
        from gradcheck.glossary.diagnoses import Diagnosis
        from gradcheck.results import Reason
        from gradcheck.verdict.facts import Fact
        from gradcheck.verdict.rules import describe_rules

        if name == "verdicts":
            write_and_flush(sys.stdout, describe_rules())
            return
        facts = {fact.name: fact.value for fact in Fact}
        if name in facts:
            write_and_flush(
                sys.stdout, f"{name}: {facts[name]}.\n`gradcheck explain verdicts` says which verdict it leads to.\n"
            )
            return
        known: dict[str, Reason | Diagnosis] = {entry.code: entry for entry in (*Reason, *Diagnosis)}
        if name is None:
            for title, kinds in (("reasons", Reason), ("diagnoses", Diagnosis)):
                write_and_flush(sys.stdout, f"{title}:\n" + "".join(f"  {entry.code:<24}{entry.message}\n" for entry in kinds))
            write_and_flush(
                sys.stdout, "contracts:\n" + "".join(f"  {contract:<24}{about}\n" for contract, about in CONTRACTS.items())
            )
            return
        if name not in {**known, **CONTRACTS}:
            matches = difflib.get_close_matches(name, [*known, *CONTRACTS, *facts, "verdicts"], 1)
            hint = f"did you mean {matches[0]}?" if matches else "`gradcheck explain` lists all"
            raise UsageError(f"no reason, diagnosis or contract {name!r}; {hint}")
        if name in CONTRACTS:
            choice = f"To try it: --contract {name}" if name in ON_REQUEST else f"To leave it out: --no-contract {name}"
            write_and_flush(sys.stdout, f"{name}: {CONTRACTS[name]}.\n{choice}\n")
            return
        entry = known[name]
        write_and_flush(sys.stdout, f"{entry.code}: {entry.message}.\n")
        if isinstance(entry, Diagnosis):
            write_and_flush(sys.stdout, f"What to do: {entry.fix}.\nFor example:\n    {entry.example}\n")
        elif entry.advice:
            write_and_flush(sys.stdout, f"{entry.advice}\n")
