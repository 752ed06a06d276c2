"""TODO: describe."""

from __future__ import annotations

import math
from typing import Any

from cattrs.preconf.json import make_converter

SCHEMA_VERSION = 1


def _to_plain(value: Any) -> Any:
    return _converter().unstructure(value)


def _converter() -> Any:

    converter = make_converter(unstruct_collection_overrides={tuple: list})
    converter.register_unstructure_hook(float, lambda x: x if math.isfinite(x) else str(x))
    converter.register_structure_hook(float, lambda x, _: float(x))
    return converter
