"""What inputs the function itself does not take, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.fuzzing.space import of_size
from gradcheck.targets.specs.spec import Spec
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.fuzzing.engine import Tried
    from gradcheck.fuzzing.space import Example

FEW = 3  # rejections that make a region
LARGE = 1e4


def regions(tried: Sequence[Tried]) -> tuple[str, ...]:
    """Features of inputs all of which were rejected, while others were not; what is left is counted together."""
    left = [t for t in tried if t.rejected]
    fine = {feature for t in tried if not t.rejected for feature in features(t.example)}
    told = list[str]()
    while left:
        counts = dict[str, int]()
        for t in left:
            for feature in set(features(t.example)) - fine:
                counts[feature] = counts.get(feature, 0) + 1
        most = max(counts, key=lambda f: counts[f], default="")
        if counts.get(most, 0) < FEW or not fine:
            break
        told.append(_sentence(f"every input {most}", [t for t in left if most in features(t.example)], len(tried)))
        left = [t for t in left if most not in features(t.example)]
    if left:
        told.append(_sentence("others" if told else "every input" if len(left) == len(tried) else "inputs", left, len(tried)))
    return tuple(told)


def _sentence(which: str, some: list[Tried], total: int) -> str:
    message = some[0].result.message.partition(", given ")[0].partition(" raised ")
    return f"{which} ({len(some)} of {total}): {message[2] or message[0]}"


def features(example: Example) -> list[str]:
    """What may make an example special, in words that go on from `every input`."""
    found = [f"with {of_size(name, size)}" for name, size in example.sizes.items()]
    found += [f"in {example.dtype}"]
    for path, spec in leaves_of(example):
        found += [f"with {path} {spec.layout} in memory"] if spec.layout != "contiguous" else []
        found += [f"with {trait} in {path}" for trait in _traits(dict(spec.params).get("value", ()))]
    return found


def leaves_of(example: Example) -> Iterator[tuple[str, Spec]]:
    """The literal specs of an example, with their paths."""
    inputs = example.inputs
    for root, value in (*zip(inputs.labels, inputs.args, strict=True), *inputs.kwargs.items()):
        flat = flatten(value, root)
        yield from ((path, leaf) for path, leaf in zip(flat.paths, flat.leaves, strict=True) if isinstance(leaf, Spec))


def _traits(value: Any) -> Iterator[str]:
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "if":
        return
    if np.any(numbers < 0):
        yield "a negative number"
    if np.any(numbers == 0):
        yield "a zero"
    if np.any(np.abs(numbers) > LARGE):
        yield f"a number beyond {LARGE:g}"
    if numbers.size > np.unique(numbers).size:
        yield "equal numbers"
