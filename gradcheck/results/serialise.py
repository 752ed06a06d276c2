"""Conversion of results to JSON types and back; the version of the JSON schema."""

from __future__ import annotations

import functools
import math
from typing import Any

from cattrs.preconf.json import make_converter

SCHEMA_VERSION = 1


def to_json_data(value: Any) -> Any:
    """Return a result as dicts, lists, strings and numbers; non-finite floats become the strings 'nan', 'inf' and '-inf'."""
    return json_converter().unstructure(value)


@functools.cache
def json_converter() -> Any:
    """Return the `cattrs` converter between result classes and JSON types, made once: it compiles its code for each class."""
    converter = make_converter(unstruct_collection_overrides={tuple: list})
    converter.register_unstructure_hook(float, lambda x: x if math.isfinite(x) else str(x))
    converter.register_structure_hook(float, lambda x, _: float(x))
    return converter
