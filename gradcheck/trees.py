"""Pytrees with a readable path for every leaf: a thin layer over optree.

`None` is an empty tree, as in torch and JAX. Dictionaries are walked in sorted key order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Flat:
    """A pytree taken apart: `paths[i]` leads to `leaves[i]`, `treedef` puts them together again."""

    paths: tuple[str, ...]
    leaves: tuple[Any, ...]
    treedef: Any

    def rebuild(self, leaves: Sequence[Any]) -> Any:
        """Return the tree with other leaves in the same places."""
        return optree.tree_unflatten(self.treedef, leaves)


def flatten(tree: Any, root: str = "", *, none_is_leaf: bool = False) -> Flat:
    """Take a pytree apart; a leaf's path starts with `root`, as in `x['a'][0]`."""
    accessors, leaves, treedef = optree.tree_flatten_with_accessor(tree, none_is_leaf=none_is_leaf)
    return Flat(tuple(a.codify(root) for a in accessors), tuple(leaves), treedef)


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `function` to every leaf."""
    return optree.tree_map(function, tree)
