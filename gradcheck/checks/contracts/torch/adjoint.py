"""Forward mode and reverse mode are adjoint: <v, J u> = <J^T v, u>, without any differences."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.autograd import forward_ad

from gradcheck.backends.torch.derivatives import forward_level
from gradcheck.backends.torch.tensors import flat_of
from gradcheck.checks.contracts.torch import plain_vjp as plain
from gradcheck.checks.contracts.torch.directional import random_like
from gradcheck.checks.contracts.torch.plain_vjp import UNITS, Remarked, Unsupported
from gradcheck.seeds import generator
from gradcheck.tracebacks import one_line, user_line

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck.checks.contracts.torch.plain_vjp import Baseline
    from gradcheck.evidence.line import F64

NAME = "adjoint"
MEND = "compare jvp and backward line by line: each must use what the other uses, the one transposed"
SAMPLE = 8  # leaves that are each moved alone
INSIDE = 1e-6  # of the terms' size: what is nearer may be rounding hidden inside, which is looked at elsewhere
ALIKE = 8.0  # in the last place of every term: rounding that they may share
UNEVEN = 1.375  # times a tangent or cotangent: what is rounded to few digits is so in another way
BESIDE = 2.0**-9  # of the inputs: how far away a kink is left behind
KINK = "at these inputs forward and reverse mode differ, but beside them they agree: at a kink or tie each may choose its own"


def broken(base: Baseline) -> str:
    """For which inputs moved the two modes differ; '' where for none.

    Raises:
        Remarked: where they differ at these inputs alone, or a jvp of the user's own raises.
        Unsupported: where there is no forward mode.
    """
    tangents = [random_like(x, np.asarray, "tangent", k) for k, x in enumerate(base.inputs)]
    for moved in _subsets(len(tangents)):
        told = _apart(base, base.inputs, base.gradients, tangents, moved)
        if told and not _apart(base, *_beside(base), tangents, moved):
            raise Remarked(KINK)
        if told:
            alone = len(moved) < len(tangents)
            return f"where only {base.layer.leaves[moved[0]].path} moves, {told}" if alone else told
    return ""


def _subsets(count: int) -> Iterator[tuple[int, ...]]:
    """All leaves, and some of them one by one."""
    yield tuple(range(count))
    if count > 1:
        yield from ((int(k),) for k in sorted(generator(0, "adjoint", count).choice(count, min(SAMPLE, count), replace=False)))


def _apart(
    base: Baseline, inputs: Sequence[Tensor], gradients: Sequence[F64], tangents: Sequence[Tensor], moved: Sequence[int]
) -> str:
    """How <v, J u> differs from <J^T v, u>; '' where it does so by no more than rounding."""
    pushed = _pushed(base, inputs, tangents, moved)
    left = [flat_of(v) * u for v, u in zip(base.cotangents, pushed, strict=True)]
    right = [gradients[k] * flat_of(tangents[k]) for k in moved]
    forward, reverse = (float(sum(np.sum(part) for part in terms)) for terms in (left, right))
    eps, parts = base.layer.eps, [*left, *right]
    size = max(_norm(left), _norm(right))
    largest = max((float(v.abs().max()) for v in base.outputs if v.numel()), default=0.0)
    allowed = max(INSIDE, eps**0.5) * size + ALIKE * eps * sum(float(np.sum(np.abs(part))) for part in parts)
    allowed += UNITS * eps * largest
    if abs(forward - reverse) <= allowed:
        return ""
    shaken = [base.moved()[base.layer.leaves[k].span] * flat_of(tangents[k]) for k in moved]
    if abs(forward - reverse) <= allowed + UNITS * (_norm(shaken) + _roughness(base, inputs, gradients, tangents, moved)):
        return ""
    return f"<v, J u> is {forward:.6g} in forward mode (jvp), but <J^T v, u> is {reverse:.6g} in reverse mode"


def _roughness(
    base: Baseline, inputs: Sequence[Tensor], gradients: Sequence[F64], tangents: Sequence[Tensor], moved: Sequence[int]
) -> float:
    """How far either mode is from linear, as where lower precision is inside: of two numbers that should be one, the rest."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    again = plain.rows(base.layer.call(leaves), leaves, [UNEVEN * v for v in base.cotangents])
    pushed = _pushed(base, inputs, tangents, moved)
    more = _pushed(base, inputs, [UNEVEN * u for u in tangents], moved)
    forward = [flat_of(v) * (b / UNEVEN - a) for v, a, b in zip(base.cotangents, pushed, more, strict=True)]
    return _norm(forward) + _norm([(again[k] / UNEVEN - gradients[k]) * flat_of(tangents[k]) for k in moved])


def _norm(parts: Sequence[F64]) -> float:
    return float(np.sqrt(sum(float(part @ part) for part in parts)))


def _beside(base: Baseline) -> tuple[list[Tensor], list[F64]]:
    """Inputs a little away from the primal, and the gradients there."""
    away = [random_like(x, np.asarray, "beside", k) for k, x in enumerate(base.inputs)]
    inputs = [x + BESIDE * u for x, u in zip(base.inputs, away, strict=True)]
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    return inputs, plain.rows(base.layer.call(leaves), leaves, base.given())


def _pushed(base: Baseline, inputs: Sequence[Tensor], tangents: Sequence[Tensor], moved: Sequence[int]) -> list[F64]:
    """J u as numbers, where some leaves alone have a tangent."""
    try:
        with forward_level():
            given = [
                forward_ad.make_dual(x.clone(), tangents[k].clone()) if k in moved else x.clone()  # type: ignore[no-untyped-call]
                for k, x in enumerate(inputs)
            ]
            outputs = base.layer.call(given)
            found = [forward_ad.unpack_dual(out).tangent for out in outputs]  # type: ignore[no-untyped-call]
            if all(u is None for u in found) and any(np.any(base.gradients[k]) for k in moved):
                raise Unsupported("no tangent comes out: an operator inside drops it")
            return plain.numbers(found, outputs)
    except Unsupported:
        raise
    except Exception as error:
        if not isinstance(error, NotImplementedError) and _in_a_jvp(error):
            raise Remarked(f"its jvp raises {one_line(error, 200)}{user_line(error)}") from error
        raise Unsupported(f"there is no forward mode: {one_line(error, 120)}") from error


def _in_a_jvp(error: Exception) -> bool:
    """Whether an exception comes out of a jvp of the user's own, whatever its name."""
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    called = {after.co_filename for before, after in pairwise(frames) if before.co_name == "apply_jvp"}
    return bool(called) and torch.autograd.function.__file__ not in called
