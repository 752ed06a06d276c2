"""From a running PyTorch program to exact nodes: every operator is translated as it computes its floating-point values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gradcheck.backends.torch.exact import complex_numbers
from gradcheck.backends.torch.exact.complex_numbers import MAKING_COMPLEX, join, pair_of, translate_complex
from gradcheck.backends.torch.exact.nodes import Operand, TracedTensor, make_constants, mark_undefined, shadow_of, view_as_real
from gradcheck.backends.torch.exact.rules import BRANCHES, COMPARISONS, READING, RULES, STEPS, name_of
from gradcheck.exact.branches import COMPARISON, TO_INTEGERS, Branches
from gradcheck.exact.build import linear, node_of
from gradcheck.exact.graph import F64, MAX_NUMBERS, MAX_OPERATORS, Input, Node, NotAvailable
from gradcheck.exact.identity import Equality
from gradcheck.tracebacks import summarise_error

CONDITION = "a condition in Python"
CASTS = frozenset(("_to_copy", "convert_element_type"))
CHANGED = "the code changes tensors in a way that PyTorch does not see"


@dataclass(frozen=True)
class _Place:
    """Where the numbers of a tensor lie in its memory; tensors with the same place are the same numbers."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    bits: tuple[bool, bool]

    @property
    def part(self) -> torch.dtype:
        """The dtype of its real numbers."""
        return self.dtype.to_real() if self.dtype.is_complex else self.dtype

    def positions(self) -> NDArray[np.int64]:
        """Return the position of each real number, with a last axis for the two of a complex one."""
        steps = [stride * np.arange(size) for size, stride in zip(self.shape, self.strides, strict=True)]
        numbers = np.asarray(self.offset + sum(np.ix_(*steps), start=np.int64(0)), np.int64)
        return 2 * numbers[..., None] + np.arange(2) if self.dtype.is_complex else numbers

    def has_same_meaning(self, other: _Place) -> bool:
        """Whether a real number that lies in both means the same in both: one may be conjugated or negated."""
        return self.bits == other.bits if self.dtype is other.dtype else not any((*self.bits, *other.bits))


def _place_of(t: torch.Tensor) -> _Place:
    return _Place(int(t.storage_offset()), tuple(t.shape), t.stride(), t.dtype, (t.is_conj(), t.is_neg()))


class OperatorRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Translates the operators that run while it is active, those of backward passes included.

    A tensor is known by the memory that its numbers lie in, so that views, copies of the Python object, and tensors that
    autograd saved are recognised, and what an operator writes shows in all of them.

    Attributes:
        inputs: the exact inputs, in order.
        operators: how many have run.
        branches: what the floating-point values chose.
        equalities: where the operands of a comparison are equal.
        demotions: the dtypes of less precision than their arguments' in which operators compute.
        refusal: why the program has no exact meaning, if it has none.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inputs: list[Input] = []
        self.operators = 0
        self.branches = Branches()
        self.equalities: list[Equality] = []
        self.demotions: set[str] = set()
        self.refusal: NotAvailable | None = None
        self._memory: dict[int, dict[_Place, TracedTensor]] = defaultdict(dict)
        self._kept: dict[int, Any] = {}  # the storages, so that none is used again for other numbers
        self._numbers = 0

    def add_input(self, tensor: torch.Tensor) -> None:
        """Make the numbers of a tensor an exact input."""
        self.inputs.append(Input((*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)))
        self._learn(tensor, self.inputs[-1])

    def find(self, value: Any) -> Any:
        """Return what is known of a tensor; any other value as it is.

        Raises:
            NotAvailable: if the tensor has numbers that no operator gave it.
        """
        if not isinstance(value, torch.Tensor):
            return value
        if value.is_meta or value.layout is not torch.strided:  # forward mode describes layouts so
            _refuse_unusual(value)
            return TracedTensor(value)
        if value._is_zerotensor():  # without memory: a tangent that is zero
            return TracedTensor(zeros := torch.zeros(value.shape, dtype=value.dtype), _read_constants(zeros))
        place, known = _place_of(value), self._memory[self._key(value)]
        traced = known.get(place) or self._find_view(value)
        if traced is None:
            traced = self._learn(value, _read_constants(value))
        before, now = (view_as_real(t.detach()) for t in (traced.shadow, value))
        if not torch.equal(torch.nan_to_num(before), torch.nan_to_num(now)):
            raise NotAvailable(CHANGED)
        return traced

    def __torch_dispatch__(self, operator: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and translate it."""
        keywords = kwargs or {}
        if self.refusal is not None:
            return operator(*args, **keywords)
        try:
            decomposition = _find_decomposition(operator, args, keywords)
            traced = None if decomposition else pytree.tree_map(self.find, (args, keywords))
        except NotAvailable as why:
            return self._refuse(why, operator(*args, **keywords))
        if decomposition:
            with self:
                return decomposition(*args, **keywords)
        result = operator(*args, **keywords)
        try:
            self._record(operator, result, args, keywords, traced)
        except NotAvailable as why:
            self._refuse(why, result)
        return result

    def _refuse(self, why: NotAvailable, result: Any) -> Any:
        """Note why the program has no exact meaning; it runs on, since its own code may handle errors."""
        self.refusal = why
        return result

    # --- memory

    def _key(self, tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        self._kept.setdefault(storage._cdata, storage)
        return int(storage._cdata)

    def _learn(self, tensor: torch.Tensor, node: Node | None) -> TracedTensor:
        traced = TracedTensor(tensor.detach().clone(), node)
        self._memory[self._key(tensor)][_place_of(tensor)] = traced
        return traced

    def _find_view(self, tensor: torch.Tensor) -> TracedTensor | None:
        """Find the numbers of a tensor in another one that holds all of them."""
        if not _has_node(tensor) or tensor.is_meta or tensor._is_zerotensor():
            return None
        place = _place_of(tensor)
        for other, traced in self._memory[self._key(tensor)].items():
            if traced.node is not None and place.part is other.part and place.has_same_meaning(other):
                found = _locate(place, other)
                if found.min(initial=0) >= 0:
                    return self._learn(tensor, traced.node if place == other else _take([traced.node], found))
        return None

    def _write(self, tensor: torch.Tensor, node: Node | None) -> None:
        """Learn what an operator wrote to a tensor, and what that changes in others that share its memory."""
        place, known = _place_of(tensor), self._memory[self._key(tensor)]
        others = [(other, traced) for other, traced in known.items() if other != place]
        self._learn(tensor, node)
        for other, traced in others:
            if other.part is not place.part:
                raise NotAvailable("the code writes to memory that it also reads in another dtype")
            found = _locate(other, place)
            if found.max(initial=-1) >= 0:
                if any((*place.bits, *other.bits)):
                    raise NotAvailable("the code writes to complex numbers that it also uses conjugated")
                like = torch.empty(0, dtype=other.dtype).set_(
                    tensor.untyped_storage(), other.offset, other.shape, other.strides
                )
                pair = [x for x in (node, traced.node) if x is not None]
                rest = place.positions().size + np.arange(found.size).reshape(found.shape)
                self._learn(like, _take(pair, np.where(found >= 0, found, rest)) if len(pair) == 2 else None)

    # --- operators

    def _record(self, operator: Any, result: Any, args: Any, keywords: Any, traced: Any) -> None:
        """Learn the results of an operator that has run.

        Args:
            operator: that has run.
            result: what it returned.
            args: its arguments.
            keywords: its keyword arguments.
            traced: what was known of both before it ran.
        """
        self._count(result)
        for value in pytree.tree_leaves(result):
            _refuse_unusual(value)
        positional, named = traced
        written = _list_written(operator, args, keywords)
        if written:
            self._record_writing(operator, result, written, positional, named)
            return
        if isinstance(result, torch.Tensor) and self._find_view(result) is not None:
            return
        for tensor, node in self._translate(operator, result, positional, named):
            if isinstance(tensor, torch.Tensor) and not tensor.is_meta and not tensor._is_zerotensor():
                self._learn(tensor, node)

    def _record_writing(self, operator: Any, result: Any, written: list[torch.Tensor], positional: Any, named: Any) -> None:
        name = name_of(operator)
        if len(written) > 1 and any(self._depends(operand) for operand in pytree.tree_leaves((positional, named))):
            raise NotAvailable(f"the operator {name} writes to several tensors")
        functional = _find_functional(operator)
        for tensor in written:
            if functional is not None:
                keywords = {key: value for key, value in named.items() if key != "out"}
                (_, node), *_ = self._translate(functional, tensor.detach().clone(), positional, keywords)
            elif name.rstrip("_") in STEPS or not any(map(self._depends, pytree.tree_leaves((positional, named)))):
                node = _read_constants(tensor)
            else:
                raise NotAvailable(f"the operator {name} writes to a tensor")
            self._write(tensor, node)

    @staticmethod
    def _depends(operand: Any) -> bool:
        return isinstance(operand, TracedTensor) and operand.node is not None and operand.node.varies

    def _count(self, results: Any) -> None:
        self.operators += 1
        self._numbers += sum(x.numel() for x in pytree.tree_leaves(results) if isinstance(x, torch.Tensor))
        if self.operators > MAX_OPERATORS:
            raise NotAvailable(f"a graph of more than {MAX_OPERATORS:,} operators")
        if self._numbers > MAX_NUMBERS:
            raise NotAvailable(f"a graph of more than {MAX_NUMBERS:,} numbers")

    def _translate(self, operator: Any, result: Any, args: Any, kwargs: Any) -> list[tuple[Any, Node | None]]:
        """Return each result of an operator with its exact node, which numbers that are not floating-point have not."""
        if isinstance(result, torch.Tensor) and result.is_meta:
            return []
        if name_of(operator) in COMPARISONS or (name_of(operator) == "equal" and result):
            self._note_comparison(result, *args[:2])
        self._note_reading(name_of(operator), args)
        self._note_demotion(name_of(operator), result, (args, kwargs))
        results = list(result) if isinstance(result, list | tuple) else [result]
        if not any(map(_has_node, results)):
            return [(t, None) for t in results]
        if any(isinstance(t, torch.Tensor) and t._is_zerotensor() for t in results):
            return []
        translated = self._apply_rule(operator, result, args, kwargs)
        nodes = translated if isinstance(result, list | tuple) else [translated]
        return [(t, _finish(t, node)) for t, node in zip(results, nodes, strict=True)]

    def _note_comparison(self, result: Any, a: Operand, b: Operand) -> None:
        """Note a comparison, and where its operands are equal and finite."""
        where = torch.as_tensor(shadow_of(a) == shadow_of(b)) & torch.isfinite(torch.as_tensor(shadow_of(a)))
        if _is_complex(a) or _is_complex(b):
            first, second, where = join(pair_of(a)), join(pair_of(b)), where.unsqueeze(-1)
        else:
            first, second = node_of(a), node_of(b)
        if not first.varies and not second.varies:
            return
        self.branches.add(COMPARISON, np.asarray(result))
        if bool(where.any()):
            self.equalities.append(Equality(first, second, where.numpy(force=True)))

    def _note_reading(self, name: str, args: Any) -> None:
        """Note a condition that Python reads. A number that it reads becomes a constant of the graph, which is refused."""
        operands = [x for x in args if isinstance(x, TracedTensor)]
        if name in READING and any(map(self._depends, operands)):
            raise NotAvailable("the code reads numbers of its tensors")
        if name in BRANCHES and not any(x.node is not None for x in operands):
            self.branches.add(CONDITION)

    def _note_demotion(self, name: str, results: Any, arguments: Any) -> None:
        """Note the dtype of a result that has less precision than an argument that depends on the inputs."""
        operands = [x for x in pytree.tree_leaves(arguments) if self._depends(x)]
        finest = min((torch.finfo(x.shadow.dtype).eps for x in operands), default=1.0)
        tensors = [t for t in pytree.tree_leaves(results) if isinstance(t, torch.Tensor)]
        coarser = {t.dtype for t in tensors if _has_node(t) and torch.finfo(t.dtype).eps > finest}
        self.demotions |= {str(dtype).removeprefix("torch.") for dtype in coarser}
        for t in tensors:
            if operands and name in CASTS and not _has_node(t):
                self.branches.add(TO_INTEGERS, np.asarray(t))

    def _apply_rule(self, operator: Any, result: Any, args: Any, kwargs: Any) -> Any:
        """Return the exact result; None for each tensor that depends on no input and has no rule."""
        name, varies = name_of(operator), any(map(self._depends, pytree.tree_leaves((args, kwargs))))
        try:
            if any(map(_is_complex, pytree.tree_leaves((result, args, kwargs)))):
                return translate_complex(operator, name, result, args, kwargs)
            if name not in RULES:
                raise NotAvailable(f"no rule for the operator {name}")
            translated = RULES[name](operator, result, *args, **kwargs)
        except Exception as error:
            if not varies:
                return pytree.tree_map(lambda _: None, result)
            if isinstance(error, NotAvailable):
                raise
            raise NotAvailable(f"the rule for {name} does not cover this call: {summarise_error(error, 120)}") from error
        if varies and name in BRANCHES:
            chosen = translated[0] if isinstance(translated, list) else translated
            self.branches.add(name, chosen, [x.node for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, TracedTensor)])
        return translated


def _locate(place: _Place, other: _Place) -> NDArray[np.int64]:
    """Return the index of each real number of a place among those of another in the same memory; -1 if it is not there."""
    wanted, held = place.positions(), other.positions().reshape(-1)
    table = np.full(max(int(wanted.max(initial=-1)), int(held.max(initial=-1))) + 1, -1)
    table[held] = np.arange(held.size)
    return np.asarray(table[wanted])


def _take(nodes: list[Node], index: NDArray[np.int64]) -> Node:
    """Make a node of entries of others, counted through all of them."""

    def apply(arrays: Any) -> F64:
        return np.asarray(np.concatenate([np.reshape(array, -1) for array in arrays])[index])

    return linear(nodes, apply, index.shape, moves=True)


def _has_node(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())


def _is_complex(value: Any) -> bool:
    tensor = shadow_of(value)
    return isinstance(tensor, torch.Tensor) and tensor.is_complex()


def _read_constants(tensor: torch.Tensor) -> Node | None:
    return make_constants(tensor) if _has_node(tensor) else None


def _find_decomposition(operator: Any, args: Any, keywords: Any) -> Callable[..., Any] | None:
    """Find how an operator without a rule is made of simpler ones, if its results depend on numbers."""
    name = name_of(operator)
    tensors = [t for t in pytree.tree_leaves((args, keywords)) if isinstance(t, torch.Tensor)]
    if name in MAKING_COMPLEX or (name in complex_numbers.RULES and any(t.is_complex() for t in tensors)):
        return None
    if name in RULES or name.rstrip("_") in RULES or not any(map(_has_node, tensors)):
        return None
    from torch._decomp import decomposition_table  # takes a second to load, and most programs need none of them

    if operator in decomposition_table:
        return decomposition_table[operator]
    return operator.decompose if operator._can_decompose() else None


def _list_written(operator: Any, args: Any, keywords: Any) -> list[torch.Tensor]:
    """List the tensors that an operator writes to."""
    schema = operator._schema
    if not schema.is_mutable:
        return []
    values = {argument.name: value for argument, value in zip(schema.arguments, args, strict=False)} | keywords
    written = [values.get(a.name) for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return [t for t in pytree.tree_leaves(written) if isinstance(t, torch.Tensor)]


def _find_functional(operator: Any) -> Any:
    """Find the operator that returns what another one writes; None if there is none."""
    name, overload = name_of(operator), operator._overloadname
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None)
    if overload == "out" and packet is not None:
        return packet.default if "default" in packet.overloads() else None
    if not name.endswith("_") or packet is None:
        return None
    return getattr(packet, overload, None) or (packet.int if name == "transpose_" else None)


def _refuse_unusual(value: Any) -> None:
    if isinstance(value, torch.Tensor) and value.layout is not torch.strided:
        raise NotAvailable("sparse tensors")


def _finish(shadow: Any, node: Node | None) -> Node | None:
    """Return the exact node of a result: constants if it has none, and without numbers where it is infinite."""
    if not _has_node(shadow):
        return None
    exact, numbers = _read_constants(shadow) if node is None else node, view_as_real(shadow)
    if exact is None or exact.shape != tuple(numbers.shape):
        raise NotAvailable(f"a rule that gives the shape {exact and exact.shape} for {tuple(numbers.shape)}")
    return mark_undefined(exact, numbers)
