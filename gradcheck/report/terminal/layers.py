"""The layers of a model as a tree with their verdicts, in the terminal."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from gradcheck.report.phrases import split_layer_path
from gradcheck.report.terminal.layout import STYLES
from gradcheck.results import LayerResult, Verdict


def build_tree(layers: tuple[LayerResult, ...], *, show_all: bool) -> Tree:
    """Build the tree of the layers, the model first; a layer without a verdict of its own is dim.

    Args:
        show_all: whether to show what lies inside a layer in which everything passes.
    """
    branches: dict[str, Tree] = {}
    known = {layer.path for layer in layers}
    for layer in layers:
        parent, name = split_layer_path(layer.path, known)
        if layer.path and parent not in branches:
            continue
        inside = [inner for inner in layers if not layer.path or inner.path.startswith((f"{layer.path}.", f"{layer.path}["))]
        passed = layer.verdict is Verdict.PASS and all(inner.verdict in (None, Verdict.PASS) for inner in inside)
        label = _format_label(layer, name or layer.kind)
        if passed and inside and not show_all:
            label.append(f" with all {len(inside)} inside" if len(inside) > 1 else " with the one inside", "dim")
        branch = branches[parent].add(label) if layer.path else Tree(label, guide_style="dim")
        if show_all or not passed:
            branches[layer.path] = branch
    return branches[""]


def _format_label(layer: LayerResult, name: str) -> Text:
    text = Text(name, "" if layer.verdict else "dim")
    text.append(f"  {layer.kind}" if layer.path else "", "dim")
    text.append(f" ×{layer.calls}" if layer.calls > 1 else "", "dim")
    if layer.verdict is not None and layer.path:
        text.append("  ").append(layer.verdict.value, STYLES[layer.verdict])
        if layer.verdict is not Verdict.PASS and layer.reason is not None:
            text.append(f" {layer.reason.code}", "dim")
    is_remark = layer.verdict in (None, Verdict.PASS) and layer.path
    return text.append(f"  {layer.message}" if layer.message and is_remark else "", "dim")
