"""TODO: describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from gradcheck.strategies.arrays import Draw, literals
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import Spec
from gradcheck.trees import tree_map

DTYPES = ("float64", "float32")


@st.composite
def literal_inputs(draw: Draw, inputs: Inputs, dims: Mapping[str, tuple[int, int]], dtype: str) -> Inputs:
    """Inputs with literal specs in the place of specs; what is no spec stays as it is."""

    def drawn(leaf: Any) -> Any:
        return draw(literals(leaf, dims, dtype)) if isinstance(leaf, Spec) else leaf

    args = tuple(tree_map(drawn, value) for value in inputs.args)
    return Inputs(args, {name: tree_map(drawn, value) for name, value in inputs.kwargs.items()}, inputs.labels)
