"""Study: what a check costs. Time, calls and memory, compared with other checkers on the same targets and with the bare calls.

    python reports/speed/study.py            # writes reports/speed.md and its chart; a quarter of an hour on one core
    python reports/speed/study.py --quick    # a trial run: fewer rounds, and the largest module left out

It needs JAX, Matplotlib, numdifftools and SciPy. It restarts itself with one thread, and once more for each peak of memory.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import math
import os
import platform
import pstats
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
import gpu
import study_page
import targets
from misjudged_gradients import FACTORS, MISJUDGED, Judgement
from peak_memory import measure_peak_growth
from targets import CHECKERS, FULL_MODE, JAX_CHECK_GRADS, LARGE_GPT, PROBE_MODE, TORCH_FAST, TORCH_SLOW
from timing import FULL_ROUNDS, GRADCHECK_IN, QUICK_ROUNDS, TORCH_IN, Session, format_duration, time_target

ONE_CORE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
LARGE_ENTRIES = 100_000  # checks of at least this many input entries are compared with the floor
# The requirements, as `list_requirements` states them.
MIN_SPEEDUP, MAX_MEMORY_SHARE, MAX_SLOWDOWN, MAX_OVER_FLOOR = 5.0, 0.2, 1.5, 1.3
MAX_CALLS_TO_NAME, MAX_FORWARD_EQUIVALENTS, MAX_TIMES_PARAMETERS = 300, 16.0, 6.0
MEMORY_RESOLUTION = 2 * 2**20  # bytes; smaller growth of memory may be chance
GROWTH = {"elementwise": targets.make_elementwise, "scalar loss": targets.make_scalar_loss}
SIZES = {"full": (10, 32, 100, 316, 1000), "probe": tuple(10**k for k in range(2, 8))}
COLOURS = dict(
    zip(
        (FULL_MODE, PROBE_MODE, TORCH_SLOW, TORCH_FAST, "floor"),
        ("#0072b2", "#0072b2", "#d55e00", "#d55e00", "black"),
        strict=True,
    )
)
WHOLE_CHECK_SHARE = 0.7  # a step of gradcheck with a larger share of the time is nearly the whole check, and not listed
FUNCTIONS_SHOWN = 4  # functions in a line of a profile

Memory = dict[tuple[str, str], int]  # bytes, by target and checker
Requirement = tuple[str, str, bool]  # what was asked, what was found, whether it is met


def measure_memory(name: str, checker: str) -> int:
    """Measure by how many bytes a check makes the peak memory of a fresh process grow."""
    command = [sys.executable, __file__, "--measure-memory", name, checker]
    growth = int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    sys.stderr.write(f"{name}, {checker}: {_format_mib(growth)}\n")
    return growth


def _yes_or_no(met: bool) -> str:
    return "yes" if met else "**no**"


def _format_mib(size: int | None) -> str:
    return "-" if size is None else "below 2 MiB" if size < MEMORY_RESOLUTION else f"{size / 2**20:,.0f} MiB"


def make_times_table(sessions: Sequence[Session]) -> list[str]:
    """Make the table of the times of gradcheck, of its rivals and of the floor."""
    rivals = list(dict.fromkeys(who for session in sessions for who in session.passed if who not in GRADCHECK_IN.values()))
    rows = []
    for session in sessions:
        calls = (f"{session.evaluations:,}", f"{session.calls.forward:,}, {session.calls.backward or '-'}")
        floor = (
            f"{format_duration(session.floor)}, {session.floor_ratio:.3g}×",
            f"{np.median(session.ours / session.seconds['forward']):,.0f}",
            session.ours.size,
        )
        size = f"{session.problem.entries:,}, {session.problem.outputs:,}"
        rows.append(
            (session.name, size, *(_make_cell(session, who) for who in (GRADCHECK_IN[session.mode], *rivals)), *calls, *floor)
        )
    columns = ("target", "numbers in, out", "gradcheck", *(f"{who}, over gradcheck" for who in rivals), "evaluations")
    more = ("calls forward, backward", "floor, gradcheck over it", "in forward calls", "rounds")
    return study_page.make_table((*columns, *more), rows)


def _make_cell(session: Session, who: str) -> str:
    if who not in session.passed:
        return "-"
    over = "" if who == GRADCHECK_IN[session.mode] else f", {session.speedup(who):.3g}×"
    return f"{format_duration(session.seconds[who])}{over}" + ("" if session.passed[who] else " (does not pass)")


def make_memory_table(memory: Memory) -> list[str]:
    """Make the table of the growth of peak memory."""
    checkers = [c for c in CHECKERS if any(c == who for _, who in memory)]
    names = dict.fromkeys(name for name, _ in memory)
    return study_page.make_table(
        ("target", *checkers), [(n, *(_format_mib(memory.get((n, c))) for c in checkers)) for n in names]
    )


def make_judgements_table(judgements: Sequence[Judgement]) -> list[str]:
    """Make the table of the checkers that judge a gradient rightly."""
    who, named = (
        (PROBE_MODE, TORCH_FAST, JAX_CHECK_GRADS),
        {judgement.text: ", ".join(f"{i:,}" for i in judgement.named[:FUNCTIONS_SHOWN]) or "-" for judgement in judgements},
    )
    rows = [
        (
            judgement.text,
            *(_yes_or_no(judgement.right[w]) for w in who),
            judgement.evaluations,
            judgement.forward,
            named[judgement.text],
        )
        for judgement in judgements
    ]
    return study_page.make_table(("gradient", *who, "evaluations", "calls forward", "entries named"), rows)


def _list_missed(session: Session) -> list[str]:
    rival = TORCH_IN[session.mode]
    over = 1 / session.speedup(rival) if rival in session.passed else 0.0
    missed = [f"{over:.2g}× {rival}"] if over > {"full": 1 / MIN_SPEEDUP, "probe": MAX_SLOWDOWN}[session.mode] else []
    return missed + (
        [f"{session.floor_ratio:.3g}× the floor"]
        if session.problem.entries >= LARGE_ENTRIES and session.floor_ratio > MAX_OVER_FLOOR
        else []
    )


def make_bounds_table(sessions: Sequence[Session]) -> list[str]:
    """Make the table of the sessions that miss a requirement, with the share of the bare calls and a profile."""
    rows = [
        (
            f"{session.name}, {session.mode}",
            f"{session.problem.entries:,}",
            ", ".join(_list_missed(session)),
            f"{100 / session.floor_ratio:.0f} %",
            *profile_check(session),
        )
        for session in sessions
        if _list_missed(session)
    ]
    columns = ("target, mode", "numbers in", "missed", "bare calls", "functions, by own time", "steps, with all they call")
    return study_page.make_table(columns, rows) if rows else []


def profile_check(session: Session) -> tuple[str, str]:
    """Profile a check; return the share of its time in single functions, and in steps of gradcheck with all they call."""
    profile = cProfile.Profile()
    profile.runcall(targets.run_gradcheck, session.problem, session.mode)
    stats: dict[tuple[str, int, str], Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(entry[2] for entry in stats.values())

    def largest(share: int, keep: Callable[[str, float], bool]) -> str:
        parts = [(e[share] / whole, *key) for key, e in stats.items() if keep(f"{key[0]}:{key[2]}", e[share] / whole)]
        shown = sorted(parts, reverse=True)[:FUNCTIONS_SHOWN]
        return ", ".join(f"`{Path(file).stem}:{name}` {100 * part:.0f} %".replace("~:", "") for part, file, _, name in shown)

    steps = largest(3, lambda name, part: "gradcheck/" in name and "<" not in name and part < WHOLE_CHECK_SHARE)
    return largest(2, lambda name, part: True), steps


def format_spread(values: Mapping[str, float]) -> str:
    """Format the geometric mean, the smallest and the largest of some ratios."""
    if not values:
        return ""
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    return f"geometric mean {_geometric_mean(values):.3g}; from {values[low]:.3g} ({low}) to {values[high]:.3g} ({high})"


def _geometric_mean(values: Mapping[str, float]) -> float:
    return float(np.exp(np.mean(np.log(list(values.values()))))) if values else math.nan


def list_requirements(
    sessions: list[Session], memory: Memory, judgements: list[Judgement], growth_sessions: list[Session]
) -> Iterator[Requirement]:
    """List the requirements, what was found, and whether they are met; nothing is found for what was not run."""
    speedup = {session.name: session.speedup(TORCH_SLOW) for session in sessions if TORCH_SLOW in session.passed}
    yield (
        f"full mode {MIN_SPEEDUP:g} times faster than torch's slow mode",
        format_spread(speedup),
        _geometric_mean(speedup) >= MIN_SPEEDUP,
    )
    floored = {key: max(size, MEMORY_RESOLUTION) for key, size in memory.items()}
    shares = {n: floored[n, FULL_MODE] / size for (n, who), size in floored.items() if who == TORCH_SLOW}
    yield (
        f"with at most {MAX_MEMORY_SHARE:g} of its peak memory",
        format_spread(shares),
        _geometric_mean(shares) <= MAX_MEMORY_SHARE,
    )
    slower = {session.name: 1 / session.speedup(TORCH_FAST) for session in sessions if TORCH_FAST in session.passed}
    yield (
        f"probe mode at most {MAX_SLOWDOWN:g} times torch's fast mode",
        format_spread(slower),
        _geometric_mean(slower) <= MAX_SLOWDOWN,
    )
    missed_by_torch = [judgement.right[PROBE_MODE] for judgement in judgements if not judgement.right[TORCH_FAST]]
    text = f"{sum(missed_by_torch)} of {len(missed_by_torch)} that it misjudges" if judgements else ""
    yield "while catching what that misses", text, all(missed_by_torch)
    over = {
        f"{session.name}, {session.problem.entries:,}": session.floor_ratio
        for session in (*sessions, *growth_sessions)
        if session.problem.entries >= LARGE_ENTRIES
    }
    within = max(over.values(), default=0.0) <= MAX_OVER_FLOOR
    yield f"at most {MAX_OVER_FLOOR:g} times the floor from 1e5 entries up", format_spread(over), within
    for judgement in (judgement for judgement in judgements if judgement.text.startswith("three")):
        named = len(set(judgement.named) & set(FACTORS))
        text = f"{named} named, {judgement.evaluations} evaluations, {judgement.forward} calls in all"
        yield (
            f"{judgement.text}: named within {MAX_CALLS_TO_NAME} forward calls",
            text,
            named == 3 and judgement.forward <= MAX_CALLS_TO_NAME,
        )
    for session in (session for session in sessions if session.name == LARGE_GPT):
        forward, recorded, backward = session.calls.forward, session.calls.recorded, session.calls.backward
        calls = f"{forward} calls forward, {recorded} of them recorded, {backward} backward, one in each dtype"
        requirement = f"{LARGE_GPT}: PASS in {MAX_FORWARD_EQUIVALENTS:g} forward-equivalents and one backward"
        yield (
            f"{requirement}, by calls",
            calls,
            session.passed[PROBE_MODE] and forward <= MAX_FORWARD_EQUIVALENTS and backward <= 2,
        )
        text = f"the time of one backward and {session.forward_equivalents:.3g} forward calls"
        yield (
            f"{requirement}, by time",
            text,
            session.passed[PROBE_MODE] and session.forward_equivalents <= MAX_FORWARD_EQUIVALENTS,
        )
        times = memory[LARGE_GPT, PROBE_MODE] / (8 * session.problem.entries)
        yield (
            f"in at most {MAX_TIMES_PARAMETERS:g} times its float64 parameters",
            f"{times:.3g} times",
            times <= MAX_TIMES_PARAMETERS,
        )


def draw_growth(growth_sessions: Sequence[Session], path: Path) -> list[str]:
    """Draw time against size, with a panel for each mode and function."""
    figure = Figure(figsize=(9, 7))
    for row, mode in zip(figure.subplots(2, 2, sharey="row"), SIZES, strict=True):
        for panel, name in zip(row, GROWTH, strict=True):
            line = [session for session in growth_sessions if (session.mode, session.name) == (mode, name)]
            times = {who: [np.median(session.seconds[who]) for session in line] for who in (GRADCHECK_IN[mode], TORCH_IN[mode])}
            times["floor"] = [np.median(session.floor) for session in line]
            for who, seconds in times.items():
                panel.plot(
                    [session.problem.entries for session in line], seconds, "o-", color=COLOURS[who], label=who, markersize=4
                )
            panel.set(xscale="log", yscale="log", title=f"{name}, {mode} mode", xlabel="input numbers", ylabel="seconds")
            panel.grid(alpha=0.3)
            panel.legend(fontsize=8)
    figure.tight_layout()
    return study_page.save_chart(
        figure, path, "Growth", "time of a check against the number of inputs, with torch's and the floor"
    )


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

torch's fast mode is not run on the largest module: a trial run had not finished after seven minutes, and used 12 GB.

*Memory*: by how much the peak of the resident memory of a fresh process grows during a check, after a check of a small target
of the same kind and a bare call: what is loaded at first use, some 90 MiB for a module, is not counted. torch's float64 copy of
a module is made before. Ratios count less than 2 MiB, the resolution, as 2 MiB.
"""


def make_page(
    sessions: list[Session],
    memory: Memory,
    judgements: list[Judgement],
    growth_sessions: list[Session],
    out: Path,
    options: str,
) -> list[str]:
    """Make the page; `options` are those of the command line."""
    packages = ("gradcheck", "torch", "numpy", "jax", "numdifftools", "scipy")
    requirement_rows = [
        (requirement, text or "-", _yes_or_no(met) if text else "not run")
        for requirement, text, met in list_requirements(sessions, memory, judgements, growth_sessions)
    ]
    numpy = [session for session in sessions if session.problem.gradient is not None]
    full, probe = ([session for session in sessions if session.mode == mode and session not in numpy] for mode in GRADCHECK_IN)
    large_growth = (session for session in growth_sessions if session.problem.entries >= LARGE_ENTRIES)
    sections = {
        "Full mode": make_times_table(full) if full else [],
        "Probe mode": make_times_table(probe) if probe else [],
        "Full mode in NumPy": make_times_table(numpy) if numpy else [],
        "What bounds it where an ask is missed": make_bounds_table([*sessions, *large_growth]),
        "Peak memory": make_memory_table(memory) if memory else [],
        "Gradients that are easily misjudged": make_judgements_table(judgements) if judgements else [],
        "Growth": draw_growth(growth_sessions, out.with_name("speed_growth.svg")) if growth_sessions else [],
        **{
            f"Growth, {mode} mode": make_times_table([session for session in growth_sessions if session.mode == mode])
            for mode in GRADCHECK_IN
            if growth_sessions
        },
        "On a GPU": gpu.make_section(),
        "How it is measured": METHOD.strip().splitlines(),
    }
    return [
        *study_page.make_heading("Speed: what a check costs", __file__, packages, options),
        f"{platform.platform()}, {_read_processor()}, one thread.",
        "",
        *study_page.make_table(("asked", "found", "met"), requirement_rows),
        "",
        *(line for title, content in sections.items() if content for line in (f"## {title}", "", *content, "")),
    ]


def _read_processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    """Run the study and write its page; or measure one peak of memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="targets whose name contains this, or 'growth' or 'misjudged'")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and the largest module left out")
    parser.add_argument("--out", default=str(study_page.page_path(__file__)))
    parser.add_argument("--measure-memory", nargs=2, metavar=("TARGET", "CHECKER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ONE_CORE.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_CORE})
    warnings.simplefilter("ignore")
    gc.freeze()  # the garbage collection before every timed call need not look through the modules loaded by now
    if arguments.measure_memory:
        sys.stdout.write(f"{measure_peak_growth(*arguments.measure_memory)}\n")
        return
    began, rounds = time.perf_counter(), QUICK_ROUNDS if arguments.quick else FULL_ROUNDS
    chosen_targets = [t for t in targets.TARGETS if arguments.only in t.name and not (arguments.quick and t.name == LARGE_GPT)]
    sessions = [
        time_target(t.name, t.build(), mode, rivals, rounds) for t in chosen_targets for mode, rivals in t.rivals.items()
    ]
    judgements = [gradient.judge() for gradient in MISJUDGED if arguments.only in "misjudged"]
    sizes = [
        (mode, n)
        for mode in SIZES
        for n in SIZES[mode]
        if arguments.only in "growth" and (n <= LARGE_ENTRIES or not arguments.quick)
    ]
    growth_sessions = [time_target(name, make(n), m, (TORCH_IN[m],), rounds) for name, make in GROWTH.items() for m, n in sizes]
    memory = {
        (t.name, c): measure_memory(t.name, c)
        for t in chosen_targets
        for m, r in t.rivals.items()
        for c in (GRADCHECK_IN[m], *r)
    }
    options = " ".join([*(["--quick"] if arguments.quick else []), *([f"--only {arguments.only!r}"] if arguments.only else [])])
    lines = make_page(sessions, memory, judgements, growth_sessions, Path(arguments.out), options)
    study_page.write_page(lines, Path(arguments.out))
    sys.stdout.write("\n".join([*lines[6 : lines.index("", 6)], f"{time.perf_counter() - began:.0f} s"]) + "\n")


if __name__ == "__main__":
    main()
