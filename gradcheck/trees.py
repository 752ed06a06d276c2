"""Pytrees with a readable path for every leaf: a thin layer over optree.

`None` is an empty tree, as in torch and JAX. Dictionaries are walked in sorted key order. Dataclasses are trees of their
fields and classes derived from dict are trees of their items, without registration. A class that is registered with JAX is
the tree that JAX makes of it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import optree

TREE_KINDS = "a tuple, list, dictionary, named tuple or dataclass"  # in messages: the containers in which arrays are found
NAMESPACE = "gradcheck"  # our registrations with optree; other users of optree do not see them
LEAF_MARKER = "__tree_atom__"  # attribute of a dataclass that is one leaf
LEAF_CLASSES: set[type] = set()  # classes that are known to be leaves, not trees
SINGLE_LEAF: Any = optree.tree_structure(0)  # type: ignore[arg-type]  # of a tree that is one leaf


@dataclass(frozen=True)
class FlatTree:
    """A flattened pytree: `paths[i]` leads to `leaves[i]`, and `treedef` rebuilds the tree."""

    paths: tuple[str, ...]
    leaves: tuple[Any, ...]
    treedef: Any

    def rebuild(self, leaves: Sequence[Any]) -> Any:
        """Return the tree with other leaves in the same places."""
        if self.treedef is SINGLE_LEAF:
            return leaves[0]
        return optree.tree_unflatten(self.treedef, leaves)


def flatten(tree: Any, root: str = "", *, none_is_leaf: bool = False) -> FlatTree:
    """Flatten a pytree; a leaf's path starts with `root`, as in `x['a'][0]`."""
    if tree is not None and type(tree) in LEAF_CLASSES:
        return FlatTree((root,), (tree,), SINGLE_LEAF)
    try:
        return _flatten(tree, root, NAMESPACE, none_is_leaf)
    except RecursionError:  # An object that contains itself is one leaf.
        return _flatten(tree, root, "", none_is_leaf)


def leaves_of(tree: Any) -> Sequence[Any]:
    """Return the leaves of a pytree without their paths; a tree that is known to be one leaf is not flattened."""
    return (tree,) if type(tree) in LEAF_CLASSES else flatten(tree).leaves


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `function` to every leaf."""
    flat = flatten(tree)
    return flat.rebuild([function(leaf) for leaf in flat.leaves])


def _flatten(tree: Any, root: str, namespace: str, none_is_leaf: bool) -> FlatTree:
    accessors, leaves, treedef = optree.tree_flatten_with_accessor(tree, none_is_leaf=none_is_leaf, namespace=namespace)
    if namespace and _register_tree_classes(leaves):
        return _flatten(tree, root, namespace, none_is_leaf)
    return FlatTree(tuple(a.codify(root) for a in accessors), tuple(leaves), treedef)


def _register_tree_classes(leaves: Sequence[Any]) -> bool:
    """Register the classes among some leaves that are in fact trees; return whether there was one."""
    new = {type(leaf) for leaf in leaves} - LEAF_CLASSES
    if not new:
        return False
    of_jax = _register_jax_classes([leaf for leaf in leaves if type(leaf) in new])
    new -= of_jax
    dataclasses = [cls for cls in new if is_dataclass(cls) and not hasattr(cls, LEAF_MARKER)]
    mappings = [cls for cls in new if issubclass(cls, dict) and not is_dataclass(cls)]
    LEAF_CLASSES.update(new.difference(dataclasses, mappings))
    kinds = (
        (dataclasses, _flatten_dataclass, optree.GetAttrEntry),
        (mappings, _flatten_mapping, optree.MappingEntry),
    )
    for classes, flatten_one, entry in kinds:
        for cls in classes:
            optree.register_pytree_node(
                cls,  # type: ignore[arg-type]
                flatten_one,
                _copy_with_children,  # type: ignore[arg-type]
                namespace=NAMESPACE,
                path_entry_type=entry,
            )
    return bool(dataclasses or mappings or of_jax)


def _register_jax_classes(leaves: Sequence[Any]) -> set[type]:
    """Register the classes that are trees for JAX, with the children that JAX gives them: static fields are no leaves."""
    jax = sys.modules.get("jax")
    classes = {type(x) for x in leaves if jax and x is not None and not jax.tree_util.all_leaves([x])}
    for cls in classes:
        optree.register_pytree_node(
            cls,
            _flatten_with_jax,
            _unflatten_with_jax,  # type: ignore[arg-type]
            namespace=NAMESPACE,
            path_entry_type=_JaxKey,
        )
    return classes


class _JaxKey(optree.PyTreeEntry):
    """A key as JAX prints it: `.weight`, `['a']`, `[0]`."""

    def codify(self, /, node: str = "") -> str:
        return f"{node}{self.entry}"


def _flatten_with_jax(tree: Any) -> tuple[list[Any], Any, tuple[str, ...]]:
    util = sys.modules["jax"].tree_util
    children, treedef = util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)
    keys = [util.keystr(path).replace("<flat index ", "").replace(">]", "]") for path, _ in children]
    return [child for _, child in children], treedef, tuple(keys)


def _unflatten_with_jax(treedef: Any, children: Sequence[Any]) -> Any:
    return sys.modules["jax"].tree_util.tree_unflatten(treedef, children)


def _flatten_dataclass(tree: Any) -> tuple[list[Any], Any, tuple[str, ...]]:
    names = tuple(field.name for field in fields(tree) if hasattr(tree, field.name))
    return [getattr(tree, name) for name in names], (tree, _set_field, names), names


def _flatten_mapping(tree: Any) -> tuple[list[Any], Any, tuple[Any, ...]]:
    return list(tree.values()), (tree, _set_item, tuple(tree)), tuple(tree)


def _copy_with_children(context: Any, children: Sequence[Any]) -> Any:
    """Copy a tree with other children. Its class's `__init__` and `__post_init__` do not run, which may check or compute."""
    tree, set_child, names = context
    copied = copy.copy(tree)
    for name, child in zip(names, children, strict=True):
        set_child(copied, name, child)
    return copied


def _set_field(tree: Any, name: str, value: Any) -> None:
    object.__setattr__(tree, name, value)  # also sets a field of a frozen dataclass
    if isinstance(tree, dict) and name in tree:  # transformers' ModelOutput is a dataclass and a dict
        dict.__setitem__(tree, name, value)


def _set_item(tree: Any, name: Any, value: Any) -> None:
    dict.__setitem__(tree, name, value)
