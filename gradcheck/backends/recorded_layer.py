"""The parts of a target that are checked alone, by layer, with the inputs that they receive in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_RECORDED_CALLS = 4  # The first calls of one layer are recorded, up to this many.
BACKWARD_NOT_CALLED = "not checked: its backward was never called"


@dataclass
class RecordedCall:
    """One call of a layer.

    Attributes:
        args: copies of the positional arguments; a tensor requires a gradient if it did so in the model.
        kwargs: copies of the keyword arguments.
        overwritten: whether the call wrote to its arguments.
        cotangents: what the model sends back to each leaf that was returned, by its place; filled in the backward pass.
        target: what was called, if that is not the layer's target: a JAX rule under `vmap`.
        wrt: paths of the leaves that the target differentiates with respect to; None: every leaf that requires a gradient.
        claims: the hand-written derivative of the target, by its kind.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    overwritten: bool = False
    cotangents: dict[int, Any] = field(default_factory=dict)
    target: Any = None
    wrt: tuple[str, ...] | None = None
    claims: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


@dataclass
class RecordedLayer:
    """A part of a model and its first calls.

    It is a submodule, an autograd.Function of the user that a submodule applies, a custom rule of JAX, an object with `forward`
    and `backward` methods, or a function with its backward.

    Attributes:
        path: from the model: 'blocks.3.norm', for a Function 'blocks.3.norm.RMSNorm', for a rule its name; '' for the model.
        target: the module, the Function's class or the rule.
        kind: name of the class; 'autograd.Function' for a Function.
        calls: the first calls.
        count: of all calls.
        source: the function of the user that says where the layer is written, if that is not the target.
        message: why there are no calls.
        inner: paths of the layers that its calls call.
        derivative: the backward, as a reader calls it: 'layers[3].backward'; '' if the layer has none that was written by hand.
    """

    path: str
    target: Any
    kind: str
    calls: list[RecordedCall] = field(default_factory=list)
    count: int = 0
    source: Any = None
    message: str = ""
    inner: set[str] = field(default_factory=set)
    derivative: str = ""

    def contains(self, path: str) -> bool:
        """Whether another layer is a part of this one."""
        return path in self.inner or path.startswith(f"{self.path}.")
