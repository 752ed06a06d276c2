"""A rank: a process of `torch.distributed` that holds the target with inputs of its own, and answers requests."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
import torch.distributed

from gradcheck.backends.flat_call import root_of
from gradcheck.backends.global_state import replaying, seed_generators
from gradcheck.backends.load_target import needs_construction, prepare_target
from gradcheck.backends.program import Unavailable
from gradcheck.backends.torch import random_draws
from gradcheck.backends.torch.backend import TorchBackend
from gradcheck.backends.torch.bind import call_once, choose_outputs
from gradcheck.backends.torch.derivatives import is_connected, make_vjp
from gradcheck.backends.torch.tensors import flatten_outputs, leaves_at
from gradcheck.backends.torch.twin_precision import twin_precision
from gradcheck.backends.torch.world.in_place import PARAMS, InPlaceModule, Placement, needs_own_parameters
from gradcheck.backends.torch.world.payload import Payload, unpack
from gradcheck.backends.user_code import call_user_code
from gradcheck.errors import InputError, TargetError, UsageError
from gradcheck.last_place import Watch, watching
from gradcheck.seeds import make_generator
from gradcheck.targets.draw import draw_inputs, has_specs
from gradcheck.tracebacks import format_user_frames, summarise_error
from gradcheck.untrusted_text import user_output_on_stderr

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from gradcheck.backends.flat import F64, Leaf
    from gradcheck.targets.case import Case

GROUP_SECONDS = 3600.0  # within which collectives must end: far longer than the parent waits


@dataclass(frozen=True)
class Assignment:
    """What a rank starts with.

    Attributes:
        rank: its number, from 0.
        world: the number of ranks.
        store: path of the file by which the ranks find each other.
        payload: the case and its options.
        environment: the variables of the parent's environment.
        record: path of the file in which the rank records where it is when its time runs out.
    """

    rank: int
    world: int
    store: str
    payload: Payload
    environment: dict[str, str]
    record: str


@dataclass(frozen=True)
class Description:
    """A rank's part of the joint program.

    Attributes:
        leaves: its differentiable inputs and parameters.
        shared: for each leaf, whether all ranks hold the same.
        point: their numbers, (N,).
        outputs: its differentiable outputs.
        is_connected: whether one of them carries a gradient.
        redrawn: whether another trial has other inputs or parameters.
        notes: remarks for the report.
    """

    leaves: tuple[Leaf, ...]
    shared: tuple[bool, ...]
    point: F64
    outputs: tuple[Leaf, ...]
    is_connected: bool
    redrawn: bool
    notes: tuple[str, ...]


def serve(connection: Connection, assignment: Assignment) -> None:
    """Answer requests, each a method of `Rank`, its arguments and the seconds it may take, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent ends this one
    os.environ.clear()
    os.environ.update(assignment.environment)
    warnings.simplefilter("ignore")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // assignment.world))
    threading.Thread(target=_end_with_parent, args=(assignment,), daemon=True).start()
    rank = Rank(assignment)
    with user_output_on_stderr():
        while True:
            try:
                method, arguments, seconds = connection.recv()
            except (EOFError, OSError):
                _end_without_parent(assignment)
            with watching(Watch(assignment.record, time.monotonic() + seconds)):
                answer = answer_request(getattr(rank, method), arguments)
            connection.send(answer)


def _end_with_parent(assignment: Assignment) -> None:
    """End this process when the parent is gone, even if it waits in a collective then."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _end_without_parent(assignment)


def _end_without_parent(assignment: Assignment) -> NoReturn:
    """Remove the folder of the ranks, which a killed parent leaves behind, and end without waiting for other ranks."""
    shutil.rmtree(Path(assignment.record).parent, ignore_errors=True)
    os._exit(0)


def answer_request(method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return what a method returns, or the exception that it raises, in a form that the parent can read."""
    try:
        return method(*arguments)
    except (TargetError, UsageError, Unavailable) as error:
        error.__cause__ = error.__context__ = None
        return error
    except BaseException as error:
        return TargetError(f"the target raised {summarise_error(error)}", format_user_frames(error))


class _RankBackend(TorchBackend):
    """Constructs targets with parameters of the rank's own."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def construct(self, case: Case, dtype: str, *, seed: int, trial: int) -> Callable[..., Any]:
        """Build the target; what its constructor draws depends on the rank."""
        return super().construct(replace(case, name=_name_stream(case.name, self.rank)), dtype, seed=seed, trial=trial)


def _name_stream(name: str, rank: int) -> str:
    return f"{name} on rank {rank}"


class Rank:
    """The target and its inputs on one rank. All ranks get the same requests, so that their collectives match."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.stack = ExitStack()

    def join(self) -> None:
        """Join the other ranks and import the target."""
        rank, world = self.assignment.rank, self.assignment.world
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(world))
        torch.distributed.set_debug_level_from_env()  # type: ignore[attr-defined]
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{self.assignment.store}",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=GROUP_SECONDS),
        )
        self.case, self.options = call_user_code("importing the target", unpack, (self.assignment.payload,), {})

    def construct(self, number: int, dtype: str) -> None:
        """Construct the target and draw its inputs.

        Args:
            number: of the trial.
            dtype: of drawn inputs and constructed modules.
        """
        case, options, rank = self.case, self.options, self.assignment.rank
        seed_generators(make_generator(options.seed, case.seed_label, number, "global"))
        backend = _RankBackend(rank)
        target, inputs = prepare_target(backend, case, dtype, seed=options.seed, trial=number, dims=options.dims)
        drawn = draw_inputs(
            inputs,
            case=case.seed_label,
            trial=number,
            seed=options.seed,
            dims=options.dims,
            dtype=dtype,
            convert=backend.from_numpy,
            name_stream=lambda path: path if self._is_named(path) else _name_stream(path, rank),
        )
        self.stack.enter_context(backend.initialising(target, drawn, case.seed_label, always=False))
        self.target, self.inputs, self.redrawn = target, drawn, needs_construction(case) or has_specs(inputs)

    def bind(self) -> Description:
        """Call the target once, and bind it to its inputs."""
        target, inputs = self.target, self.inputs
        self.module = InPlaceModule(target) if needs_own_parameters(target) else None
        if self.module is not None:
            target, inputs = self.module, self.module.add_parameters(inputs)
        first = call_once(self.case, target, inputs)
        self.binding, detached = choose_outputs(first)
        self._require_known_names()
        self.is_connected = is_connected(first.returned, self.binding)
        self.run: Callable[..., Any] = replaying(first.functional_call, first.draws)
        if first.draws and self.module is None:
            self.run = random_draws.draw_as_target(self.run, leaves_at(self.binding, first.point), self.binding)
        self.vjps = {twin: make_vjp(self.run, self.binding, twin=twin) for twin in (False, True)}
        return Description(
            self.binding.leaves,
            tuple(map(self._is_shared, self.binding.leaves)),
            first.point,
            self.binding.outputs,
            self.is_connected,
            self.redrawn,
            (*first.functional_call.notes, *(f"{path} carries no gradient: not compared" for path in detached)),
        )

    def _require_known_names(self) -> None:
        paths = [leaf.path for leaf in self.binding.leaves]
        known = {PARAMS, *paths, *map(root_of, paths)}
        for name in self.options.replicated:
            if name not in known:
                raise InputError(f"replicated={name!r} is not an input or a parameter: expected some of {', '.join(paths)}")

    def _is_named(self, path: str) -> bool:
        return any(name in (path, root_of(path)) for name in self.options.replicated)

    def _is_shared(self, leaf: Leaf) -> bool:
        """Whether all ranks hold the same in a leaf."""
        if root_of(leaf.path) != PARAMS or self._is_named(leaf.path):
            return self._is_named(leaf.path)
        placement = None if self.module is None else self.module.find_placement(leaf.path)
        return self.options.ranks == "mean" if placement is None else placement is Placement.REPLICATED

    def evaluate(self, point: F64, twin: bool) -> F64:
        """Evaluate the target, (M,)."""
        with torch.no_grad() if self.module else torch.enable_grad(), twin_precision(twin, self.binding.leaves):
            tensors = leaves_at(self.binding, point, twin=twin)
            returned = call_user_code("the target", self.run, (tensors, self.binding), {"twin": twin})
            return flatten_outputs(returned, self.binding)

    def evaluate_vjp(self, point: F64, cotangent: F64, twin: bool) -> F64:
        """Compute the vector-Jacobian product of a cotangent (M,), (N,); zeros if no output carries a gradient."""
        if not self.is_connected:
            return np.zeros(point.shape)
        if self.module is not None:
            arguments = (self.run, self.binding, point, cotangent)
            gradient: F64 = call_user_code("the forward or the backward pass", self.module.evaluate_vjp, arguments, {})
            return gradient
        row: F64 = self.vjps[twin](point, cotangent[None])[0]
        return row
