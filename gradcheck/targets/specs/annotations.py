"""Input specs from annotations in jaxtyping's form, such as `Float[Tensor, "batch 3"]`, without importing jaxtyping."""

from __future__ import annotations

import typing
from typing import Any

from gradcheck.targets.specs.sizes import is_size
from gradcheck.targets.specs.spec import (
    DTYPES,
    Size,
    Spec,
    boolean,
    integers,
    normal,
)


def spec_from(annotation: Any, parameter: str = "") -> Spec | None:
    """Read one annotation; None where it does not say what array is meant.

    `...` stands for no dimension, `*name` for one, `_` for one of a size of its own; `#` and `?` are passed over.
    """
    for choice in typing.get_args(annotation):  # of an optional annotation, the one that says what array is meant
        found = spec_from(choice, parameter)
        if found is not None:
            return found
    dims, dtypes = getattr(annotation, "dim_str", None), getattr(annotation, "dtypes", None)
    if not isinstance(dims, str):
        return None
    names = [d for d in dtypes if isinstance(d, str)] if isinstance(dtypes, tuple | list) else []
    shape = [size for i, token in enumerate(dims.split()) for size in _sizes(token, f"{parameter}{i}")]
    if any(isinstance(s, str) and not is_size(s) for s in shape):
        return None
    return _of_dtype(names, shape)


def _sizes(token: str, place: str) -> list[Size]:
    if token == "...":
        return []
    token = token.lstrip("#?*")
    if token.startswith("_"):
        return [f"_{place}"]
    size = token.rpartition("=")[2]
    return [int(size) if size.isdigit() else size]


def _of_dtype(names: list[str], shape: list[Size]) -> Spec | None:
    kinds = {_kind(name) for name in names}
    only = names[0] if len(names) == 1 and names[0] in DTYPES else None
    if not names or "float" in kinds:
        return normal(*shape, dtype=only)
    if kinds == {"complex"}:
        return normal(*shape, dtype=only or "complex128")
    if kinds == {"int"}:
        return integers(*shape, low=0, high=2, dtype=only)
    return boolean(*shape) if kinds == {"bool"} else None


def _kind(name: str) -> str:
    for kind in ("complex", "bool", "int"):
        if kind in name:
            return kind
    return "float" if "float" in name else "other"
