"""Embeddings whose gradient PyTorch changes on purpose: with `padding_idx`, and with `scale_grad_by_freq`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gradcheck.backends.torch.graph import walk_graph

PADDING = (
    "an embedding has padding_idx={}: on purpose, PyTorch leaves the gradient of that row at zero, although the output depends"
    " on it; check without padding_idx, or declare expect='fail'"
)
SCALED = (
    "an embedding has scale_grad_by_freq=True: on purpose, PyTorch divides the gradient of each row by the number of times that"
    " it occurs; check without it, or declare expect='fail'"
)


def describe_changed_gradients(outputs: Sequence[Any]) -> Iterator[str]:
    """Yield a note for each way in which an embedding in the graph of some outputs changes its gradient."""
    for node in walk_graph(outputs):
        if node.name() == "EmbeddingBackward0" and bool((node._saved_indices == node._saved_padding_idx).any()):
            yield PADDING.format(node._saved_padding_idx)
        if node.name() in ("EmbeddingBackward0", "EmbeddingBagBackward0") and node._saved_scale_grad_by_freq:
            indices = node._saved_indices
            if indices.numel() > indices.unique().numel():
                yield SCALED
