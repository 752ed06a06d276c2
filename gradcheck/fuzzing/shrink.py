"""The last step of shrinking: a slice of each array, which Hypothesis cannot get at where what matters is drawn late."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.seeds import generator
from gradcheck.strategies.arrays import BY_SEED, literal
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import Spec, draw
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.fuzzing.space import Example

WHOLE = (*BY_SEED, "one_hot", "simplex")  # kinds whose arrays are not of the same kind any more when they are cut


def reduced(example: Example, inputs: Inputs, fails: Callable[[Example], bool]) -> Example:
    """The example with one slice in the place of several, as often as it fails all the same.

    Args:
        inputs: the specs that it was drawn from.
        fails: whether an example does.
    """
    while True:
        smaller = next((cut for cut in _cuts(example, inputs) if fails(cut)), None)
        if smaller is None:
            return example
        example = smaller


def _cuts(example: Example, inputs: Inputs) -> Iterator[Example]:
    fixed = {str(size) for spec in _specs(inputs) if spec.kind in WHOLE for size in spec.shape}
    joined = {size for spec in _specs(inputs) for size in spec.shape if isinstance(size, str) and not size.isidentifier()}
    for name, size in example.sizes.items():
        if size > 1 and name not in fixed and not any(name in other for other in joined):
            for index in range(size):
                yield _cut(example, inputs, name, index)


def _cut(example: Example, inputs: Inputs, name: str, index: int) -> Example:
    """The example with a single slice along every axis of a named size."""

    def tree(spec: Any, value: Any) -> Any:
        specs, values = flatten(spec), flatten(value)
        return values.rebuild([_slice(s, v, name, index) for s, v in zip(specs.leaves, values.leaves, strict=True)])

    args = tuple(tree(spec, value) for spec, value in zip(inputs.args, example.inputs.args, strict=True))
    kwargs = {key: tree(spec, example.inputs.kwargs[key]) for key, spec in inputs.kwargs.items()}
    sizes: Mapping[str, int] = {**example.sizes, name: 1}
    return replace(example, inputs=Inputs(args, kwargs, inputs.labels), sizes=sizes)


def _slice(spec: Any, value: Any, name: str, index: int) -> Any:
    if not isinstance(spec, Spec) or name not in spec.shape:
        return value
    whole = draw(value, generator(0), {}, "float64")
    for axis, size in enumerate(spec.shape):
        whole = np.take(whole, [index], axis) if size == name else whole
    return literal(whole)


def _specs(inputs: Inputs) -> list[Spec]:
    values = (*inputs.args, *inputs.kwargs.values())
    return [leaf for value in values for leaf in flatten(value).leaves if isinstance(leaf, Spec)]
