"""A batch as a tree of tensors: split, permuted and masked along its first axis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gradcheck.errors import InputError
from gradcheck.trees import flatten, tree_map

IGNORED = -100  # the label that PyTorch's losses ignore
LABEL_NAMES = ("labels", "label", "targets", "target")


class NotApplicableError(Exception):
    """Raise if a law does not apply to a step; the message says why."""


@dataclass(frozen=True)
class Batch:
    """A batch and the number of its samples.

    Attributes:
        tree: tensors in tuples, lists and dictionaries.
        size: the number of samples; 0 if the batch cannot be split.
    """

    tree: Any
    size: int

    def take(self, samples: Sequence[int]) -> Any:
        """Return a batch of some samples, in this order; tensors without the batch axis stay.

        Raises:
            NotApplicableError: if the batch cannot be split.
        """
        if not self.size:
            kind = type(self.tree).__name__
            raise NotApplicableError(f"a batch of type {kind} cannot be split: expected tensors with a common first axis")
        index = torch.tensor(list(samples), dtype=torch.long)
        return tree_map(lambda x: x[index.to(x.device)] if self.has_samples(x) else x, self.tree)

    def has_samples(self, leaf: Any) -> bool:
        """Whether a leaf has one row per sample."""
        return isinstance(leaf, torch.Tensor) and leaf.dim() > 0 and leaf.shape[0] == self.size

    def require_samples(self, count: int) -> None:
        """Raise if the batch has too few samples.

        Raises:
            NotApplicableError: with what to pass instead.
        """
        self.take([])
        if self.size < count:
            raise NotApplicableError(f"the batch has {self.size} sample{'s' * (self.size != 1)}: pass at least {count}")

    def count_labels(self, samples: Sequence[int]) -> int:
        """Count the labels of some samples that are not ignored; 0 if no tensor looks like labels."""
        integers = [x for x in flatten(self.tree).leaves if self.has_samples(x) and x.dtype is torch.long]
        labels = next((x for x in integers if bool((x == IGNORED).any())), None)
        return 0 if labels is None else int((labels[list(samples)] != IGNORED).sum())

    def with_unequal_labels(self) -> Batch | None:
        """Return the batch with the later labels ignored in half of the samples; None if no labels of tokens are found."""
        items = self.tree.items() if isinstance(self.tree, dict) else ()
        for key, labels in items:
            if key in LABEL_NAMES and self.has_samples(labels) and labels.dtype is torch.long and labels.dim() > 1:
                masked = labels.clone()
                masked[self.size // 2 :, labels.shape[1] // 2 + 1 :] = IGNORED
                return Batch({**self.tree, key: masked}, self.size)
        return None


def read_batch(tree: Any) -> Batch:
    """Find the number of samples of a batch: the length that most of its tensors have along their first axis.

    Raises:
        InputError: if the batch is empty.
    """
    lengths: Counter[int] = Counter(x.shape[0] for x in flatten(tree).leaves if isinstance(x, torch.Tensor) and x.dim())
    size = lengths.most_common(1)[0][0] if lengths else 0
    if lengths and not size:
        raise InputError("batch: it has no samples, as the first axis of its tensors has the length 0")
    return Batch(tree, size)


def to_dtype(tree: Any, dtype: torch.dtype) -> Any:
    """Convert the floating tensors of a batch."""
    return tree_map(lambda x: x.to(dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x, tree)
