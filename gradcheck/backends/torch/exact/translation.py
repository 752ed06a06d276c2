"""From a traced graph of PyTorch operators to exact nodes, with the floating-point values at the primal."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from gradcheck.backends.torch.exact.nodes import Operand, Traced, make_constants, mark_undefined, move, shadow_of
from gradcheck.backends.torch.exact.rules import BRANCHES, COMPARISONS, READING, RESHAPING, RULES, name_of
from gradcheck.exact.build import node_of
from gradcheck.exact.graph import MAX_NUMBERS, MAX_OPERATORS, Input, Node, NotAvailable
from gradcheck.exact.identity import Equality
from gradcheck.tracebacks import summarise_error

CONDITION = "a condition in Python"


class Translation:
    """The operators of a traced graph, evaluated in floating point and translated.

    Attributes:
        inputs: the exact inputs, in order.
        nodes: the operators.
        branches: the operators whose branch the floating-point values chose.
        equalities: where the operands of a comparison are equal.
    """

    def __init__(self, module: torch.fx.GraphModule) -> None:
        self.module, self.nodes = module, list(module.graph.nodes)
        self.inputs: list[Input] = []
        self.branches: set[str] = set()
        self.equalities: list[Equality] = []
        self._known: dict[torch.fx.Node, Any] = {}
        self._numbers = 0
        if len(self.nodes) > MAX_OPERATORS:
            raise NotAvailable(f"a graph of {len(self.nodes):,} operators")

    def translate(self, inputs: list[torch.Tensor]) -> list[Any]:
        """Translate every operator; return the outputs.

        Raises:
            NotAvailable: if an operator has no exact meaning.
        """
        feed = iter(inputs)
        for node in self.nodes:
            if node.op == "placeholder":
                tensor = next(feed)
                self.inputs.append(Input(tuple(tensor.shape), name=str(node.target)))
                self._known[node] = Traced(tensor, self.inputs[-1])
            elif node.op == "get_attr":
                self._known[node] = _trace_constant(getattr(self.module, str(node.target)))
            elif node.op == "call_function":
                self._known[node] = self._translate_call(node)
                self._count(self._known[node])
        outputs = pytree.tree_leaves(self.nodes[-1].args, is_leaf=lambda x: x is None)
        return [self._known[x] if isinstance(x, torch.fx.Node) else x for x in outputs]

    def _count(self, results: Any) -> None:
        self._numbers += sum(x.shadow.numel() for x in pytree.tree_leaves(results) if isinstance(x, Traced))
        if self._numbers > MAX_NUMBERS:
            raise NotAvailable(f"a graph of more than {MAX_NUMBERS:,} numbers")

    def _translate_call(self, node: torch.fx.Node) -> Any:
        args: Any = torch.fx.node.map_arg(node.args, self._known.__getitem__)
        kwargs: Any = torch.fx.node.map_arg(node.kwargs, self._known.__getitem__)
        operator: Any = node.target
        if name_of(operator) in RESHAPING:
            reshaped = getattr(torch.ops.aten, name_of(operator).removesuffix("_"))
            written: Any = node.args[0]
            self._known[written] = self._apply(getattr(reshaped, operator._overloadname), args, kwargs)
            return self._known[written]
        if writes(node):
            return self._translate_write(node, args)
        return self._apply(operator, args, kwargs)

    def _apply(self, operator: Any, args: Any, kwargs: Any) -> Any:
        """Evaluate an operator in floating point, and translate it."""
        if name_of(operator) == "getitem":
            return args[0][args[1]]
        result = operator(*pytree.tree_map(shadow_of, args), **pytree.tree_map(shadow_of, kwargs))
        if isinstance(result, torch.Tensor) and result.is_meta:  # forward mode describes memory layouts in this way
            return Traced(result)
        _refuse_unusual(result)
        if name_of(operator) in COMPARISONS or (name_of(operator) == "equal" and result):
            self._note_equal_numbers(*args[:2])
        self._note_reading(name_of(operator), args)
        if not any(isinstance(t, torch.Tensor) and t.is_floating_point() for t in pytree.tree_leaves(result)):
            return pytree.tree_map(lambda t: Traced(t) if isinstance(t, torch.Tensor) else t, result)
        translated = self._apply_rule(operator, result, args, kwargs)
        if isinstance(result, torch.Tensor):
            return _finish(result, translated)
        return [_finish(r, t) for r, t in zip(result, translated, strict=True)]

    def _note_equal_numbers(self, a: Operand, b: Operand) -> None:
        """Note where two operands of a comparison are equal and finite."""
        first, second = node_of(a), node_of(b)
        where = torch.as_tensor(shadow_of(a) == shadow_of(b)) & torch.isfinite(torch.as_tensor(shadow_of(a)))
        if (first.varies or second.varies) and bool(where.any()):
            self.equalities.append(Equality(first, second, where.numpy(force=True)))

    def _note_reading(self, name: str, args: Any) -> None:
        """Note a condition that Python reads. A number that it reads becomes a constant of the graph, which is refused."""
        operands = [x for x in args if isinstance(x, Traced)]
        if name in READING and any(x.node is not None and x.node.varies for x in operands):
            raise NotAvailable("the code reads numbers of its tensors")
        if name in BRANCHES and not any(x.node is not None for x in operands):
            self.branches.add(CONDITION)

    def _translate_write(self, node: torch.fx.Node, args: Any) -> Any:
        """Translate an operator that updates a tensor, such as a running mean, of which there are no views."""
        written, name = node.args[0], name_of(node.target)
        if not isinstance(written, torch.fx.Node) or any(_makes_view(user) for user in written.users if user is not node):
            raise NotAvailable(f"the operator {name} writes to a tensor")
        if name != "copy_":
            position = {other: i for i, other in enumerate(self.nodes)}
            if any(position[reader] > position[node] for reader in (*written.users, *node.users)):
                raise NotAvailable(f"the operator {name} writes to a tensor")
            return args[0]
        self._known[written] = self._expand(args[1], args[0].shadow)
        return self._known[written]

    @staticmethod
    def _expand(source: Traced, like: torch.Tensor) -> Traced:
        """Return a tensor with the shape and the dtype of another."""
        shadow = source.shadow.to(like.dtype).expand(like.shape)
        return Traced(shadow, move(source, lambda t: t.expand(like.shape)) if like.is_floating_point() else None)

    def _apply_rule(self, operator: Any, result: Any, args: Any, kwargs: Any) -> Any:
        """Return the exact result; None for each tensor that depends on no input and has no rule."""
        operands = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Traced)]
        _refuse_unusual([operand.shadow for operand in operands])
        name = name_of(operator)
        varies = any(operand.node is not None and operand.node.varies for operand in operands)
        if varies and name in BRANCHES:
            self.branches.add(name)
        try:
            if name not in RULES:
                raise NotAvailable(f"no rule for the operator {name}")
            return RULES[name](operator, result, *args, **kwargs)
        except Exception as error:
            if not varies:
                return pytree.tree_map(lambda _: None, result)
            if isinstance(error, NotAvailable):
                raise
            raise NotAvailable(f"the rule for {name} does not cover this call: {summarise_error(error, 120)}") from error


def _refuse_unusual(values: Any) -> None:
    tensors = [t for t in pytree.tree_leaves(values) if isinstance(t, torch.Tensor)]
    if any(t.layout is not torch.strided for t in tensors):
        raise NotAvailable("sparse tensors")
    if any(t.is_complex() for t in tensors):
        raise NotAvailable("complex numbers")


def _finish(shadow: Any, node: Node | None) -> Any:
    if not isinstance(shadow, torch.Tensor):
        return shadow
    if not shadow.is_floating_point():
        return Traced(shadow)
    exact = make_constants(shadow) if node is None else node
    if exact.shape != tuple(shadow.shape):
        raise NotAvailable(f"a rule that gives the shape {exact.shape} for {tuple(shadow.shape)}")
    return Traced(shadow, mark_undefined(exact, shadow))


def _trace_constant(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return Traced(value, make_constants(value) if value.is_floating_point() else None)


def _makes_view(node: torch.fx.Node) -> bool:
    """Say whether an operator returns a view of its argument."""
    schema = getattr(node.target, "_schema", None)
    return not writes(node) and (schema is None or any(result.alias_info is not None for result in schema.returns))


def writes(node: torch.fx.Node) -> bool:
    """Say whether an operator writes to its arguments."""
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.is_mutable)
