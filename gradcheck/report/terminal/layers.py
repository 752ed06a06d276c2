"""A model's layers as a tree with their verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from gradcheck.results import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.results import LayerResult


def tree(layers: tuple[LayerResult, ...], styles: Mapping[Verdict, str], *, all_: bool) -> Tree:
    """The layers as they lie in each other; a layer without a verdict of its own is dim.

    Args:
        all_: also what lies inside a layer in which everything passes.
    """
    grown: dict[str, Tree] = {}
    for layer in layers:
        above, _, name = layer.path.rpartition(".")
        if layer.path and above not in grown:
            continue
        inside = [other for other in layers if not layer.path or other.path.startswith(f"{layer.path}.")]
        passed = layer.verdict is Verdict.PASS and all(other.verdict in (None, Verdict.PASS) for other in inside)
        label = _label(layer, name or layer.kind, styles)
        if passed and inside and not all_:
            label.append(f" with all {len(inside)} inside" if len(inside) > 1 else " with the one inside", "dim")
        made = grown[above].add(label) if layer.path else Tree(label, guide_style="dim")
        if all_ or not passed:
            grown[layer.path] = made
    return grown[""]


def _label(layer: LayerResult, name: str, styles: Mapping[Verdict, str]) -> Text:
    text = Text(name, "" if layer.verdict else "dim")
    text.append(f"  {layer.kind}" if layer.path else "", "dim")
    text.append(f" ×{layer.calls}" if layer.calls > 1 else "", "dim")
    if layer.verdict is not None and layer.path:
        text.append("  ").append(layer.verdict.value, styles[layer.verdict])
        if layer.verdict is not Verdict.PASS and layer.reason is not None:
            text.append(f" {layer.reason.code}", "dim")
    return text.append(f"  {layer.message}" if layer.verdict is None and layer.path else "", "dim")
