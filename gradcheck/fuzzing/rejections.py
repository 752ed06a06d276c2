"""Describe in words which inputs the function itself refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradcheck.backends.flat_call import flatten_call
from gradcheck.fuzzing.hypothesis_engine import CheckedExample
from gradcheck.fuzzing.space import Example, describe_size
from gradcheck.targets.specs.spec import Spec

MIN_REJECTIONS = 3  # A region needs at least this many rejected examples with a common feature.
LARGE_NUMBER = 1e4  # A number of larger magnitude is a feature of an example.


def describe_regions(examples: Sequence[CheckedExample]) -> tuple[str, ...]:
    """Describe features that only rejected examples have; rejected examples without such a feature are counted together."""
    remaining = [checked for checked in examples if checked.rejected]
    accepted_features = {feature for checked in examples if not checked.rejected for feature in list_features(checked.example)}
    sentences = list[str]()
    while remaining:
        counts = dict[str, int]()
        for checked in remaining:
            for feature in set(list_features(checked.example)) - accepted_features:
                counts[feature] = counts.get(feature, 0) + 1
        feature = max(counts, key=lambda f: counts[f], default="")
        if counts.get(feature, 0) < MIN_REJECTIONS or not accepted_features:
            break
        region = [checked for checked in remaining if feature in list_features(checked.example)]
        sentences.append(_sentence(f"every input {feature}", region, len(examples)))
        remaining = [checked for checked in remaining if feature not in list_features(checked.example)]
    if remaining:
        which = "others" if sentences else "every input" if len(remaining) == len(examples) else "inputs"
        sentences.append(_sentence(which, remaining, len(examples)))
    return tuple(sentences)


def _sentence(which: str, rejected: list[CheckedExample], total: int) -> str:
    target, _, error = rejected[0].result.message.partition(", given ")[0].partition(" raised ")
    return f"{which} ({len(rejected)} of {total}): {error or target}"


def list_features(example: Example) -> list[str]:
    """Return what may make an example special, in words that continue `every input`."""
    features = [f"with {describe_size(name, size)}" for name, size in example.sizes.items()]
    features += [f"in {example.dtype}"]
    for path, spec in literal_leaves(example):
        features += [f"with {path} {spec.layout} in memory"] if spec.layout != "contiguous" else []
        features += [f"with {trait} in {path}" for trait in _describe_values(dict(spec.params).get("value", ()))]
    return features


def literal_leaves(example: Example) -> Iterator[tuple[str, Spec]]:
    """Yield the literal specs of an example with their paths."""
    call = flatten_call(example.inputs)
    yield from ((path, leaf) for path, leaf in zip(call.paths, call.leaves, strict=True) if isinstance(leaf, Spec))


def _describe_values(value: Any) -> Iterator[str]:
    """Yield what may be special about the values of an array."""
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "if":
        return
    if np.any(numbers < 0):
        yield "a negative number"
    if np.any(numbers == 0):
        yield "a zero"
    if np.any(np.abs(numbers) > LARGE_NUMBER):
        yield f"a number beyond {LARGE_NUMBER:g}"
    if numbers.size > np.unique(numbers).size:
        yield "equal numbers"
