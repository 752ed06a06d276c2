"""One trial of the detection study: a problem, a fault of some size, and the verdict of every checker."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
from functions import STUDIED_FUNCTIONS, StudiedFunction
from other_checkers import OTHER_CHECKERS
from planted_faults import FAULT_KINDS, GradientRecord, compute_gradients, plant_fault, rms

import gradcheck
from gradcheck import CheckResult, Verdict

MAGNITUDES = [10.0**-k for k in range(9)]
DTYPES = {"float64": torch.float64, "float32": torch.float32}
MIN_CHANGE = 0.05  # a kind of fault is used if it changes some entry by this share of the entry and the root mean square
DEFAULT, FULL, PROBE = "gradcheck, small, by default", "gradcheck, full mode", "gradcheck, probe mode"
TINY = 1e-300  # keeps divisions by zero finite
MIN_RMS_RATIO = 1.1  # in units of rtol; an error closer to rtol than this is decided by the last digits of the evidence
# The backward calls whose gradients a mode judges: full mode one for each of up to 16 outputs, else 4; probe mode 3.
MAX_SEPARATE_OUTPUTS, COMBINED_CALLS, PROBE_CALLS = 16, 4, 3


@dataclass(frozen=True)
class Problem:
    """A function at a point, with a kind of fault for its gradient."""

    subject: StudiedFunction
    size: int
    dtype: str
    kind: str

    @property
    def name(self) -> str:
        """The name of the check, which seeds its random streams."""
        return f"{self.subject.name} {self.size} {self.dtype} {self.kind}"

    @property
    def has_both_modes(self) -> bool:
        """Whether the problem is small enough to be checked in both modes."""
        return self.size == self.subject.sizes[0]

    def inputs(self) -> list[Tensor]:
        """Draw the leaves."""
        return self.subject.inputs(self.size, DTYPES[self.dtype])


@dataclass(frozen=True)
class StatedResolution:
    """What gradcheck states about a leaf whose gradient passes.

    Attributes:
        resolution: the relative error to within which every entry is right.
        small: how many entries are judged by their leaf's largest instead of their own size.
        rtol: the relative error from which on a derivative is wrong.
    """

    resolution: float
    small: int
    rtol: float


@dataclass(frozen=True)
class Outcome:
    """A checker's verdict on one fault, or on the right gradient (magnitude 0).

    Attributes:
        entries: number of input entries.
        right: whether the checker passes the right gradient of the same problem.
        ratio: the fault's error over what the check of the right gradient states as detectable; NaN if it states nothing.
        excess: the fault's error over the resolution that a PASS of the fault states; NaN unless the verdict is PASS.
        resolution: the coarsest resolution that the check of the right gradient states.
        shown: whether any gradient that the checker asked for shows the fault.
        remark: the reason, in a few words.
    """

    problem: Problem
    entries: int
    checker: str
    magnitude: float
    right: bool
    verdict: str
    seconds: float
    ratio: float = math.nan
    excess: float = math.nan
    resolution: float = math.nan
    shown: bool = True
    remark: str = ""

    @property
    def above(self) -> bool:
        """Whether the fault is above what was stated as detectable."""
        return self.ratio > 1

    @property
    def missed(self) -> bool:
        """Whether the fault is above what was stated as detectable, and yet does not fail."""
        return self.above and self.verdict != "FAIL"

    @property
    def caught(self) -> bool:
        """Whether the fault fails and the right gradient of the same problem passes."""
        return self.right and self.verdict == "FAIL"


def is_noticeable(problem: Problem) -> bool:
    """Whether the fault at its full size changes some entry that is not negligible."""
    inputs, kind = problem.inputs(), FAULT_KINDS[problem.kind]
    output = problem.subject.function(*inputs)
    if not kind.fits(inputs, output):
        return False
    right, wrong = compute_gradients(
        problem.subject.function, kind, 1.0, choose_place(problem), inputs, draw_cotangent(output, 0)
    )
    return any(bool(((w - g).abs() > MIN_CHANGE * (rms(g) + g.abs())).any()) for g, w in zip(right, wrong, strict=True))


def draw_cotangent(output: Tensor, seed: int) -> Tensor:
    """Draw a random cotangent for an output."""
    return torch.randn(output.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(output)


def choose_place(problem: Problem) -> tuple[int, int]:
    """Choose the leaf that a fault of a single leaf goes into, and an entry of typical size for three cotangents."""
    inputs, function = problem.inputs(), problem.subject.function
    output = function(*inputs)
    fitting = [i for i, x in enumerate(inputs) if FAULT_KINDS[problem.kind].fits([x] * len(inputs), output)]
    leaf = fitting[len(problem.name) % len(fitting)] if fitting else 0
    calls = [
        compute_gradients(function, FAULT_KINDS["sign"], 0.0, (0, 0), inputs, draw_cotangent(output, k))[0][leaf]
        for k in range(PROBE_CALLS)
    ]
    squares = torch.stack(calls).square().mean(0).reshape(-1)
    return leaf, int((squares - squares.mean()).abs().argmin())


def run_checkers(problem: Problem) -> Iterator[Outcome]:
    """Run every checker on the right gradient, and on the fault in all magnitudes."""
    inputs = problem.inputs()
    with torch.no_grad():
        output = problem.subject.function(*inputs)
    place = choose_place(problem)
    for mode in ("auto", "full", "probe") if problem.has_both_modes else ("auto",):
        yield from run_gradcheck(problem, mode, place)
    for checker, check in OTHER_CHECKERS.items():
        yield from run_other_checker(problem, checker, check, output, place)


def run_gradcheck(problem: Problem, mode: str, place: tuple[int, int]) -> Iterator[Outcome]:
    """Check the right gradient with gradcheck, then each fault, and compare the fault with what the first check states."""
    right, resolutions = False, list[StatedResolution]()
    for magnitude in (0.0, *MAGNITUDES):
        record = GradientRecord(0)
        began = time.process_time()
        result = check_fault(problem, magnitude, mode, place, record)
        seconds = time.process_time() - began
        if not magnitude:
            right, resolutions = result.verdict is Verdict.PASS, read_resolutions(result)
        checker = DEFAULT if mode == "auto" and problem.has_both_modes else PROBE if result.mode == "probe" else FULL
        fault = Fault(*collect_gradients(problem, magnitude, place, record, "probe" if checker == PROBE else "full"))
        yield Outcome(
            problem,
            sum(x.numel() for x in problem.inputs()),
            checker,
            magnitude,
            right,
            result.verdict.value,
            seconds,
            ratio=fault.detectability(resolutions) if magnitude and right else math.nan,
            excess=fault.detectability(read_resolutions(result)) if magnitude and result.verdict is Verdict.PASS else math.nan,
            resolution=max((s.resolution for s in resolutions), default=math.nan),
            shown=fault.shown,
            remark=describe_result(result),
        )


def run_other_checker(
    problem: Problem, checker: str, check: Callable[..., bool | None], output: Tensor, place: tuple[int, int]
) -> Iterator[Outcome]:
    """Run another checker on the right gradient and on each fault; yield nothing if the problem is too large for it."""
    inputs, right = problem.inputs(), False
    for magnitude in (0.0, *MAGNITUDES):
        faulty = plant_fault(problem.subject.function, FAULT_KINDS[problem.kind], magnitude, place)
        began = time.process_time()
        passed = check(faulty, inputs, output)
        seconds = time.process_time() - began
        if passed is None:
            return
        right = passed if not magnitude else right
        verdict = "PASS" if passed else "FAIL"
        yield Outcome(problem, sum(x.numel() for x in inputs), checker, magnitude, right, verdict, seconds)


def check_fault(
    problem: Problem, magnitude: float, mode: str, place: tuple[int, int], record: GradientRecord | None = None
) -> CheckResult:
    """Check one fault with gradcheck, or with magnitude 0 the right gradient."""
    inputs, kind = problem.inputs(), FAULT_KINDS[problem.kind]
    if record is not None:
        outputs = problem.subject.function(*inputs).numel()
        record.wanted = outputs if outputs <= MAX_SEPARATE_OUTPUTS and mode != "probe" else COMBINED_CALLS
    return gradcheck.check(
        plant_fault(problem.subject.function, kind, magnitude, place, record), *inputs, mode=mode, name=problem.name
    )


def show(name: str, size: int, dtype: str, kind: str, magnitude: float, mode: str = "auto") -> CheckResult:
    """Repeat one check of the study, as the page lists it; print the result to see its table."""
    subject = next(s for s in STUDIED_FUNCTIONS if s.name == name)
    problem = Problem(subject, size, dtype, kind)
    return check_fault(problem, magnitude, mode, choose_place(problem))


def describe_result(result: CheckResult) -> str:
    """Describe the first comparison that did not pass, or else the first, in a few words."""
    lines = sorted(result.comparisons, key=lambda c: c.verdict is Verdict.PASS)
    return f"{lines[0].reason.code}, relative error {lines[0].rel_err:.0e}" if lines else result.reason.code


def read_resolutions(result: CheckResult) -> list[StatedResolution]:
    """Read what a check states, leaf by leaf."""
    lines = [c for c in result.comparisons if (c.method, c.against) == ("reverse", "numeric")]
    return [StatedResolution(c.resolution, c.unresolved, c.rtol) for c in lines]


def collect_gradients(
    problem: Problem, magnitude: float, place: tuple[int, int], record: GradientRecord, mode: str
) -> tuple[list[tuple[Tensor, Tensor]], bool, bool]:
    """Collect the right and wrong gradients of the calls that a mode judges, leaf by leaf, of shape (calls, entries).

    A fault that none of these calls shows is measured with a random cotangent.

    Returns:
        The pairs of gradients, whether they are those of probe mode, and whether the calls judged show the fault.
    """
    calls = record.calls[:PROBE_CALLS] if mode == "probe" else record.calls
    shown = any(not torch.equal(g, w) for right, wrong in calls for g, w in zip(right, wrong, strict=True))
    if magnitude and not shown:
        inputs = problem.inputs()
        v = draw_cotangent(problem.subject.function(*inputs), 0)
        spare = GradientRecord(1)
        spare.add(*compute_gradients(problem.subject.function, FAULT_KINDS[problem.kind], magnitude, place, inputs, v))
        calls = spare.calls
    pairs = [
        tuple(torch.stack([call[side][i].reshape(-1) for call in calls]) for side in (0, 1)) for i in range(len(calls[0][0]))
    ]
    return [(right, wrong) for right, wrong in pairs], mode == "probe", shown


@dataclass(frozen=True)
class Fault:
    """A fault as it shows in some gradients.

    Attributes:
        leaves: the right and the wrong gradients of each leaf, of shape (calls, entries).
        probe: whether they are those of probe mode.
        shown: whether the calls that the mode judges show the fault.
    """

    leaves: list[tuple[Tensor, Tensor]]
    probe: bool
    shown: bool

    def detectability(self, resolutions: Sequence[StatedResolution]) -> float:
        """Compute the fault over what is stated as detectable, in the leaf where this is largest; NaN if nothing is stated."""
        measure = measure_probes if self.probe else measure_entries
        both = zip(self.leaves, resolutions, strict=bool(resolutions))
        return max((measure(*leaf, state) for leaf, state in both if not math.isnan(state.resolution)), default=math.nan)


def measure_entries(right: Tensor, wrong: Tensor, leaf: StatedResolution) -> float:
    """Compute the largest relative error of an entry over resolution + rtol.

    From 1 on, the entry is certainly wrong by more than rtol. Some entries are measured by the leaf's largest: those whose
    derivative is zero or below the resolution relative to that largest, and the smallest ones that the table counts as `small`.
    """
    size = torch.maximum(right.abs(), wrong.abs())
    lost = right.abs() <= leaf.resolution * size.max()
    if leaf.small:
        least = torch.where(lost, math.inf, right.abs()).amin(0).sort().values
        lost |= right.abs() <= least[leaf.small - 1]
    relative = (wrong - right).abs() / torch.where(lost, size.max(), size).clamp_min(TINY)
    return float(relative.max()) / (leaf.resolution + leaf.rtol)


def measure_probes(right: Tensor, wrong: Tensor, leaf: StatedResolution) -> float:
    """Compute the fault's norm over the size of a typical entry, in units of resolution + rtol.

    A fault e moves a Gaussian probe by about its norm |e|, as a single wrong entry of that size would. The chance that three
    probes all miss it is a product, so we take the geometric mean of the three ratios. The result is at most the relative error
    of the entries that the fault touches, in the root mean square, in units of rtol: below rtol no entry could fail.
    """
    error = wrong - right
    norm, typical = torch.linalg.vector_norm(error, dim=1), right.square().mean(1).sqrt().clamp_min(TINY)
    touched = torch.where(error != 0, torch.maximum(right.abs(), wrong.abs()), 0.0)
    relative = norm / torch.linalg.vector_norm(touched, dim=1).clamp_min(TINY)
    weight = (norm / typical).log().mean().exp()
    return min(float(weight) / (leaf.resolution + leaf.rtol), float(relative.max()) / (MIN_RMS_RATIO * leaf.rtol))
