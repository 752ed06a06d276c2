"""Declared intents: exceptions that a user makes to the checks, each with a written reason."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from gradcheck.errors import UsageError
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.glossary.verdicts import Reason
from gradcheck.results import Intent

EXPECTATIONS = ("pass", "fail", "straight-through", "unbiased")
_TOLERABLE_REASONS = (
    Reason.DULL, Reason.QUANTISED, Reason.JUMP, Reason.SINGULAR, Reason.NON_FINITE, Reason.NOT_FINITE_NEARBY,
    Reason.NONDETERMINISTIC, Reason.DTYPE_DEPENDENT, Reason.OUT_OF_RANGE, Reason.METHODS_DISAGREE,
    Reason.DRAWN_BY_REJECTION, Reason.BLIND, Reason.BESIDE_KINK, Reason.NOTHING_CLAIMED, Reason.EMPTY, Reason.FEW_DRAWS,
    Reason.OVER_BUDGET,
)  # fmt: skip
TOLERABLE = tuple(reason.code for reason in _TOLERABLE_REASONS)  # codes of INCONCLUSIVE results that a user may tolerate
REPEATABILITY_CONTRACTS = ("deterministic", "deterministic-backward")  # a function declared random need not honour them

NamesWithReasons = str | Sequence[str] | Mapping[str, str]  # names that share one reason, or a reason for each name


def parse_intents(
    *,
    expect: str = "pass",
    because: str = "",
    detached: NamesWithReasons = (),
    tolerates: NamesWithReasons = (),
    nondeterministic: str = "",
) -> tuple[Intent, ...]:
    """Parse a user's declarations.

    Args:
        expect: 'pass', 'fail', 'straight-through' or 'unbiased'.
        because: the reason for `expect`, and for names without a reason of their own.
        detached: leaves or arguments whose gradient must be exactly zero, or None.
        tolerates: contracts that may be broken, and reasons for which a result may be INCONCLUSIVE.
        nondeterministic: why the function returns another value on every call.

    Raises:
        UsageError: if a name is unknown or has no reason.
    """
    if expect not in EXPECTATIONS:
        raise UsageError(f"expect={expect!r}: expected one of {', '.join(map(repr, EXPECTATIONS))}")
    if not isinstance(nondeterministic, str):
        raise UsageError(f"nondeterministic={nondeterministic!r}: expected the reason, as in 'atomics add in another order'")
    intents = [] if expect == "pass" else [Intent(expect, "", because)]
    intents += [Intent("detached", name, reason) for name, reason in _pair_with_reasons("detached", detached, because)]
    tolerated = _pair_with_reasons("tolerates", tolerates, because)
    for name, _ in tolerated:
        _validate_tolerable(name)
    intents += [Intent("tolerates", name, reason) for name, reason in tolerated]
    if nondeterministic:
        intents += [Intent("nondeterministic", "", nondeterministic)]
        intents += [Intent("tolerates", name, nondeterministic) for name in REPEATABILITY_CONTRACTS]
    for intent in intents:
        if not intent.because.strip():
            declaration = f"expect={expect!r}" if intent.kind == expect else f"{intent.kind}={intent.subject!r}"
            raise UsageError(f"{declaration} needs because='...': say why; the report shows it")
    return tuple(intents)


def _pair_with_reasons(argument: str, names: NamesWithReasons, because: str) -> list[tuple[str, str]]:
    """Pair each name with its own reason, or with the common one."""
    if isinstance(names, Mapping):
        pairs = list(names.items())
    else:
        pairs = [(name, because) for name in ([names] if isinstance(names, str) else names)]
    for pair in pairs:
        if not all(isinstance(text, str) for text in pair):
            raise UsageError(f"{argument}={names!r}: expected names, or names with their reasons, as in {{'x': 'a label'}}")
    return pairs


def _validate_tolerable(name: str) -> None:
    known = [*CONTRACTS, *TOLERABLE]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"tolerates={name!r}: expected a contract, or a reason for an INCONCLUSIVE result; {hint}")
