"""The last step of shrinking: keep a single slice of an array. Hypothesis cannot remove slices that it drew before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.seeds import make_generator
from gradcheck.strategies.arrays import SEEDED_KINDS, literal_spec
from gradcheck.targets.draw import collect_specs
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import Spec, draw_array
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.fuzzing.space import Example

UNCUTTABLE_KINDS = (*SEEDED_KINDS, "one_hot", "simplex")  # a slice of such an array is in general not of its kind


def shrink_to_slices(example: Example, inputs: Inputs, fails: Callable[[Example], bool]) -> Example:
    """Shrink named sizes to 1 as long as an example of some inputs, with the specs that it was drawn from, still fails."""
    while True:
        smaller = next((candidate for candidate in _single_slices(example, inputs) if fails(candidate)), None)
        if smaller is None:
            return example
        example = smaller


def _single_slices(example: Example, inputs: Inputs) -> Iterator[Example]:
    """Yield the example with a single slice in place of each named size, one size and one slice at a time."""
    specs = collect_specs(inputs.values)
    fixed = {str(size) for spec in specs if spec.kind in UNCUTTABLE_KINDS for size in spec.shape}
    expressions = {size for spec in specs for size in spec.shape if isinstance(size, str) and not size.isidentifier()}
    for name, size in example.sizes.items():
        if size > 1 and name not in fixed and not any(name in expression for expression in expressions):
            for index in range(size):
                yield _cut_axis(example, inputs, name, index)


def _cut_axis(example: Example, inputs: Inputs, name: str, index: int) -> Example:
    """Return the example with a single slice along every axis of a named size."""

    def slice_tree(spec: Any, value: Any) -> Any:
        specs, values = flatten(spec), flatten(value)
        return values.rebuild([_slice_leaf(*leaf, name, index) for leaf in zip(specs.leaves, values.leaves, strict=True)])

    args = tuple(slice_tree(spec, value) for spec, value in zip(inputs.args, example.inputs.args, strict=True))
    kwargs = {key: slice_tree(spec, example.inputs.kwargs[key]) for key, spec in inputs.kwargs.items()}
    sizes: Mapping[str, int] = {**example.sizes, name: 1}
    return replace(example, inputs=Inputs(args, kwargs, inputs.labels), sizes=sizes)


def _slice_leaf(spec: Any, value: Any, name: str, index: int) -> Any:
    """Return a literal spec with a single slice along the axes that the spec gives a name to; other leaves stay as they are."""
    if not isinstance(spec, Spec) or name not in spec.shape:
        return value
    array = draw_array(value, make_generator(0), {}, "float64")
    for axis, size in enumerate(spec.shape):
        array = np.take(array, [index], axis) if size == name else array
    return literal_spec(array)
