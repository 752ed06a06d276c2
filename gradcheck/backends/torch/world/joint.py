"""The joint program: all ranks together as one function of the inputs of all ranks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat import EPS, F64, lay_out_leaves
from gradcheck.backends.flat_call import root_of
from gradcheck.backends.program import Capabilities, Claim, Program, make_zero_claim
from gradcheck.backends.torch.backend import TorchBackend
from gradcheck.backends.torch.world.in_place import PARAMS
from gradcheck.backends.twin import is_same_function, prefer_twin_value
from gradcheck.errors import InputError, TargetError
from gradcheck.tracebacks import summarise_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.torch.world.pool import Pool
    from gradcheck.backends.torch.world.rank import Description
    from gradcheck.options import Options
    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs

# With ranks='replicated', outputs of two ranks may differ by this many units in the last place of the largest.
MAX_REPLICA_ULPS = 2.0**12


class JointFunction:
    """The function of all ranks, on one flat vector.

    An input or parameter that ranks share has one leaf on each rank. The value that all of them hold moves with every one of
    these leaves, so that the gradient on each rank must be the whole derivative; with ranks='mean' it moves by the 1/N-th part,
    so that the gradient on each rank must be the mean of the ranks' derivatives. A parameter that is sharded then moves by the
    1/N-th part, too.
    """

    def __init__(self, pool: Pool, descriptions: Sequence[Description], ranks: str) -> None:
        self.pool, self.is_one_output = pool, ranks == "replicated"
        labelled = [(rank, leaf) for rank, part in enumerate(descriptions) for leaf in part.leaves]
        self.leaves = _lay_out([(f"rank {rank}: {leaf.path}", leaf) for rank, leaf in labelled])
        outputs = [(f"rank {rank}: {leaf.path}", leaf) for rank, part in enumerate(descriptions) for leaf in part.outputs]
        self.outputs = descriptions[0].outputs if self.is_one_output else _lay_out(outputs)
        ends = np.cumsum([part.point.size for part in descriptions])
        self.spans = [slice(end - part.point.size, end) for end, part in zip(ends.tolist(), descriptions, strict=True)]
        self.point = np.concatenate([part.point for part in descriptions])
        self.shared = _find_shared(descriptions, self.spans)
        self.point[self.shared] = self.point[self.shared[:1]]
        self.weights: F64 | None = None
        if ranks == "mean":
            scaled = [root_of(leaf.path) == PARAMS for _, leaf in labelled]
            self.weights = np.repeat(np.where(scaled, 1 / pool.world, 1.0), [leaf.entries * leaf.width for leaf in self.leaves])
            self.weights[self.shared] = 1 / pool.world

    def split(self, at: F64) -> list[F64]:
        """Return the numbers of each rank at a point of the joint function."""
        if self.weights is not None or self.shared.size:
            move = at - self.point if self.weights is None else self.weights * (at - self.point)
            at = at.copy() if self.weights is None else self.point + move
            at[self.shared] = self.point[self.shared] + np.sum(move[self.shared], axis=0)
        return [at[span] for span in self.spans]

    def evaluate(self, at: F64, *, twin: bool) -> F64:
        """Evaluate all ranks, (M,)."""
        values = self.evaluate_ranks(at, twin=twin)
        return values[0] if self.is_one_output else np.concatenate(values)

    def evaluate_ranks(self, at: F64, *, twin: bool = False) -> list[F64]:
        """Return the outputs of each rank."""
        return self.pool.ask("evaluate", [(part, twin) for part in self.split(at)])

    def evaluate_vjps(self, at: F64, cotangents: F64, *, twin: bool) -> F64:
        """Compute vector-Jacobian products (C, N) of cotangents (C, M), one after the other."""
        points = self.split(at)
        rows = []
        for cotangent in cotangents:
            parts = [cotangent] * len(points) if self.is_one_output else np.split(cotangent, len(points))
            requests = [(point, part, twin) for point, part in zip(points, parts, strict=True)]
            rows.append(np.concatenate(self.pool.ask("evaluate_vjp", requests)))
        return np.stack(rows)


@dataclass(frozen=True)
class JointBackend(TorchBackend):
    """A backend that binds nothing but the ranks' joint program."""

    program: Program

    def bind(self, case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
        """Return the joint program."""
        return self.program


def bind(pool: Pool, case: Case, options: Options, descriptions: Sequence[Description]) -> Program:
    """Bind the prepared ranks to their joint program.

    Raises:
        TargetError: if the ranks return different structures or shapes.
        InputError: if they do not share what they must share.
    """
    _require_same_outputs(descriptions)
    function = JointFunction(pool, descriptions, options.ranks)
    values = function.evaluate_ranks(function.point)
    native_eps = max(EPS[leaf.dtype] for leaf in (*function.leaves, *function.outputs))
    if function.is_one_output:
        _require_same_values(values, native_eps)
    value = values[0] if function.is_one_output else np.concatenate(values)
    twin, refusal = _evaluate_twin(function, value, native_eps)
    has_twin = twin is not None
    is_detached = not any(part.is_connected for part in descriptions)

    def bind_twin(method: Callable[..., F64], is_twin: bool) -> Callable[..., F64]:
        return lambda *arguments: method(*arguments, twin=is_twin)

    eps = max(EPS[leaf.dtype] for leaf in function.leaves)
    claim = Claim(
        "reverse",
        eps,
        bind_twin(function.evaluate_vjps, False),
        twin=bind_twin(function.evaluate_vjps, True) if has_twin else None,
    )
    return Program(
        framework="torch",
        leaves=function.leaves,
        outputs=function.outputs,
        point=function.point,
        value=prefer_twin_value(value, twin),
        native_value=value,
        evaluate=bind_twin(function.evaluate, has_twin),
        eps=EPS["float64"] if has_twin else native_eps,
        claims=(make_zero_claim(eps, function.point.size) if is_detached else claim,),
        capabilities=Capabilities(evaluate_native=bind_twin(function.evaluate, False) if has_twin else None),
        name=case.name,
        fn=case.fn,
        shapes=tuple((leaf.path, leaf.shape) for leaf in (*function.leaves, *function.outputs)),
        notes=tuple(filter(None, (*descriptions[0].notes, refusal, _describe_crowding(pool.world)))),
        is_detached=is_detached,
        device="cpu",
        ranks=pool.world,
    )


def _lay_out(named: Sequence[tuple[str, Leaf]]) -> tuple[Leaf, ...]:
    paths, leaves = [path for path, _ in named], [leaf for _, leaf in named]
    return lay_out_leaves(paths, [leaf.shape for leaf in leaves], [leaf.dtype for leaf in leaves])


def _find_shared(descriptions: Sequence[Description], spans: Sequence[slice]) -> Any:
    """Return the positions of the numbers that all ranks share, (ranks, S)."""
    positions: list[list[int]] = []
    for description, span in zip(descriptions, spans, strict=True):
        shared = [leaf for leaf, is_shared in zip(description.leaves, description.shared, strict=True) if is_shared]
        first = [leaf for leaf, is_shared in zip(descriptions[0].leaves, descriptions[0].shared, strict=True) if is_shared]
        if [(leaf.path, leaf.shape) for leaf in shared] != [(leaf.path, leaf.shape) for leaf in first]:
            raise InputError(
                "replicated inputs and parameters must have the same names and shapes on every rank: rank 0 has"
                f" {_describe_leaves(first)}, another has {_describe_leaves(shared)}"
            )
        positions.append([span.start + i for leaf in shared for i in range(leaf.span.start, leaf.span.stop)])
    return np.array(positions, dtype=np.intp).reshape(len(descriptions), -1)


def _describe_leaves(leaves: Sequence[Leaf]) -> str:
    return ", ".join(f"{leaf.path} {leaf.shape} {leaf.dtype}" for leaf in leaves) or "none"


def _require_same_outputs(descriptions: Sequence[Description]) -> None:
    first, *others = [_describe_leaves(part.outputs) for part in descriptions]
    for rank, outputs in enumerate(others, 1):
        if outputs != first:
            raise TargetError(
                f"the ranks return different outputs: rank 0 {first}; rank {rank} {outputs}. Every rank must return the same"
                " structure and shapes"
            )


def _require_same_values(values: Sequence[F64], eps: float) -> None:
    allowed = MAX_REPLICA_ULPS * eps * float(np.max(np.abs(values[0]), initial=1.0))
    for rank, value in enumerate(values):
        difference = float(np.max(np.abs(value - values[0]), initial=0.0))
        if difference > allowed:
            raise InputError(
                f"ranks='replicated': every rank must return the same, but rank {rank} differs from rank 0 by {difference:.3g};"
                " name the inputs and parameters that the ranks share in replicated=, or use ranks='sum'"
            )


def _evaluate_twin(function: JointFunction, value: F64, eps: float) -> tuple[F64 | None, str]:
    """Return the value in float64; None, and why, if the target does not run there or is another function."""
    if eps <= EPS["float64"]:
        return None, ""
    try:
        twin = function.evaluate(function.point, twin=True)
    except Exception as error:
        return None, f"differences in its own dtype: it does not run in float64 ({summarise_error(error, 100)})"

    def evaluate_both(at: F64) -> tuple[F64, F64]:
        return function.evaluate(at, twin=False), function.evaluate(at, twin=True)

    if not is_same_function(function.point, value, twin, eps, evaluate_both):
        return None, "differences in its own dtype: in float64 it returns another value"
    return twin, ""


def _describe_crowding(world: int) -> str:
    cores = os.cpu_count() or 1
    return f"{world} ranks on {cores} cores: they take turns" if world > cores else ""
