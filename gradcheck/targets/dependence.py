"""Declared dependencies: which inputs, and which positions along an axis, an output may depend on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradcheck.errors import UsageError

EVERY = "*"
FORMS = (
    "expected a rule such as 'causal along 1', 'independent along 0' or ('masked along 1', mask), or a list of inputs such as"
    " ['x', 'params']; a rule may end in ' of x' (about this input only) and in ', fully' (all else must be used)"
)
AXES = r"-?\d+(?: and -?\d+)*"
RULE = re.compile(
    rf"(?P<strictly>strictly )?(?P<kind>causal|independent|masked) along (?P<axes>{AXES})"
    r"(?: of (?P<inputs>.+?))?(?: by (?P<mask>.+?))?(?P<fully>, fully)?"
)
INPUT = re.compile(rf"(?P<name>.+?)(?: along (?P<axes>{AXES}))?")

Axes = tuple[int, ...]
Mask = Any  # a boolean array, or (output position, input position) -> bool; a text names the input that holds the array
Rule = str | tuple[str, Mask]  # 'causal along 1', or ('masked along 1', mask)
DependsArgument = Rule | Sequence[str] | Mapping[str, Rule | Sequence[str]]


@dataclass(frozen=True)
class Dependence:
    """What one output may depend on.

    Attributes:
        output: path or last name of the output; '*' for every output.
        text: the declaration, for messages.
        kind: 'causal' (positions up to the output's own), 'independent' (its own position), 'masked' or 'only' (these inputs).
        axes: the axes whose positions are meant, in the output and in the inputs.
        inputs: names of inputs, each with its axes, if they differ. Without any: the inputs of the same sizes there.
        strictly: whether the output's own position is excluded.
        fully: whether the output must also depend on everything that it may depend on.
        mask: for 'masked'.
    """

    output: str
    text: str
    kind: str
    axes: Axes = ()
    inputs: tuple[tuple[str, Axes], ...] = ()
    strictly: bool = False
    fully: bool = False
    mask: Mask = None


def parse_depends(depends: DependsArgument) -> tuple[Dependence, ...]:
    """Parse what a user declares: one rule for every output, or rules by output. Several rules are joined by semicolons.

    Raises:
        UsageError: if a rule has none of the forms.
    """
    by_output = depends if isinstance(depends, Mapping) else {EVERY: depends} if depends or isinstance(depends, str) else {}
    return tuple(dependence for output, rule in by_output.items() for dependence in _parse_rules(output, rule))


def show_declaration(output: str, rule: Any) -> str:
    """Return a declaration as the user wrote it, for messages."""
    return f"depends={rule!r}" if output == EVERY else f"depends={{{output!r}: {rule!r}}}"


def _parse_rules(output: Any, rule: Any) -> list[Dependence]:
    if not isinstance(output, str):
        raise UsageError(f"depends={{{output!r}: ...}}: expected the path of an output, or '*'")
    if isinstance(rule, str):
        return [_parse_rule(output, text.strip(), None) for text in rule.split(";")]
    if isinstance(rule, tuple) and len(rule) == 2 and isinstance(rule[0], str) and rule[0].startswith("masked "):
        return [_parse_rule(output, *rule)]
    if isinstance(rule, list | tuple) and all(isinstance(name, str) for name in rule):
        return [Dependence(output, f"only {', '.join(rule) or 'constants'}", "only", inputs=tuple((name, ()) for name in rule))]
    raise UsageError(f"{show_declaration(output, rule)}: {FORMS}")


def _parse_rule(output: str, text: str, mask: Mask) -> Dependence:
    match = RULE.fullmatch(text)
    mask = match["mask"] if match and mask is None else mask
    if not match or (match["kind"] == "masked") != (mask is not None) or (match["strictly"] and match["kind"] != "causal"):
        raise UsageError(f"{show_declaration(output, text)}: {FORMS}")
    axes = _parse_axes(match["axes"])
    if match["kind"] == "causal" and len(axes) > 1:
        raise UsageError(f"{show_declaration(output, text)}: expected one axis, since causal positions have an order")
    names = [INPUT.fullmatch(name.strip()) for name in (match["inputs"] or "").split(",") if name.strip()]
    inputs = tuple((name["name"], _parse_axes(name["axes"])) for name in names if name)
    if any(own and len(own) != len(axes) for _, own in inputs):
        raise UsageError(f"{show_declaration(output, text)}: expected as many axes of each input as of the output")
    return Dependence(output, text, match["kind"], axes, inputs, bool(match["strictly"]), bool(match["fully"]), mask)


def _parse_axes(text: str | None) -> Axes:
    return tuple(map(int, text.split(" and "))) if text else ()
