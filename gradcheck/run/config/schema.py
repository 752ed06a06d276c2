"""The keys of a configuration, and the type of each value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradcheck.run.parse_quantities import parse_bytes, parse_seconds, parse_sizes
from gradcheck.targets.case import CLAIM_KINDS
from gradcheck.targets.dependence import parse_depends


@dataclass(frozen=True)
class ValueType:
    """The type of a value.

    Attributes:
        expected: what is expected, for messages.
        fits: returns whether a value has the type.
        read: converts a value that fits; raises UsageError if it cannot be parsed.
    """

    expected: str
    fits: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_table_of_text(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _parse_size_table(value: dict[str, Any]) -> dict[str, tuple[int, int] | list[int]]:
    texts = {name: ",".join(map(str, size)) if isinstance(size, list) else size for name, size in value.items()}
    return parse_sizes([f"{name}={size}" for name, size in texts.items()])


def _parse_amount_with(parse: Callable[[str], float]) -> Callable[[Any], float]:
    return lambda value: parse(str(value))


def _is_amount(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _to_tuple(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


TEXT = ValueType("a text in quotes", lambda value: isinstance(value, str))
TEXTS = ValueType(
    'a list of texts, as in ["w", "b"]', lambda value: isinstance(value, str) or _is_list_of_text(value), _to_tuple
)
FLAG = ValueType("true or false", lambda value: isinstance(value, bool))
LEAVES = ValueType('names, at least one, as in ["w", "b"]', lambda value: bool(value) and TEXTS.fits(value), _to_tuple)
INTEGER = ValueType("an integer", lambda value: type(value) is int)
DTYPE = ValueType(
    'a dtype, or several for a grid of cases, as in ["float32", "bfloat16"]',
    lambda value: isinstance(value, str) or _is_list_of_text(value),
)
SEED = ValueType(
    "an integer, or several for a grid of cases, as in [0, 1, 2]",
    lambda value: all(type(item) is int for item in (value if isinstance(value, list) else [value])),
)
COUNT = ValueType("an integer of at least 1", lambda value: type(value) is int and value > 0)
NUMBER = ValueType("a number", lambda value: type(value) in (int, float))
SECONDS = ValueType('a duration, as in "30s" or "5min"', _is_amount, _parse_amount_with(parse_seconds))
BYTES = ValueType('an amount of memory, as in "500MB"', _is_amount, _parse_amount_with(parse_bytes))
SIZES = ValueType(
    'sizes by name, as in { batch = 3, n = "1..4", width = [1, 8, 64] }',
    lambda value: isinstance(value, dict),
    _parse_size_table,
)
TABLE = ValueType('values by name, as in { in_features = 5, mode = "mean" }', lambda value: isinstance(value, dict))
INPUTS = ValueType(
    'a list of specs, or specs by name, as in { x = "normal(4, 3)" }', lambda value: isinstance(value, list | dict)
)
NAMED = ValueType(
    'names, or names with their reasons, as in { x = "labels are data" }',
    lambda value: isinstance(value, str) or _is_list_of_text(value) or _is_table_of_text(value),
)
DEPENDS = ValueType(
    'a rule, or rules by output, as in { logits = "causal along 1", loss = ["x", "params"] }',
    lambda value: isinstance(value, str | list | dict),
    parse_depends,
)
TABLES = ValueType(
    "tables, each under [[tool.gradcheck.target]] or [[tool.gradcheck.step]]",
    lambda value: isinstance(value, list) and all(isinstance(table, dict) for table in value),
)

# Options of a check, for the whole run or for one target. `reports/guide/reference_pages.py` lists them for the guide.
CASE_KEYS = {
    "trials": INTEGER, "rtol": NUMBER, "mode": TEXT, "methods": TEXTS, "dtype": DTYPE, "device": TEXT, "order": INTEGER,
    "budget": SECONDS, "memory": BYTES, "contracts": FLAG, "contract": TEXTS, "no_contract": TEXTS, "by_layer": FLAG,
    "exact": FLAG, "checks": TEXTS, "dims": SIZES, "world": COUNT, "ranks": TEXT, "replicated": TEXTS,
}  # fmt: skip
OPTION_KEYS = {"seed": SEED, **CASE_KEYS}
RUN_KEYS = {
    "jobs": COUNT,
    "timeout": SECONDS,
    "executor": TEXT,
    "address": TEXT,
    "strict": FLAG,
    "report_only": FLAG,
    "baseline": TEXT,
}
INTENT_KEYS = {"expect": TEXT, "because": TEXT, "detached": NAMED, "tolerates": NAMED, "nondeterministic": TEXT}
TARGET_KEYS = {
    "target": TEXT, "name": TEXT, "inputs": INPUTS, "init": TABLE, **dict.fromkeys(CLAIM_KINDS, TEXT),
    "backward_takes": TEXT, "params": LEAVES,
    "reference": TEXT, "wrt": LEAVES, "framework": TEXT, "optimizer": TEXT, "partners": LEAVES, "depends": DEPENDS,
    **INTENT_KEYS, **CASE_KEYS,
}  # fmt: skip
STEP_KEYS = {"target": TEXT, "name": TEXT, "laws": LEAVES, "seed": SEED, "expect": TEXT, "because": TEXT}
