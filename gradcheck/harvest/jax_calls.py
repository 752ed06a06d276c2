"""Interception of the calls of custom rules in a running JAX program.

Where JAX only traces, a call has no numbers yet, and a probe in the traced code would change what is compiled. So we keep the
inputs of the compiled function around it, and call that function once more when the records are checked, with probes in it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradcheck.backends.jax import rule_probes
from gradcheck.backends.jax.arrays import is_array, is_differentiable
from gradcheck.backends.jax.recorded_rules import RecordedRule, RuleRecorder, make_layer
from gradcheck.backends.jax.rule_probes import RULE_CLASSES, watching_rules
from gradcheck.harvest.record import MAX_RECORDS, Harvest, Record, is_called_by_gradcheck
from gradcheck.targets.location import find_rule_function

TRACED_ELSEWHERE = "JAX traces its call outside of jit, where it has no numbers"
TOO_LARGE = "the inputs of the compiled function around it do not fit into the memory for copies"
NOT_AGAIN = "the compiled function around it cannot be called once more: {}: {}"
COMPILED_CALL = ("jax._src.pjit", "cache_miss")  # the module and the function that calls a compiled function for the first time


@dataclass
class CompiledCall:
    """The first call of a compiled function, inside of which rules are called.

    Attributes:
        function: the function before compilation.
        leaves: of the arguments, arrays as copies.
        structure: of the arguments and the keyword arguments.
        is_differentiated: whether the program differentiates the compiled function, and not only something inside.
        homes: of the rules.
    """

    function: Callable[..., Any]
    leaves: list[Any]
    structure: Any
    is_differentiated: bool
    homes: set[tuple[str, str]] = field(default_factory=set)

    def repeat(self) -> None:
        """Call the function once more."""
        leaves = [jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in self.leaves]
        places = [i for i, leaf in enumerate(leaves) if self.is_differentiated and is_array(leaf) and is_differentiable(leaf)]

        def call(*moving: Any) -> Any:
            replaced = dict(zip(places, moving, strict=True))
            args, kwargs = jax.tree_util.tree_unflatten(
                self.structure, [replaced.get(i, leaf) for i, leaf in enumerate(leaves)]
            )
            return self.function(*args, **kwargs)

        moving = [leaves[i] for i in places]
        if not places:
            call()
            return
        try:
            jax.vjp(call, *moving)
        except Exception:  # a rule for forward mode only
            jax.jvp(call, moving, moving)


class JaxCalls:
    """Intercepts calls from `install` to `uninstall`; those of traced code are recorded when the harvest is completed."""

    def __init__(self, harvest: Harvest) -> None:
        self._harvest = harvest
        self._recorder = RuleRecorder()  # of calls with numbers
        self._compiled: dict[tuple[int, Any], CompiledCall] = {}
        self._seen: dict[int, set[Any] | None] = {}
        self._originals: dict[Any, Any] = {}
        self._rules: list[Any] = []  # kept alive, so that no other rule gets the same id

    def install(self) -> None:
        """Begin to intercept."""
        for cls in RULE_CLASSES:
            self._originals[cls] = cls.__call__
            cls.__call__ = self._make_call(cls.__call__)
        self._harvest.deferred.append(self._record_rules)

    def uninstall(self) -> None:
        """Put back what was replaced."""
        for cls, original in self._originals.items():
            cls.__call__ = original

    def _make_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __call__(rule: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - tracebacks show the name
            seen = self._seen.get(id(rule), set())
            if seen is not None:
                with suppress(Exception):  # Whatever goes wrong in a record must not stop the program.
                    self._note(rule, args, kwargs)
            return original(rule, *args, **kwargs)

        return __call__

    def _note(self, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record a call with numbers, or the compiled function around one without."""
        home = _home_of(rule)
        if id(rule) not in self._seen:
            self._rules.append(rule)
            self._seen[id(rule)] = set() if home is not None and self._harvest.is_from_user(home[0]) else None
        seen = self._seen[id(rule)]
        leaves = [leaf for leaf in jax.tree_util.tree_leaves((args, kwargs)) if is_array(leaf)]
        signature = tuple((type(x), x.shape, str(x.dtype)) for x in leaves)
        if seen is None or home is None or signature in seen or is_called_by_gradcheck():
            return
        seen.add(signature)
        if len(seen) >= MAX_RECORDS:
            self._seen[id(rule)] = None
        if all(_find_numbers(x) is not None for x in leaves):
            if self._harvest.take(_count_bytes(leaves)):
                self._recorder.before_call(rule, args, kwargs)
            else:
                self._harvest.leave_out(home, TOO_LARGE)
            return
        frame = _find_compiled_call()
        if frame is None:
            self._harvest.leave_out(home, TRACED_ELSEWHERE)
        else:
            self._keep_compiled_call(frame, home)

    def _keep_compiled_call(self, frame: FrameType, home: tuple[str, str]) -> None:
        """Keep copies of the inputs of a compiled function, if they fit into the memory."""
        names = frame.f_locals
        leaves, structure = jax.tree_util.tree_flatten((names["args"], names["kwargs"]))
        key = (id(names["fun"]), tuple((getattr(x, "shape", None), str(getattr(x, "dtype", ""))) for x in leaves))
        if key not in self._compiled:
            arrays = [leaf for leaf in leaves if is_array(leaf)]
            if not self._harvest.take(_count_bytes(arrays)):
                self._harvest.leave_out(home, TOO_LARGE)
                return
            copies = [_copy(_find_numbers(leaf)) if is_array(leaf) else leaf for leaf in leaves]
            self._harvest.note_first()
            is_differentiated = any(isinstance(leaf, jax.core.Tracer) for leaf in arrays)
            self._compiled[key] = CompiledCall(names["fun"], copies, structure, is_differentiated)
        self._compiled[key].homes.add(home)

    def _record_rules(self) -> None:
        """Make records of the calls with numbers, and of those inside of compiled functions, which are called once more."""
        jax.effects_barrier()
        rules = list(self._recorder.rules.values())
        for compiled in self._compiled.values():
            recorder = RuleRecorder()
            try:
                with watching_rules(recorder.before_call):
                    compiled.repeat()
                    jax.effects_barrier()
            except Exception as error:
                for home in compiled.homes:
                    self._harvest.leave_out(home, NOT_AGAIN.format(type(error).__name__, error))
            rules += recorder.rules.values()
        for rule in rules:
            self._record_rule(rule)

    def _record_rule(self, rule: RecordedRule) -> None:
        home = _home_of(rule.rule)
        if home is None or not self._harvest.is_from_user(home[0]):
            return
        layer = make_layer(rule, home[1])
        if layer.message:
            self._harvest.leave_out(home, layer.message.removeprefix("not checked: "))
        for call in layer.calls:
            record = Record(rule.rule, home, type(rule.rule).__name__, call, rule.function)
            if not any(_is_alike(record, other) for other in self._harvest.records) and self._harvest.count(home) < MAX_RECORDS:
                self._harvest.add(record)


def _home_of(rule: Any) -> tuple[str, str] | None:
    """Return the module of the function that a rule was written for, and its name; None for a probe or a library's rule."""
    function = find_rule_function(rule)
    if function is None or rule.fun.__module__ == rule_probes.__name__:
        return None
    return function.__module__, function.__qualname__


def _find_numbers(array: Any) -> Any:
    """Return the numbers of an array, also of one that is being differentiated; None if JAX only traces with it."""
    while isinstance(array, jax.core.Tracer):
        array = getattr(array, "primal", None)
    return array


def _find_compiled_call() -> FrameType | None:
    """Return the outermost call of a compiled function on the stack whose inputs have numbers."""
    frame, outermost = sys._getframe(1), None
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) == COMPILED_CALL:
            leaves = jax.tree_util.tree_leaves((frame.f_locals["args"], frame.f_locals["kwargs"]))
            if all(_find_numbers(leaf) is not None for leaf in leaves if is_array(leaf)):
                outermost = frame
        frame = frame.f_back  # type: ignore[assignment]
    return outermost


def _copy(array: Any) -> Any:
    """Copy an array to the host: the program may donate its own. A random key is kept as it is."""
    return array if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else np.array(array)


def _count_bytes(arrays: list[Any]) -> int:
    return sum(int(np.prod(x.shape)) * getattr(x.dtype, "itemsize", 8) for x in arrays)


def _is_alike(record: Record, other: Record) -> bool:
    """Whether two records are of one target, with inputs of equal shapes and dtypes."""
    return record.home == other.home and _shapes(record) == _shapes(other)


def _shapes(record: Record) -> list[tuple[Any, ...]]:
    leaves = jax.tree_util.tree_leaves((record.call.args, record.call.kwargs))
    return [(x.shape, str(x.dtype)) for x in leaves if is_array(x)]
