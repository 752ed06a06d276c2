"""Times of the checkers on a target, taken in turns with the bare calls."""

from __future__ import annotations

import gc
import sys
import time
import timeit
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import targets
from numpy.typing import NDArray
from targets import CHECKERS, FULL_MODE, PROBE_MODE, TORCH_FAST, TORCH_SLOW, Problem

FULL_ROUNDS, QUICK_ROUNDS = (5, 25, 3.0), (2, 5, 1.0)  # least and most rounds, and the seconds after which no round is added
SINGLE_ROUND_SECONDS = 120.0  # if the first turn takes longer than this, there is only one round
BARE_SECONDS = 0.02  # seconds that each kind of bare calls is repeated for in a round, with at least one call
GRADCHECK_IN, TORCH_IN = {"full": FULL_MODE, "probe": PROBE_MODE}, {"full": TORCH_SLOW, "probe": TORCH_FAST}


@dataclass(frozen=True, eq=False)
class Session:
    """The times of gradcheck in one mode, of its rivals and of the bare calls on a target, taken in turns.

    Attributes:
        seconds: times in each round, by checker and for the bare calls: 'forward' is a forward call in float64, 'backward' a
            forward and backward call in float64, 'native' one in the target's own dtype if that is float32 (else 0).
        evaluations: the evaluations that gradcheck reports.
        calls: how often gradcheck called the target.
        passed: whether each checker passes the target.
    """

    name: str
    problem: Problem
    mode: str
    seconds: Mapping[str, NDArray[np.float64]]
    evaluations: int
    calls: targets.Calls
    passed: Mapping[str, bool]

    @property
    def ours(self) -> NDArray[np.float64]:
        """The seconds of gradcheck's check in each round."""
        return self.seconds[GRADCHECK_IN[self.mode]]

    @property
    def floor(self) -> NDArray[np.float64]:
        """The seconds of as many bare forward calls as gradcheck evaluates, and of one vjp in each dtype."""
        return self.evaluations * self.seconds["forward"] + self.seconds["backward"] + self.seconds["native"]

    def speedup(self, rival: str) -> float:
        """Compute how many times as long as gradcheck a rival takes."""
        return float(np.median(self.seconds[rival] / self.ours))

    @property
    def floor_ratio(self) -> float:
        """Gradcheck's time over the floor's."""
        return float(np.median(self.ours / self.floor))

    @property
    def forward_equivalents(self) -> float:
        """Gradcheck's time without one bare backward call in float64, in units of a bare forward call."""
        forward = self.seconds["forward"]
        return float(np.median((self.ours - (self.seconds["backward"] - forward)) / forward))


def time_target(name: str, problem: Problem, mode: str, rivals: Sequence[str], rounds: tuple[int, int, float]) -> Session:
    """Run everything once, counting the calls of gradcheck; then take times in rounds, one checker after the other."""
    calls, began = targets.Calls(), time.perf_counter()
    result = targets.count_calls(problem, calls, lambda p: targets.run_gradcheck(p, mode))
    passed = {GRADCHECK_IN[mode]: result.ok, **{rival: bool(CHECKERS[rival](problem)) for rival in rivals}}
    bare = {"forward": problem.forward, "backward": problem.backward}
    if problem.is_float32:
        bare["native"] = lambda: problem.backward(native=True)
    jobs: dict[str, tuple[Callable[[], Any], int]] = {who: (lambda who=who: CHECKERS[who](problem), 1) for who in passed}  # type: ignore[misc]
    jobs |= {name: (job, max(1, int(BARE_SECONDS / time_call(job, 3)))) for name, job in bare.items()}
    (least, most, enough), first, began = rounds, time.perf_counter() - began, time.perf_counter()
    times_of: dict[str, list[float]] = {who: [] for who in jobs}
    for turn in range(most):
        if turn >= (1 if first > SINGLE_ROUND_SECONDS else least) and time.perf_counter() - began > enough:
            break
        for who, (job, times) in jobs.items():
            times_of[who].append(time_call(job, times))
    seconds = {"native": np.zeros(1), **{who: np.array(seconds) for who, seconds in times_of.items()}}
    session = Session(name, problem, mode, seconds, result.evaluations, calls, passed)
    summary = ", ".join(f"{who} {format_duration(times_of[who])}" for who in passed)
    sys.stderr.write(
        f"{name}, {problem.entries:,}: {summary}; floor {format_duration(session.floor)}; {session.ours.size} rounds\n"
    )
    return session


def time_call(job: Callable[[], Any], times: int = 1) -> float:
    """Measure the wall time of a call: the mean of several in a row, after one that warms the caches."""
    gc.collect()
    if times > 1:
        job()
    return timeit.timeit(job, "gc.enable()", number=times) / times


def format_duration(seconds: Iterable[float]) -> str:
    """Format the median of some times with a unit."""
    median = float(np.median(list(seconds)))
    return f"{median:.3g} s" if median >= 1 else f"{1e3 * median:.3g} ms" if median >= 1e-3 else f"{1e6 * median:.3g} µs"
