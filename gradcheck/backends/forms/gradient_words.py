"""Names of gradients and inputs, and what messages say of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# What people put before and after the name of an input for its gradient: dW, d_W, dLdW, grad_W, W_grad and the like.
PREFIXES = (
    "dL_d", "dJ_d", "dE_d", "dLd", "dJd", "dEd", "d_", "d", "grad_", "grad", "gradient_", "g_", "g", "delta_", "del_", "nabla_",
    "∂",
)  # fmt: skip
SUFFIXES = ("_grad", ".grad", "grad", "_grads", "_gradient", "_g", "_bar")
LOSS_PREFIX = re.compile(r"d[A-Za-z]+_d_?(\w+)$")  # dLoss_dW
QUOTES = ("['", '["')  # before a key in a path; a key that has quotes of one kind is written in the other
# The last name in a path: W1 in params['W1'], W in layers[0].W.
LAST_NAME = re.compile(r"""(?:\['([^']+)'\]|\["([^"]+)"\]|(?:^|\.)([^\W\d]\w*))$""")
CLOSE = 0.75  # two names that are at least so similar, in the sense of `difflib`, may be misspellings of each other

NamedValues = Sequence[tuple[str, Any]]  # path and value of each of some inputs or gradients


def strip_marks(name: str) -> tuple[str, ...]:
    """Return what a gradient's name may mean: the name itself, and what is left without `d`, `grad_`, `_grad` and the like."""
    stripped = [name]
    stripped += [name[len(prefix) :] for prefix in PREFIXES if name.startswith(prefix)]
    stripped += [match[1] for match in (LOSS_PREFIX.match(name),) if match]
    stripped += [name[: -len(suffix)] for suffix in SUFFIXES if name.endswith(suffix)]
    return tuple(dict.fromkeys(text for text in stripped if text))


def last_name_of(path: str) -> str:
    """Return the last key or attribute in a path if it is a name; '' for a place in a sequence."""
    match = LAST_NAME.search(path)
    return next(filter(None, match.groups())) if match else ""


def holder_of(path: str) -> str:
    """Return the container of a leaf: `params` for `params['W']`; '' for an argument that is an array of its own."""
    match = LAST_NAME.search(path)
    return path[: match.start()] if match else path.rpartition("[")[0]


def describe_match(matched: Mapping[str, str | None], without: NamedValues, unmatched: Sequence[str]) -> tuple[str, ...]:
    """Say which gradient belongs to which input unless that is plain, and which inputs and gradients were left out."""
    pairs = [(last_name_of(source), path) for path, source in matched.items() if source is not None]
    renamed = [f"{name} → {path}" for name, path in pairs if name and name not in (path, last_name_of(path))]
    notes = [f"gradients: {', '.join(renamed)}"] if renamed else []
    if unmatched:
        notes.append(f"not compared, as they name no input: {', '.join(map(name_source, unmatched))}")
    if without:
        notes.append(f"no gradient is returned for {', '.join(path for path, _ in without)}, so none is checked")
    return tuple(notes)


def describe_unlooked(
    matched: Mapping[str, str | None], without: NamedValues, unmatched: Sequence[str], gradients: NamedValues
) -> str:
    """Name gradients that match no input although one of their shape has none; '' if there are none.

    If a container of parameters has all its gradients, others are those of intermediate values.
    """
    if any(holder_of(path) for path in matched) and all(not holder_of(path) for path, _ in without):
        return ""
    shapes = {np.shape(value) for _, value in without}
    suspects = [source for source, value in gradients if source in unmatched and np.shape(value) in shapes]
    if not suspects:
        return ""
    names = ", ".join(map(name_source, suspects))
    return f"{names} may be the gradient of {', '.join(path for path, _ in without)}; name it after its input"


def name_source(source: str) -> str:
    """Name a gradient for a reader: `dW1` for `['dW1']`, `gradient 2` for `[1]`."""
    name = last_name_of(source)
    if name or not source:
        return name or "gradient"
    numbers = re.findall(r"\d+", source)
    return f"gradient {int(numbers[0]) + 1}" if len(numbers) == 1 else f"gradient {source}"


def list_inputs(inputs: NamedValues) -> str:
    """List inputs with their shapes, for a message."""
    return ", ".join(f"{path} {np.shape(value)}" for path, value in inputs) or "an input, but there is none"


def describe_count(
    gradients: NamedValues, inputs: NamedValues, label: str, missing: NamedValues = (), *, ambiguous: bool = False
) -> str:
    """Say how many gradients were returned and for which inputs they were expected.

    Args:
        gradients: what was returned, with its paths.
        inputs: that need a gradient.
        label: the derivative, as messages call it.
        missing: inputs without a gradient, if that is known.
        ambiguous: whether several choices of inputs fit.
    """
    shapes = ", ".join("None" if value is None else str(tuple(np.shape(value))) for _, value in gradients)
    count = f"{len(gradients)} gradient{'s' * (len(gradients) != 1)} of shape {shapes}"
    head = f"{label} returned {count}: expected one for each of {list_inputs(inputs)}, in this order"
    if missing:
        return f"{head}; missing: {', '.join(path for path, _ in missing)}"
    if len(gradients) == len(inputs):
        return head
    advice = "; several inputs fit" if ambiguous else ""
    return f"{head}{advice}; name the inputs that have a gradient in wrt=, or return a mapping by their names"


def describe_unknown_keys(named: Mapping[str, Any], inputs: NamedValues, label: str) -> str:
    """Say which keys were returned and which inputs there are, with a near name or advice."""
    names = [last_name_of(path) for path, _ in inputs]
    keys = [name_source(source) for source in named]
    near = [(key, match) for key in keys for match in difflib.get_close_matches(strip_marks(key)[-1], names, 1, CLOSE)]
    near = [(key, match) for key, match in near if match not in strip_marks(key)]
    advice = "; rename the keys, return a tuple in the order of the inputs, or name the container of parameters in params="
    hint = f"; did you mean {near[0][1]!r} by {near[0][0]!r}?" if near else advice
    return f"{label} returned the keys {', '.join(keys)}, which name no input (inputs: {list_inputs(inputs)}){hint}"
