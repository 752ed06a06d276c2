"""The keys of a configuration, and what each must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradcheck.run.quantities import bytes_of, dims, seconds


@dataclass(frozen=True)
class Kind:
    """What a key must hold: in words, and how it is told and read."""

    expected: str
    fits: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _reasons(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _sizes(value: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return dims([f"{name}={size}" for name, size in value.items()])


def _amount(read: Callable[[str], float]) -> Callable[[Any], float]:
    return lambda value: read(str(value))


def _is_amount(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _tuple(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


TEXT = Kind("a text in quotes", lambda v: isinstance(v, str))
TEXTS = Kind('a list of texts, as in ["w", "b"]', lambda v: isinstance(v, str) or _texts(v), _tuple)
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
LEAVES = Kind('names, at least one, as in ["w", "b"]', lambda v: bool(v) and TEXTS.fits(v), _tuple)
INTEGER = Kind("an integer", lambda v: type(v) is int)
COUNT = Kind("an integer of at least 1", lambda v: type(v) is int and v > 0)
NUMBER = Kind("a number", lambda v: type(v) in (int, float))
SECONDS = Kind('a duration, as in "30s" or "5min"', _is_amount, _amount(seconds))
BYTES = Kind('an amount of memory, as in "500MB"', _is_amount, _amount(bytes_of))
SIZES = Kind('sizes by name, as in { batch = 3, n = "1..4" }', lambda v: isinstance(v, dict), _sizes)
TABLE = Kind('values by name, as in { in_features = 5, mode = "mean" }', lambda v: isinstance(v, dict))
INPUTS = Kind('a list of specs, or specs by name, as in { x = "normal(4, 3)" }', lambda v: isinstance(v, list | dict))
NAMED = Kind(
    'names, or names with their reasons, as in { x = "labels are data" }',
    lambda v: isinstance(v, str) or _texts(v) or _reasons(v),
)
TABLES = Kind(
    "tables, each under [[tool.gradcheck.target]]", lambda v: isinstance(v, list) and all(isinstance(t, dict) for t in v)
)

OF_CASE = {
    "trials": INTEGER, "rtol": NUMBER, "mode": TEXT, "dtype": TEXT, "device": TEXT, "order": INTEGER, "budget": SECONDS,
    "memory": BYTES, "contracts": FLAG, "contract": TEXTS, "no_contract": TEXTS, "by_layer": FLAG, "checks": TEXTS,
    "dims": SIZES,
}  # fmt: skip
OF_OPTIONS = {"seed": INTEGER, **OF_CASE}
OF_RUN = {"jobs": COUNT, "timeout": SECONDS, "executor": TEXT, "address": TEXT, "strict": FLAG, "baseline": TEXT}
INTENT = {"expect": TEXT, "because": TEXT, "detached": NAMED, "tolerates": NAMED, "nondeterministic": TEXT}
CLAIMS = ("gradient", "jacobian", "vjp", "jvp")
OF_TARGET = {
    "target": TEXT, "name": TEXT, "inputs": INPUTS, "init": TABLE, **dict.fromkeys(CLAIMS, TEXT),
    "reference": TEXT, "wrt": LEAVES, "framework": TEXT, "optimizer": TEXT, "partners": LEAVES, **INTENT, **OF_CASE,
}  # fmt: skip
