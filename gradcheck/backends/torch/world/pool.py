"""The processes of a world: started together, asked together, and killed together."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gradcheck.backends.torch.world.rank import Assignment, Description, serve
from gradcheck.errors import RankDiedError, RankTimeoutError, TargetError, UsageError
from gradcheck.last_place import MARGIN, Watch, read_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from gradcheck.backends.torch.world.payload import Payload

START_SECONDS = 300.0  # within which the ranks must import and construct the target
# What the server imports from which ranks are forked. PyTorch imports the last, or parts of it, in the first backward pass, for
# a DTensor and in DistributedDataParallel; each rank would take a second for it.
PRELOADED = [serve.__module__, "torch._dynamo"]
# After one rank has failed, the others are given this many seconds: they may wait for it in a collective.
GRACE_SECONDS = 0.5
MAX_RESTARTS = 3  # of the ranks of a case, each for an error of one rank; then the error is the result
NESTED = (
    "world= starts processes, and one of them imports this file: put the call under `if __name__ == '__main__':`, or the target"
    " in a module of its own"
)


class LostRankError(BaseException):
    """A rank died or hangs, so that nothing more can be evaluated. No handler of the user's exceptions may catch it.

    Attributes:
        error: the error of the target.
    """

    def __init__(self, error: TargetError) -> None:
        super().__init__(str(error))
        self.error = error


class Pool:
    """The ranks of a world. As a context it starts them, and it kills them at its end.

    If one rank raises and another does not, their collectives no longer match: the ranks are started again.
    """

    def __init__(self, world: int, payload: Payload, seconds: float) -> None:
        """Say what to start.

        Args:
            world: number of ranks.
            payload: the case.
            seconds: that an evaluation may take.
        """
        self.world, self.payload, self.seconds = world, payload, seconds
        self.processes: list[Any] = []
        self.connections: list[Connection] = []
        self.folder = ""
        self.preparation: tuple[int, str] = (0, "")
        self.restarts = 0

    def __enter__(self) -> Pool:
        """Start the ranks."""
        if multiprocessing.current_process().daemon:
            raise UsageError(NESTED)
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the ranks."""
        self._kill()

    def prepare(self, number: int, dtype: str) -> list[Description]:
        """Prepare a trial on every rank; arguments as for `Rank.construct`."""
        self.preparation = number, dtype
        if not self.processes:
            self._start()
        self._ask("construct", [self.preparation] * self.world, START_SECONDS)
        return self._ask("bind", [()] * self.world, self.seconds)

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Ask every rank for the result of a method; ranks that were lost for an error of the user's are started again.

        Args:
            method: of `Rank`.
            arguments: for each rank.

        Raises:
            TargetError: if the code of a rank raises.
            LostRankError: if a rank dies or does not answer.
        """
        if not self.processes:
            self.prepare(*self.preparation)
        return self._ask(method, arguments, self.seconds)

    def _start(self) -> None:
        context: Any = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
        # In a worker of loky the ranks inherit its way to start processes, which they know only if it is imported.
        context.set_forkserver_preload([*PRELOADED, *(["loky"] if "loky" in sys.modules else [])])
        self.folder = tempfile.mkdtemp(prefix="gradcheck-ranks-")
        environment = {"GLOO_SOCKET_IFNAME": "lo", **os.environ} if sys.platform == "linux" else dict(os.environ)
        with _hiding_main():
            for rank in range(self.world):
                ours, theirs = context.Pipe()
                record, store = str(self._record(rank)), str(Path(self.folder, "store"))
                assignment = Assignment(rank, self.world, store, self.payload, environment, record)
                process = context.Process(target=serve, args=(theirs, assignment), daemon=True)
                self.connections.append(ours)
                process.start()
                theirs.close()
                self.processes.append(process)
        self._ask("join", [()] * self.world, START_SECONDS)

    def _record(self, rank: int) -> Path:
        return Path(self.folder, f"place-{rank}")

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        for connection in self.connections:
            connection.close()
        self.processes, self.connections = [], []
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ask(self, method: str, arguments: Sequence[tuple[Any, ...]], seconds: float) -> list[Any]:
        answers: dict[int, Any] = {}
        for rank, connection in enumerate(self.connections):
            try:
                connection.send((method, arguments[rank], seconds))
            except OSError:
                answers[rank] = EOFError()
        self._collect(answers, time.monotonic() + seconds)
        failed = [rank for rank, answer in answers.items() if isinstance(answer, Exception)]
        if not failed and len(answers) == self.world:
            return [answers[rank] for rank in range(self.world)]
        dead = [rank for rank in failed if isinstance(answers[rank], EOFError)]
        if dead or not failed:
            lost = self._describe_dead(dead) if dead else self._describe_silent(seconds, answers)
            self._kill()
            raise LostRankError(lost)
        is_same = len(failed) == self.world and len({str(answers[rank]) for rank in failed}) == 1
        error = answers[failed[0]] if is_same else _name_rank(answers[failed[0]], failed[0])
        if len(failed) < self.world:
            self._kill()
            self.restarts += 1
            if self.restarts > MAX_RESTARTS and isinstance(error, TargetError):
                raise LostRankError(error)
        raise error

    def _collect(self, answers: dict[int, Any], deadline: float) -> None:
        """Collect the answers in the order in which they come."""
        while len(answers) < self.world:
            silent = [rank for rank in range(self.world) if rank not in answers]
            ready = wait([self.connections[rank] for rank in silent], max(deadline - time.monotonic(), 0.0))
            if not ready:
                return
            for rank in [rank for rank in silent if self.connections[rank] in ready]:
                try:
                    answers[rank] = self.connections[rank].recv()
                except (EOFError, OSError):
                    answers[rank] = EOFError()
                if isinstance(answers[rank], Exception):
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)

    def _describe_dead(self, ranks: list[int]) -> TargetError:
        rank = ranks[0]
        self.processes[rank].join()
        code = self.processes[rank].exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return RankDiedError(f"rank {rank} of {self.world} {how}, without an answer")

    def _describe_silent(self, seconds: float, answers: dict[int, Any]) -> TargetError:
        silent = [rank for rank in range(self.world) if rank not in answers]
        time.sleep(min(MARGIN, seconds / 2))  # until the ranks have recorded where they are
        places = {rank: read_place(Watch(str(self._record(rank)), 0.0), serve.__name__) for rank in silent}
        names = ", ".join(map(str, silent))
        finished = f", and rank{'s' if len(answers) > 1 else ''} {', '.join(map(str, sorted(answers)))} did" if answers else ""
        return RankTimeoutError(
            f"rank{'s' if len(silent) > 1 else ''} {names} of {self.world} did not return within {seconds:g} s{finished}:"
            " the ranks wait for each other if one calls a collective that another does not, or with another shape;"
            " TORCH_DISTRIBUTED_DEBUG=DETAIL names it (a larger budget waits longer)",
            "\n".join(f"rank {rank}: {place or 'in code that is not yours'}" for rank, place in places.items()),
        )


def _name_rank(error: Exception, rank: int) -> Exception:
    """Name the rank in an error."""
    error.args = (f"rank {rank}: {error.args[0]}", *error.args[1:])
    return error


@contextmanager
def _hiding_main() -> Iterator[None]:
    """Have processes that start in this block not import the main module, which may be a command or a whole script."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
