"""What is meant to be so although a check would object, each with a written reason."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from gradcheck.errors import UsageError
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.glossary.verdicts import Reason
from gradcheck.results import Intent

EXPECTED = ("pass", "fail", "straight-through")
TOLERABLE = tuple(
    reason.code
    for reason in (
        Reason.DULL,
        Reason.QUANTISED,
        Reason.JUMP,
        Reason.SINGULAR,
        Reason.NON_FINITE,
        Reason.NOT_FINITE_NEARBY,
        Reason.NONDETERMINISTIC,
        Reason.DTYPE_DEPENDENT,
        Reason.OUT_OF_RANGE,
        Reason.METHODS_DISAGREE,
        Reason.BLIND,
        Reason.BESIDE_KINK,
        Reason.NOTHING_CLAIMED,
        Reason.EMPTY,
        Reason.OVER_BUDGET,
    )
)
ASKED_ANEW = ("deterministic", "deterministic-backward")  # contracts that a function which is declared random need not honour

Named = str | Sequence[str] | Mapping[str, str]  # names that share one reason, or each with its own


def declared(
    *,
    expect: str = "pass",
    because: str = "",
    detached: Named = (),
    tolerates: Named = (),
    nondeterministic: str = "",
) -> tuple[Intent, ...]:
    """Read what a user declares.

    Args:
        expect: 'fail' or 'straight-through'.
        because: the reason of `expect`, and of names that have none of their own.
        detached: leaves or arguments whose gradient must be exactly zero, or None.
        tolerates: contracts that may be broken, and reasons for which a result may be INCONCLUSIVE.
        nondeterministic: why the function returns another value on every call.

    Raises:
        UsageError: for an unknown name, or one without a reason.
    """
    if expect not in EXPECTED:
        raise UsageError(f"expect={expect!r}: expected one of {', '.join(map(repr, EXPECTED))}")
    if not isinstance(nondeterministic, str):
        raise UsageError(f"nondeterministic={nondeterministic!r}: expected the reason, as in 'atomics add in another order'")
    found = [] if expect == "pass" else [Intent(expect, "", because)]
    found += [Intent("detached", name, why) for name, why in _reasons("detached", detached, because)]
    tolerated = _reasons("tolerates", tolerates, because)
    for name, _ in tolerated:
        _known(name)
    found += [Intent("tolerates", name, why) for name, why in tolerated]
    if nondeterministic:
        found += [Intent("nondeterministic", "", nondeterministic)]
        found += [Intent("tolerates", name, nondeterministic) for name in ASKED_ANEW]
    for one in found:
        if not one.because.strip():
            what = f"expect={expect!r}" if one.kind == expect else f"{one.kind}={one.subject!r}"
            raise UsageError(f"{what} needs because='...': say why, for those who read the report")
    return tuple(found)


def _reasons(name: str, given: Named, because: str) -> list[tuple[str, str]]:
    if isinstance(given, Mapping):
        found = list(given.items())
    else:
        found = [(each, because) for each in ([given] if isinstance(given, str) else given)]
    for each in found:
        if not all(isinstance(text, str) for text in each):
            raise UsageError(f"{name}={given!r}: expected names, or names with their reasons, as in {{'x': 'a label'}}")
    return found


def _known(name: str) -> None:
    known = [*CONTRACTS, *TOLERABLE]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"tolerates={name!r}: expected a contract, or a reason to be INCONCLUSIVE; {hint}")
