"""Study: what a check costs. Time, calls and memory beside other checkers on the same targets, and beside the bare calls.

    python reports/speed.py            # writes reports/speed.md and its chart; about a quarter of an hour on one core
    python reports/speed.py --quick    # a test drive: fewer rounds, and the largest module left out

It needs JAX, Matplotlib, numdifftools and SciPy. It starts itself again with one thread, and once more for each peak of memory.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import math
import os
import platform
import pstats
import resource
import subprocess
import sys
import time
import timeit
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import page
import speed_gpu
import speed_targets as at
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from speed_targets import FAST, FULL, JAX, LARGE_GPT, PROBE, RUNS, SLOW, Problem

from gradcheck.backends.memory import given_back

ONE_CORE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
ROUNDS, QUICK = (5, 25, 3.0), (2, 5, 1.0)  # at least, at most, and the seconds that more than the least may take
LONG = 120.0  # seconds of a round from which on there is only one
BARE = 0.02  # seconds of each kind of bare calls in a round, at least one call
LARGE = 100_000  # entries from which on a check is held against the floor
FASTER, SHARE, SLOWER, OVER_FLOOR = 5.0, 0.2, 1.5, 1.3  # what is asked
NAMED_WITHIN, EQUIVALENTS, TIMES_PARAMETERS = 600, 16.0, 6.0
RESOLUTION = 2 * 2**20  # bytes of memory below which growth is not told from chance
CHECKER, RIVAL = {"full": FULL, "probe": PROBE}, {"full": SLOW, "probe": FAST}
GROWTH = {"elementwise": at.elementwise, "scalar loss": at.scalar}
SIZES = {"full": (10, 32, 100, 316, 1000), "probe": tuple(10**k for k in range(2, 8))}
COLOURS = dict(zip((FULL, PROBE, SLOW, FAST, "floor"), ("#0072b2", "#0072b2", "#d55e00", "#d55e00", "black"), strict=True))
WHOLE = 0.7  # share from which on a step of gradcheck is all but the check itself
SHOWN = 4  # functions in a line of a profile


@dataclass(frozen=True, eq=False)
class Session:
    """A target that gradcheck checks in one mode, its rivals and the bare calls, in turn.

    Attributes:
        seconds: by checker, and of 'forward', 'backward' and 'own': a bare forward call in float64, a bare forward and backward
            call in float64, and one in the target's own dtype where that is float32 (else 0); in each round.
        calls: how often gradcheck called the target.
        passed: what each checker said.
    """

    name: str
    problem: Problem
    mode: str
    seconds: Mapping[str, NDArray[np.float64]]
    evaluations: int
    calls: at.Calls
    passed: Mapping[str, bool]

    @property
    def ours(self) -> NDArray[np.float64]:
        """Seconds of our check."""
        return self.seconds[CHECKER[self.mode]]

    @property
    def floor(self) -> NDArray[np.float64]:
        """The bare calls of as many evaluations, and of one vjp in each dtype."""
        return self.evaluations * self.seconds["forward"] + self.seconds["backward"] + self.seconds["own"]

    def faster(self, rival: str) -> float:
        """How many times as long as ours a rival takes."""
        return float(np.median(self.seconds[rival] / self.ours))

    @property
    def over_floor(self) -> float:
        """Our time over the floor's."""
        return float(np.median(self.ours / self.floor))

    @property
    def but_one_backward(self) -> float:
        """Our time without one bare backward call in float64, in bare forward calls."""
        forward = self.seconds["forward"]
        return float(np.median((self.ours - (self.seconds["backward"] - forward)) / forward))


def session(name: str, problem: Problem, mode: str, rivals: Sequence[str], rounds: tuple[int, int, float]) -> Session:
    """Run everything once, ours with the calls counted; then in rounds, one after the other."""
    calls, began = at.Calls(), time.perf_counter()
    result = at.counted(problem, calls, lambda p: at.ours(p, mode))
    passed = {CHECKER[mode]: result.ok, **{rival: bool(RUNS[rival](problem)) for rival in rivals}}
    bare = {"forward": problem.forward, "backward": problem.backward}
    if problem.narrow:
        bare["own"] = lambda: problem.backward(own=True)
    jobs: dict[str, tuple[Callable[[], Any], int]] = {who: (lambda who=who: RUNS[who](problem), 1) for who in passed}  # type: ignore[misc]
    jobs |= {name: (job, max(1, int(BARE / seconds_of(job, 3)))) for name, job in bare.items()}
    (least, most, enough), first, began = rounds, time.perf_counter() - began, time.perf_counter()
    took: dict[str, list[float]] = {who: [] for who in jobs}
    for turn in range(most):
        if turn >= (1 if first > LONG else least) and time.perf_counter() - began > enough:
            break
        for who, (job, times) in jobs.items():
            took[who].append(seconds_of(job, times))
    seconds = {"own": np.zeros(1), **{who: np.array(times) for who, times in took.items()}}
    s = Session(name, problem, mode, seconds, result.evaluations, calls, passed)
    told = ", ".join(f"{who} {_duration(took[who])}" for who in passed)
    sys.stderr.write(f"{name}, {problem.entries:,}: {told}; floor {_duration(s.floor)}; {s.ours.size} rounds\n")
    return s


def seconds_of(job: Callable[[], Any], times: int = 1) -> float:
    """Wall time of a call: the mean of some in a row, after one that warms the caches."""
    gc.collect()
    if times > 1:
        job()
    return timeit.timeit(job, "gc.enable()", number=times) / times


def _duration(seconds: Iterable[float]) -> str:
    median = float(np.median(list(seconds)))
    return f"{median:.3g} s" if median >= 1 else f"{1e3 * median:.3g} ms" if median >= 1e-3 else f"{1e6 * median:.3g} µs"


Memory = dict[tuple[str, str], int]  # bytes, by target and checker
Ask = tuple[str, str, bool]  # what was asked, what was found, whether it is met


def measured(name: str, checker: str) -> int:
    """Bytes by which a check lets the peak of a fresh process's memory grow."""
    command = [sys.executable, __file__, "--measure-memory", name, checker]
    found = int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    sys.stderr.write(f"{name}, {checker}: {_mib(found)}\n")
    return found


def growth_of_peak(name: str, checker: str) -> int:
    """The same in this process: after a check of a small target, which loads what is loaded, and a bare call."""
    target = next(t for t in at.TARGETS if t.name == name)
    problem = target.build()
    RUNS[checker](target.small())
    with torch.no_grad():
        problem.fn(*problem.inputs)
    if checker not in CHECKER.values():
        problem.forward()  # makes the float64 copy that torch is given
    gc.collect()
    given_back()  # what was freed before must not be there to be used again unseen
    before = peak(reset=True)
    RUNS[checker](problem)
    return max(peak() - before, 0)


def peak(*, reset: bool = False) -> int:
    """The largest resident memory of this process so far, in bytes; since the last reset, where the system can."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return next(1024 * int(line.split()[1]) for line in status.read_text(encoding="ascii").splitlines() if "VmHWM" in line)


def _yes(so: bool) -> str:
    return "yes" if so else "**no**"


def _mib(size: int | None) -> str:
    return "-" if size is None else "below 2 MiB" if size < RESOLUTION else f"{size / 2**20:,.0f} MiB"


def times_table(sessions: Sequence[Session]) -> list[str]:
    """Ours, the rivals' and the floor."""
    rivals = list(dict.fromkeys(who for s in sessions for who in s.passed if who not in CHECKER.values()))
    rows = []
    for s in sessions:
        calls = (f"{s.evaluations:,}", f"{s.calls.forward:,}, {s.calls.backward or '-'}")
        floor = (f"{_duration(s.floor)}, {s.over_floor:.3g}×", f"{np.median(s.ours / s.seconds['forward']):,.0f}", s.ours.size)
        size = f"{s.problem.entries:,}, {s.problem.outputs:,}"
        rows.append((s.name, size, *(_cell(s, who) for who in (CHECKER[s.mode], *rivals)), *calls, *floor))
    columns = ("target", "numbers in, out", "gradcheck", *(f"{who}, over gradcheck" for who in rivals), "evaluations")
    more = ("calls forward, backward", "floor, gradcheck over it", "in forward calls", "rounds")
    return page.table((*columns, *more), rows)


def _cell(s: Session, who: str) -> str:
    if who not in s.passed:
        return "-"
    over = "" if who == CHECKER[s.mode] else f", {s.faster(who):.3g}×"
    return f"{_duration(s.seconds[who])}{over}" + ("" if s.passed[who] else " (does not pass)")


def memory_table(memory: Memory) -> list[str]:
    """The growth of peak memory."""
    checkers = [c for c in RUNS if any(c == who for _, who in memory)]
    names = dict.fromkeys(name for name, _ in memory)
    return page.table(("target", *checkers), [(n, *(_mib(memory.get((n, c))) for c in checkers)) for n in names])


def judged_table(found: Sequence[at.Judged]) -> list[str]:
    """Who judges which gradient rightly."""
    who, named = (PROBE, FAST, JAX), {j.text: ", ".join(f"{i:,}" for i in j.named[:SHOWN]) or "-" for j in found}
    rows = [(j.text, *(_yes(j.right[w]) for w in who), j.evaluations, j.forward, named[j.text]) for j in found]
    return page.table(("gradient", *who, "evaluations", "calls forward", "entries named"), rows)


def _missed(s: Session) -> list[str]:
    rival = RIVAL[s.mode]
    over = 1 / s.faster(rival) if rival in s.passed else 0.0
    found = [f"{over:.2g}× {rival}"] if over > {"full": 1 / FASTER, "probe": SLOWER}[s.mode] else []
    return found + ([f"{s.over_floor:.3g}× the floor"] if s.problem.entries >= LARGE and s.over_floor > OVER_FLOOR else [])


def bounds_table(sessions: Sequence[Session]) -> list[str]:
    """Of the sessions that miss what was asked: the bare calls' share of the time, and what a profile finds."""
    shown = [(s, f"{s.name}, {s.mode}", f"{s.problem.entries:,}", ", ".join(_missed(s))) for s in sessions if _missed(s)]
    rows = [(*told, f"{100 / s.over_floor:.0f} %", *profiled(s)) for s, *told in shown]
    columns = ("target, mode", "numbers in", "missed", "bare calls", "functions, by own time", "steps, with all they call")
    return page.table(columns, rows) if rows else []


def profiled(s: Session) -> tuple[str, str]:
    """Where a check spends its time under the profiler: in single functions, and in steps of gradcheck."""
    profile = cProfile.Profile()
    profile.runcall(at.ours, s.problem, s.mode)
    stats: dict[tuple[str, int, str], Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(entry[2] for entry in stats.values())

    def largest(share: int, keep: Callable[[str, float], bool]) -> str:
        parts = [(e[share] / whole, *key) for key, e in stats.items() if keep(f"{key[0]}:{key[2]}", e[share] / whole)]
        shown = sorted(parts, reverse=True)[:SHOWN]
        return ", ".join(f"`{Path(file).stem}:{name}` {100 * part:.0f} %".replace("~:", "") for part, file, _, name in shown)

    steps = largest(3, lambda name, part: "gradcheck/" in name and "<" not in name and part < WHOLE)
    return largest(2, lambda name, part: True), steps


def spread(values: Mapping[str, float]) -> str:
    """The geometric mean of some ratios, the least and the largest."""
    if not values:
        return ""
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    return f"geometric mean {_mean(values):.3g}; from {values[low]:.3g} ({low}) to {values[high]:.3g} ({high})"


def _mean(values: Mapping[str, float]) -> float:
    return float(np.exp(np.mean(np.log(list(values.values()))))) if values else math.nan


def asks(sessions: list[Session], memory: Memory, found: list[at.Judged], grown: list[Session]) -> Iterator[Ask]:
    """What was asked, what was found, and whether it is so; of what was not run nothing is found."""
    faster = {s.name: s.faster(SLOW) for s in sessions if SLOW in s.passed}
    yield f"full mode {FASTER:g} times faster than torch's slow mode", spread(faster), _mean(faster) >= FASTER
    floored = {key: max(size, RESOLUTION) for key, size in memory.items()}
    shares = {n: floored[n, FULL] / size for (n, who), size in floored.items() if who == SLOW}
    yield f"with at most {SHARE:g} of its peak memory", spread(shares), _mean(shares) <= SHARE
    slower = {s.name: 1 / s.faster(FAST) for s in sessions if FAST in s.passed}
    yield f"probe mode at most {SLOWER:g} times torch's fast mode", spread(slower), _mean(slower) <= SLOWER
    missed_by_torch = [j.right[PROBE] for j in found if not j.right[FAST]]
    text = f"{sum(missed_by_torch)} of {len(missed_by_torch)} that it misjudges" if found else ""
    yield "while catching what that misses", text, all(missed_by_torch)
    over = {f"{s.name}, {s.problem.entries:,}": s.over_floor for s in (*sessions, *grown) if s.problem.entries >= LARGE}
    within = max(over.values(), default=0.0) <= OVER_FLOOR
    yield f"at most {OVER_FLOOR:g} times the floor from 1e5 entries up", spread(over), within
    for j in (j for j in found if j.text.startswith("three")):
        named = len(set(j.named) & set(at.FACTORS))
        text = f"{named} named, {j.evaluations} evaluations, {j.forward} calls in all"
        yield f"{j.text}: named within {NAMED_WITHIN} forward calls", text, named == 3 and j.forward <= NAMED_WITHIN
    for s in (s for s in sessions if s.name == LARGE_GPT):
        forward, recorded, backward = s.calls.forward, s.calls.recorded, s.calls.backward
        calls = f"{forward} calls forward, {recorded} of them recorded, {backward} backward, one in each dtype"
        asked = f"{LARGE_GPT}: PASS in {EQUIVALENTS:g} forward-equivalents and one backward"
        yield f"{asked}, by calls", calls, s.passed[PROBE] and forward <= EQUIVALENTS and backward <= 2
        text = f"the time of one backward and {s.but_one_backward:.3g} forward calls"
        yield f"{asked}, by time", text, s.passed[PROBE] and s.but_one_backward <= EQUIVALENTS
        times = memory[LARGE_GPT, PROBE] / (8 * s.problem.entries)
        yield f"in at most {TIMES_PARAMETERS:g} times its float64 parameters", f"{times:.3g} times", times <= TIMES_PARAMETERS


def growth_chart(grown: Sequence[Session], path: Path) -> list[str]:
    """Time against size, a panel for each mode and function."""
    figure = Figure(figsize=(9, 7))
    for row, mode in zip(figure.subplots(2, 2, sharey="row"), SIZES, strict=True):
        for panel, name in zip(row, GROWTH, strict=True):
            line = [s for s in grown if (s.mode, s.name) == (mode, name)]
            times = {who: [np.median(s.seconds[who]) for s in line] for who in (CHECKER[mode], RIVAL[mode])}
            times["floor"] = [np.median(s.floor) for s in line]
            for who, seconds in times.items():
                panel.plot([s.problem.entries for s in line], seconds, "o-", color=COLOURS[who], label=who, markersize=4)
            panel.set(xscale="log", yscale="log", title=f"{name}, {mode} mode", xlabel="input numbers", ylabel="seconds")
            panel.grid(alpha=0.3)
            panel.legend(fontsize=8)
    figure.tight_layout()
    return page.chart(figure, path, "Growth", "time of a check against the number of inputs, beside torch's and the floor")


METHOD = """
One process, one thread. The checkers and the bare calls of a target take turns, round after round, after a turn that is not
timed (JAX compiles in it). A time is the median over the rounds, a ratio the median of the rounds' ratios; `over gradcheck`:
how many times as long as gradcheck that checker takes. *Floor*: the evaluations that gradcheck reports, each at the time of a
bare forward call in float64 without recording, and one bare forward and backward call in float64; for the modules in float32
one more in float32. `in forward calls`: the check's time over that of a bare forward call. Calls were counted in the turn that
is not timed, those inside a vjp among them; a call on a batch of points is one.

Small modules are in float64, as torch's checkers need them; the GPT-like ones are in float32, and torch is given their float64
copy. torch's checkers get a module's parameters as inputs, by `torch.func.functional_call`. The others run at their defaults,
JAX's with `order=1, modes=("rev",)` on a compiled function that has the target's value.

torch's fast mode is not run on the largest module: a trial of it had not come to an end after seven minutes, with 12 GB held.

*Memory*: by how much the peak of the resident memory of a fresh process grows during a check, after a check of a small target
of the same kind and a bare call: what is loaded at first use, some 90 MiB for a module, is not counted. torch's float64 copy of
a module is made before. Ratios count less than 2 MiB, the resolution, as 2 MiB.
"""


def report(
    sessions: list[Session], memory: Memory, found: list[at.Judged], grown: list[Session], out: Path, given: str
) -> list[str]:
    """The page; `given` is what was chosen on the command line."""
    packages = ("gradcheck", "torch", "numpy", "jax", "numdifftools", "scipy")
    told = [(asked, text or "-", _yes(so) if text else "not run") for asked, text, so in asks(sessions, memory, found, grown)]
    numpy = [s for s in sessions if s.problem.gradient is not None]
    full, probe = ([s for s in sessions if s.mode == mode and s not in numpy] for mode in CHECKER)
    sections = {
        "Full mode": times_table(full) if full else [],
        "Probe mode": times_table(probe) if probe else [],
        "Full mode in NumPy": times_table(numpy) if numpy else [],
        "What bounds it where an ask is missed": bounds_table([*sessions, *(s for s in grown if s.problem.entries >= LARGE)]),
        "Peak memory": memory_table(memory) if memory else [],
        "Gradients that are easily misjudged": judged_table(found) if found else [],
        "Growth": growth_chart(grown, out.with_name("speed_growth.svg")) if grown else [],
        **{f"Growth, {mode} mode": times_table([s for s in grown if s.mode == mode]) for mode in CHECKER if grown},
        "On a GPU": speed_gpu.lines(),
        "How it is measured": METHOD.strip().splitlines(),
    }
    return [
        *page.heading("Speed: what a check costs", __file__, packages, given),
        f"{platform.platform()}, {_processor()}, one thread.",
        "",
        *page.table(("asked", "found", "met"), told),
        "",
        *(line for title, content in sections.items() if content for line in (f"## {title}", "", *content, "")),
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    """Run the study and write its page; or measure one peak of memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="targets whose name contains this, or 'growth' or 'misjudged'")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and the largest module left out")
    parser.add_argument("--out", default=str(Path(__file__).with_suffix(".md")))
    parser.add_argument("--measure-memory", nargs=2, metavar=("TARGET", "CHECKER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ONE_CORE.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_CORE})
    warnings.simplefilter("ignore")
    gc.freeze()  # what is loaded by now need not be looked through before every call that is timed
    if given.measure_memory:
        sys.stdout.write(f"{growth_of_peak(*given.measure_memory)}\n")
        return
    began, rounds = time.perf_counter(), QUICK if given.quick else ROUNDS
    targets = [t for t in at.TARGETS if given.only in t.name and not (given.quick and t.name == LARGE_GPT)]
    sessions = [session(t.name, t.build(), mode, rivals, rounds) for t in targets for mode, rivals in t.rivals.items()]
    found = [g.judged() for g in at.MISJUDGED if given.only in "misjudged"]
    sizes = [(mode, n) for mode in SIZES for n in SIZES[mode] if given.only in "growth" and (n <= LARGE or not given.quick)]
    grown = [session(name, make(n), m, (RIVAL[m],), rounds) for name, make in GROWTH.items() for m, n in sizes]
    memory = {(t.name, c): measured(t.name, c) for t in targets for m, r in t.rivals.items() for c in (CHECKER[m], *r)}
    chosen = " ".join([*(["--quick"] if given.quick else []), *([f"--only {given.only!r}"] if given.only else [])])
    lines = report(sessions, memory, found, grown, Path(given.out), chosen)
    page.write(lines, Path(given.out))
    sys.stdout.write("\n".join([*lines[6 : lines.index("", 6)], f"{time.perf_counter() - began:.0f} s"]) + "\n")


if __name__ == "__main__":
    main()
