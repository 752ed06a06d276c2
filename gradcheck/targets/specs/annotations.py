"""Input specs from annotations in jaxtyping's form, such as `Float[Tensor, "batch 3"]`, without importing jaxtyping."""

from __future__ import annotations

import typing
from typing import Any

from gradcheck.targets.specs.sizes import is_size
from gradcheck.targets.specs.spec import DTYPES, Size, Spec, boolean, integers, normal


def parse_annotation(annotation: Any, parameter: str = "") -> Spec | None:
    """Parse one annotation; None if it does not describe an array.

    `...` stands for no dimension, `*name` for one, `_` for one with a size of its own; `#` and `?` are ignored.
    """
    for choice in typing.get_args(annotation):  # An optional annotation describes the array in one of its choices.
        spec = parse_annotation(choice, parameter)
        if spec is not None:
            return spec
    dims, dtypes = getattr(annotation, "dim_str", None), getattr(annotation, "dtypes", None)
    if not isinstance(dims, str):
        return None
    names = [d for d in dtypes if isinstance(d, str)] if isinstance(dtypes, tuple | list) else []
    shape = [size for i, token in enumerate(dims.split()) for size in _parse_dimension(token, f"{parameter}{i}")]
    if any(isinstance(size, str) and not is_size(size) for size in shape):
        return None
    return _make_spec(names, shape)


def _parse_dimension(token: str, label: str) -> list[Size]:
    """Parse one word of an annotation to its sizes; `label` names the size of an anonymous dimension."""
    if token == "...":
        return []
    token = token.lstrip("#?*")
    if token.startswith("_"):
        return [f"_{label}"]
    size = token.rpartition("=")[2]
    return [int(size) if size.isdigit() else size]


def _make_spec(names: list[str], shape: list[Size]) -> Spec | None:
    """Make the spec for the dtypes that an annotation allows; None if no spec draws these."""
    kinds = {_kind_of_dtype(name) for name in names}
    only = names[0] if len(names) == 1 and names[0] in DTYPES else None
    if not names or "float" in kinds:
        return normal(*shape, dtype=only)
    if kinds == {"complex"}:
        return normal(*shape, dtype=only or "complex128")
    if kinds == {"int"}:
        return integers(*shape, low=0, high=2, dtype=only)
    return boolean(*shape) if kinds == {"bool"} else None


def _kind_of_dtype(name: str) -> str:
    for kind in ("complex", "bool", "int"):
        if kind in name:
            return kind
    return "float" if "float" in name else "other"
