"""One forward pass through a JAX function, which records the inputs of the custom rules that it applies."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradcheck.backends.flat_call import Binding, flatten_call
from gradcheck.backends.jax.arrays import is_array, is_differentiable
from gradcheck.backends.jax.functional import JaxFunctionalCall, fill_leaves, make_functional_call
from gradcheck.backends.jax.rule_probes import probe_arrays, watching_rules
from gradcheck.backends.recorded_layer import MAX_RECORDED_CALLS, RecordedCall, RecordedLayer
from gradcheck.backends.user_code import call_user_code
from gradcheck.errors import UsageError
from gradcheck.targets.case import Case
from gradcheck.targets.framework import unwrap_target
from gradcheck.targets.location import find_rule_function
from gradcheck.targets.signature import Inputs, resolve_inputs
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import flatten

NOT_CALLED = "not checked: not called at these inputs"
NOT_REACHED = "not checked: no derivative passes through it"
NOT_RECORDED = "not checked: its arguments cannot be recorded"
NOT_ALONE = "not checked: it cannot be called alone ({})"


@dataclass
class _RuleCall:
    """The arguments of a call as the function passes them.

    Attributes:
        leaves: of the arguments: arrays, and in their places what is no array.
        structure: of the arguments.
        keys: the kinds of random keys, by place; their arrays are the numbers of the key.
        places: of the arrays among the leaves.
        reached: the places of the arrays that carry a derivative.
        mapped: of each `vmap` around, from the inside out, whether it maps each array.
    """

    leaves: list[Any]
    structure: Any
    keys: dict[int, Any]
    places: tuple[int, ...]
    reached: frozenset[int] = frozenset()
    mapped: tuple[tuple[bool, ...], ...] = ()

    def equals(self, other: _RuleCall) -> bool:
        """Whether the arguments are those of another call."""
        if (self.structure, self.places, self.mapped) != (other.structure, other.places, other.mapped):
            return False
        pairs = enumerate(zip(self.leaves, other.leaves, strict=True))
        return all(np.array_equal(a, b) if i in self.places else a is b for i, (a, b) in pairs)


@dataclass
class RecordedRule:
    """A custom rule, the function that it was written for, its first calls, their count, and why it has none if so."""

    rule: Any
    function: Callable[..., Any]
    calls: list[_RuleCall] = field(default_factory=list)
    count: int = 0
    reason: str = NOT_CALLED


def record_layers(case: Case, target: Callable[..., Any], inputs: Inputs) -> list[RecordedLayer]:
    """Differentiate a function once, and record the inputs of the custom rules of the user that take part in its derivative.

    Returns:
        The function itself, which has no calls, and each rule, in the order in which JAX meets them.

    Raises:
        InputError: if no input is differentiable.
        TargetError: if the target raises.
        UsageError: if the target applies no rule of the user's.
    """
    called, places = make_functional_call(case, target, inputs)
    rules = _record_rules(called, places)
    if not rules:
        raise UsageError(
            f"by_layer: {case.name} calls no jax.custom_vjp or jax.custom_jvp of yours, which by_layer checks separately;"
            " check it without by_layer"
        )
    name = getattr(target, "__name__", type(target).__name__)
    layers, names = [RecordedLayer("", target, name, count=1)], list[str]()
    for rule in rules:
        names.append(getattr(unwrap_target(rule.function), "__name__", type(rule.function).__name__))
        number = names.count(names[-1])
        layers.append(make_layer(rule, names[-1] if number == 1 else f"{names[-1]}#{number}"))
    return layers


def _record_rules(called: JaxFunctionalCall, places: tuple[int, ...]) -> list[RecordedRule]:
    """Differentiate a functional call in reverse mode, else in forward mode; if neither works, only call it."""
    binding = Binding(called.call, places, (), (), ())
    arrays = tuple(jnp.array(called.call.leaves[i]) for i in places)

    def outputs(*moving: Any) -> list[Any]:
        returned = flatten(called(fill_leaves(binding, moving))).leaves
        return [jnp.asarray(x) for x in returned if is_differentiable(x) or isinstance(x, float | complex)]

    attempts: tuple[Callable[[], Any], ...] = (lambda: jax.vjp(outputs, *arrays), lambda: jax.jvp(outputs, arrays, arrays))
    for differentiate in attempts:
        recorder = RuleRecorder()
        with suppress(Exception), watching_rules(recorder.before_call):  # The call below shows who raises.
            differentiate()
            jax.effects_barrier()
            return list(recorder.rules.values())
    call_user_code("the target", outputs, arrays, {}, called.call)
    recorder = RuleRecorder(reach_all=True)
    with watching_rules(recorder.before_call), jax.disable_jit():  # A compiled function would not be traced again here.
        outputs(*arrays)
        jax.effects_barrier()
    return list(recorder.rules.values())


class RuleRecorder:
    """Records calls of the user's rules.

    Attributes:
        rules: by identity, in the order of their first calls.
        reach_all: whether every array counts as one that carries a derivative.
    """

    def __init__(self, *, reach_all: bool = False) -> None:
        self.rules: dict[int, RecordedRule] = {}
        self.reach_all = reach_all

    def before_call(self, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note a rule, and probe its arguments."""
        function = find_rule_function(rule)
        if function is None:
            return
        record = self.rules.setdefault(id(rule), RecordedRule(rule, function))
        try:
            call = _flatten_arguments(rule, args, kwargs)
            arrays = [jax.random.key_data(call.leaves[i]) if i in call.keys else call.leaves[i] for i in call.places]
            call.leaves = [None if i in call.places else leaf for i, leaf in enumerate(call.leaves)]  # They may be tracers.
            probe_arrays(partial(self._store, record, call), arrays)
        except Exception:  # Arguments that cannot be recorded must not stop the function.
            record.reason = NOT_RECORDED

    def _store(self, record: RecordedRule, call: _RuleCall, reached: frozenset[int], mapped: Any, *arrays: Any) -> None:
        """Store the concrete arguments of a call that takes part in the derivative, unless enough calls are stored."""
        record.reason = NOT_REACHED
        numbers = range(len(arrays)) if self.reach_all else reached
        reached_places = frozenset(call.places[i] for i in numbers) - _places_of_nondiff(record.rule, call)
        record.count += bool(reached_places)
        if not reached_places or len(record.calls) >= MAX_RECORDED_CALLS:
            return
        concrete = dict(zip(call.places, map(np.array, arrays), strict=True))
        leaves = [concrete.get(i, leaf) for i, leaf in enumerate(call.leaves)]
        stored = replace(call, leaves=leaves, reached=reached_places, mapped=mapped)
        if not any(stored.equals(earlier) for earlier in record.calls):  # A rule may call its own function once more.
            record.calls.append(stored)


def _flatten_arguments(rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _RuleCall:
    """Flatten the arguments of a rule, all of them by position, as JAX passes them on."""
    bound = inspect.signature(rule.fun).bind(*args, **kwargs)
    bound.apply_defaults()
    leaves, structure = jax.tree_util.tree_flatten(bound.args)
    places = tuple(i for i, leaf in enumerate(leaves) if is_array(leaf))
    is_key = {i: jnp.issubdtype(leaves[i].dtype, jax.dtypes.prng_key) for i in places}
    keys = {i: jax.random.key_impl(leaves[i]) for i in places if is_key[i]}
    return _RuleCall(list(leaves), structure, keys, places)


def _places_of_nondiff(rule: Any, call: _RuleCall) -> frozenset[int]:
    """Return the places of the leaves of arguments that a rule declares with `nondiff_argnums`."""
    argument = [k for k, tree in enumerate(call.structure.children()) for _ in range(tree.num_leaves)]
    return frozenset(i for i, k in enumerate(argument) if k in rule.nondiff_argnums)


def make_layer(rule: RecordedRule, name: str) -> RecordedLayer:
    """Make the layer of a rule; it has no calls if the rule cannot be checked alone, and its message says why."""
    layer = RecordedLayer(name, rule.rule, type(rule.rule).__name__, count=rule.count, source=rule.function)
    if not rule.calls:
        layer.message = rule.reason
        return layer
    layer.calls = [_make_call(rule.rule, call) for call in rule.calls]
    try:  # What the function could call may still need something around it: values of a `scan`, or the name of an axis.
        first = layer.calls[0]
        first.target(*first.args)
    except Exception as error:
        layer.calls, layer.message = [], NOT_ALONE.format(summarise_error(error, 60))
    return layer


def _make_call(rule: Any, call: _RuleCall) -> RecordedCall:
    """Make the call of a rule on JAX's arrays, under as many `vmap` as in the function."""
    leaves = [_to_jax(call, i, leaf) if i in call.places else leaf for i, leaf in enumerate(call.leaves)]
    args = jax.tree_util.tree_unflatten(call.structure, leaves)
    target = rule
    for level in call.mapped:
        axes = {place: 0 for place, is_mapped in zip(call.places, level, strict=True) if is_mapped}
        in_axes = jax.tree_util.tree_unflatten(call.structure, [axes.get(i) for i in range(len(leaves))])
        target = jax.vmap(target, in_axes=in_axes)
    return RecordedCall(args, {}, target=target, wrt=_name_leaves(target, args, [leaves[i] for i in sorted(call.reached)]))


def _to_jax(call: _RuleCall, place: int, array: Any) -> Any:
    converted = jnp.asarray(array)
    return jax.random.wrap_key_data(converted, impl=call.keys[place]) if place in call.keys else converted


def _name_leaves(target: Callable[..., Any], args: tuple[Any, ...], chosen: Sequence[Any]) -> tuple[str, ...]:
    """Name the paths of chosen arrays among the arguments of a call; integers have no derivative and are left out."""
    flat = flatten_call(resolve_inputs(target, args, {}))
    places = {id(array) for array in chosen if is_differentiable(array)}
    return tuple(path for path, leaf in zip(flat.paths, flat.leaves, strict=True) if id(leaf) in places)
