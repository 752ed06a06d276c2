"""Pytrees with a readable path for every leaf: a thin layer over optree.

`None` is an empty tree, as in torch and JAX. Dictionaries are walked in sorted key order. Dataclasses are trees of their
fields, and so are classes derived from dict, without being registered by anyone. What is registered with JAX is a tree as JAX
has it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import optree

KINDS = "a tuple, list, dictionary, named tuple or dataclass"  # in messages: where arrays are looked for
OWN = "gradcheck"  # optree's name for who registered a class: what we do is seen by nobody else
ATOM = "__tree_atom__"  # set on a dataclass that is one leaf
LOOKED_AT: set[type] = set()  # classes of leaves; those that are trees are no leaves any more


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
    try:
        return _flat(tree, root, OWN, none_is_leaf)
    except RecursionError:  # an object that leads back to itself is one leaf
        return _flat(tree, root, "", none_is_leaf)


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `function` to every leaf."""
    flat = flatten(tree)
    return flat.rebuild([function(leaf) for leaf in flat.leaves])


def _flat(tree: Any, root: str, namespace: str, none_is_leaf: bool) -> Flat:
    accessors, leaves, treedef = optree.tree_flatten_with_accessor(tree, none_is_leaf=none_is_leaf, namespace=namespace)
    if namespace and _registered(leaves):
        return _flat(tree, root, namespace, none_is_leaf)
    return Flat(tuple(a.codify(root) for a in accessors), tuple(leaves), treedef)


def _registered(leaves: Sequence[Any]) -> bool:
    """Register the classes among some leaves that are trees of their own; whether there was one."""
    new = {type(leaf) for leaf in leaves} - LOOKED_AT
    of_jax = _registered_with_jax([leaf for leaf in leaves if type(leaf) in new])
    new -= of_jax
    found = [cls for cls in new if is_dataclass(cls) and not hasattr(cls, ATOM)]
    mappings = [cls for cls in new if issubclass(cls, dict) and not is_dataclass(cls)]
    LOOKED_AT.update(new.difference(found, mappings))
    for classes, taken_apart, entry in ((found, _fields, optree.GetAttrEntry), (mappings, _items, optree.MappingEntry)):
        for cls in classes:
            optree.register_pytree_node(cls, taken_apart, _like, namespace=OWN, path_entry_type=entry)  # type: ignore[arg-type]
    return bool(found or mappings or of_jax)


def _registered_with_jax(leaves: Sequence[Any]) -> set[type]:
    """Register the classes that JAX knows for trees, as it knows them: their static fields are no leaves."""
    jax = sys.modules.get("jax")
    found = {type(x) for x in leaves if jax and x is not None and not jax.tree_util.all_leaves([x])}
    for cls in found:
        optree.register_pytree_node(cls, _by_jax, _made_by_jax, namespace=OWN, path_entry_type=_KeyOfJax)  # type: ignore[arg-type]
    return found


class _KeyOfJax(optree.PyTreeEntry):
    """A key as JAX prints it: `.weight`, `['a']`, `[0]`."""

    def codify(self, /, node: str = "") -> str:
        return f"{node}{self.entry}"


def _by_jax(tree: Any) -> tuple[list[Any], Any, tuple[str, ...]]:
    util = sys.modules["jax"].tree_util
    children, treedef = util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)
    keys = [util.keystr(path).replace("<flat index ", "").replace(">]", "]") for path, _ in children]
    return [child for _, child in children], treedef, tuple(keys)


def _made_by_jax(treedef: Any, children: Sequence[Any]) -> Any:
    return sys.modules["jax"].tree_util.tree_unflatten(treedef, children)


def _fields(tree: Any) -> tuple[list[Any], Any, tuple[str, ...]]:
    names = tuple(field.name for field in fields(tree) if hasattr(tree, field.name))
    return [getattr(tree, name) for name in names], (tree, _set_field, names), names


def _items(tree: Any) -> tuple[list[Any], Any, tuple[Any, ...]]:
    return list(tree.values()), (tree, _set_item, tuple(tree)), tuple(tree)


def _like(made_of: Any, children: Sequence[Any]) -> Any:
    """A copy of a tree with other children. Nothing that its class does when one is made, such as a check, is done again."""
    tree, put, names = made_of
    made = copy.copy(tree)
    for name, child in zip(names, children, strict=True):
        put(made, name, child)
    return made


def _set_field(tree: Any, name: str, value: Any) -> None:
    object.__setattr__(tree, name, value)  # a frozen one, too
    if isinstance(tree, dict) and name in tree:  # transformers' ModelOutput is both
        dict.__setitem__(tree, name, value)


def _set_item(tree: Any, name: Any, value: Any) -> None:
    dict.__setitem__(tree, name, value)
