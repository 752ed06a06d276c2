"""Inputs of a call in which each spec is replaced by a literal spec that Hypothesis drew."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from gradcheck.strategies.arrays import Draw, literal_specs
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import Spec

DRAWN_DTYPES = ("float64", "float32")  # drawn if neither a spec nor the target names a dtype; the first is the simplest


@st.composite
def literal_inputs(draw: Draw, inputs: Inputs, dims: Mapping[str, tuple[int, int]], dtype: str) -> Inputs:
    """Draw a literal spec for each spec; other values stay as they are.

    Args:
        dims: ranges of named sizes, both ends included.
        dtype: the dtype of specs that name none.
    """
    return inputs.map_leaves(lambda leaf: draw(literal_specs(leaf, dims, dtype)) if isinstance(leaf, Spec) else leaf)
