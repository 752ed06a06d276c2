"""Operations whose gradient in PyTorch is, on purpose, not the derivative: some embeddings, and draws of random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from gradcheck.backends.flat import Leaf
from gradcheck.backends.torch.graph import walk_graph, walk_nodes

PADDING = (
    "an embedding has padding_idx={}: on purpose, PyTorch leaves the gradient of that row at zero, although the output depends"
    " on it; check without padding_idx, or declare expect='fail'"
)
SCALED = (
    "an embedding has scale_grad_by_freq=True: on purpose, PyTorch divides the gradient of each row by the number of times that"
    " it occurs; check without it, or declare expect='fail'"
)
DRAWN = (
    "the function draws with torch.normal: on purpose, PyTorch's gradient through such a draw is zero, although the drawn"
    " numbers move with its mean and std; write mean + std * torch.randn_like(mean), or declare expect='fail'"
)
# The nodes of torch.normal with a tensor as mean, as std, and as both.
NORMAL_NODES = ("NormalBackward1", "NormalBackward2", "NormalBackward3")
# The nodes of draws by rejection: Gamma and what is made of it (Chi2, StudentT), Dirichlet and Beta.
REJECTION_NODES = ("StandardGammaBackward0", "_DirichletBackward")


def describe_changed_gradients(outputs: Sequence[Any]) -> Iterator[str]:
    """Yield a note for each way in which an operation in the graph of some outputs changes its gradient."""
    if any(node.name() in NORMAL_NODES for node in walk_graph(outputs)):
        yield DRAWN
    for node in walk_graph(outputs):
        if node.name() == "EmbeddingBackward0" and bool((node._saved_indices == node._saved_padding_idx).any()):
            yield PADDING.format(node._saved_padding_idx)
        if node.name() in ("EmbeddingBackward0", "EmbeddingBagBackward0") and node._saved_scale_grad_by_freq:
            indices = node._saved_indices
            if indices.numel() > indices.unique().numel():
                yield SCALED


def mark_rejection_draws(leaves: Sequence[Leaf], tensors: Sequence[Any], outputs: Sequence[Any]) -> tuple[Leaf, ...]:
    """Mark the leaves on which some outputs depend through a draw by rejection.

    Args:
        tensors: those of the leaves, with which the outputs were computed.
        outputs: with their graph.
    """
    draws = [node for node in walk_graph(outputs) if node.name() in REJECTION_NODES]
    behind = {id(getattr(node, "variable", None)) for node in walk_nodes(draws)}
    return tuple(replace(leaf, drawn_by_rejection=id(x) in behind) for leaf, x in zip(leaves, tensors, strict=True))
