"""One trial of the detection study: a problem, a fault, and what every checker says of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from catalogue import SUBJECTS, Subject
from faults import KINDS, Record, gradients, planted, rms
from rivals import RIVALS
from torch import Tensor

import gradcheck
from gradcheck import CheckResult, Verdict

MAGNITUDES = [10.0**-k for k in range(9)]
DTYPES = {"float64": torch.float64, "float32": torch.float32}
NOTICEABLE = 0.05  # a kind is planted where it changes some entry by that much
FULL, PROBE = "gradcheck, full mode", "gradcheck, probe mode"
TINY = 1e-300
EDGE = 1.1  # times rtol: closer to it than that, the last digits of the evidence decide
OWN_OUTPUTS, COMBINATIONS, DENSE = 16, 4, 3  # the backward calls that full and probe mode judge


@dataclass(frozen=True)
class Problem:
    """A function at a point, with a kind of fault for its gradient."""

    subject: Subject
    size: int
    dtype: str
    kind: str

    @property
    def name(self) -> str:
        """Names the random streams."""
        return f"{self.subject.name} {self.size} {self.dtype} {self.kind}"

    @property
    def small(self) -> bool:
        """Whether both modes are tried."""
        return self.size == self.subject.sizes[0]

    def inputs(self) -> list[Tensor]:
        """Its leaves."""
        return self.subject.inputs(self.size, DTYPES[self.dtype])


@dataclass(frozen=True)
class Stated:
    """What gradcheck states of a leaf whose gradient passes: right to within `resolution`, `small` entries by their leaf's."""

    resolution: float
    small: int
    rtol: float


@dataclass(frozen=True)
class Outcome:
    """What a checker said of one fault, or of the right gradient (magnitude 0).

    Attributes:
        entries: input numbers.
        right: whether the checker passes the right gradient of the same problem.
        ratio: the fault's error over what the check of the right gradient states as detectable; NaN where it states nothing.
        excess: for a PASS, the fault's error over the resolution that this very PASS states; NaN elsewhere.
        resolution: the dullest that the check of the right gradient states.
        shown: whether any gradient that the checker asked for shows the fault.
        said: the reason, in a few words.
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
    said: str = ""

    @property
    def above(self) -> bool:
        """Whether the fault is above what was stated as detectable."""
        return self.ratio > 1

    @property
    def missed(self) -> bool:
        """Whether it is above and yet no FAIL."""
        return self.above and self.verdict != "FAIL"

    @property
    def caught(self) -> bool:
        """Whether the fault was told from the right gradient."""
        return self.right and self.verdict == "FAIL"


def noticeable(problem: Problem) -> bool:
    """Whether the fault at its full size changes some entry that is not negligible."""
    inputs, kind = problem.inputs(), KINDS[problem.kind]
    output = problem.subject.function(*inputs)
    if not kind.fits(inputs, output):
        return False
    right, wrong = gradients(problem.subject.function, kind, 1.0, place(problem), inputs, cotangent(output, 0))
    return any(bool(((w - g).abs() > NOTICEABLE * (rms(g) + g.abs())).any()) for g, w in zip(right, wrong, strict=True))


def cotangent(output: Tensor, seed: int) -> Tensor:
    """A random cotangent."""
    return torch.randn(output.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(output)


def place(problem: Problem) -> tuple[int, int]:
    """The leaf that a fault of a single leaf is planted in, and an entry of it that is of typical size for three cotangents."""
    inputs, function = problem.inputs(), problem.subject.function
    output = function(*inputs)
    fitting = [i for i, x in enumerate(inputs) if KINDS[problem.kind].fits([x] * len(inputs), output)]
    leaf = fitting[len(problem.name) % len(fitting)] if fitting else 0
    calls = [gradients(function, KINDS["sign"], 0.0, (0, 0), inputs, cotangent(output, k))[0][leaf] for k in range(DENSE)]
    squares = torch.stack(calls).square().mean(0).reshape(-1)
    return leaf, int((squares - squares.mean()).abs().argmin())


def study(problem: Problem) -> Iterator[Outcome]:
    """Every checker on the right gradient, and on the fault in all magnitudes."""
    inputs = problem.inputs()
    with torch.no_grad():
        output = problem.subject.function(*inputs)
    where = place(problem)
    for mode in ("full", "probe") if problem.small else ("auto",):
        yield from ours(problem, mode, where)
    for checker, check in RIVALS.items():
        yield from theirs(problem, checker, check, output, where)


def ours(problem: Problem, mode: str, where: tuple[int, int]) -> Iterator[Outcome]:
    """Check the right gradient with gradcheck, then each fault, and measure that by what the first check states."""
    right, states = False, list[Stated]()
    for magnitude in (0.0, *MAGNITUDES):
        record = Record(0)
        began = time.process_time()
        result = checked(problem, magnitude, mode, where, record)
        seconds = time.process_time() - began
        if not magnitude:
            right, states = result.verdict is Verdict.PASS, stated(result)
        fault = Fault(*seen(problem, magnitude, where, record, result.mode))
        yield Outcome(
            problem,
            sum(x.numel() for x in problem.inputs()),
            PROBE if result.mode == "probe" else FULL,
            magnitude,
            right,
            result.verdict.value,
            seconds,
            ratio=fault.over(states) if magnitude and right else math.nan,
            excess=fault.over(stated(result)) if magnitude and result.verdict is Verdict.PASS else math.nan,
            resolution=max((s.resolution for s in states), default=math.nan),
            shown=fault.shown,
            said=said(result),
        )


def theirs(
    problem: Problem, checker: str, check: Callable[..., bool | None], output: Tensor, where: tuple[int, int]
) -> Iterator[Outcome]:
    """Another checker on the same; nothing where the problem is too large for it."""
    inputs, right = problem.inputs(), False
    for magnitude in (0.0, *MAGNITUDES):
        spoilt = planted(problem.subject.function, KINDS[problem.kind], magnitude, where)
        began = time.process_time()
        passed = check(spoilt, inputs, output)
        seconds = time.process_time() - began
        if passed is None:
            return
        right = passed if not magnitude else right
        verdict = "PASS" if passed else "FAIL"
        yield Outcome(problem, sum(x.numel() for x in inputs), checker, magnitude, right, verdict, seconds)


def checked(problem: Problem, magnitude: float, mode: str, where: tuple[int, int], record: Record | None = None) -> CheckResult:
    """Check one fault with gradcheck, or with magnitude 0 the right gradient."""
    inputs, kind = problem.inputs(), KINDS[problem.kind]
    if record is not None:
        outputs = problem.subject.function(*inputs).numel()
        record.wanted = outputs if outputs <= OWN_OUTPUTS and mode != "probe" else COMBINATIONS
    return gradcheck.check(
        planted(problem.subject.function, kind, magnitude, where, record), *inputs, mode=mode, name=problem.name
    )


def show(name: str, size: int, dtype: str, kind: str, magnitude: float, mode: str = "auto") -> CheckResult:
    """One check of the study again; print it to see its table."""
    subject = next(s for s in SUBJECTS if s.name == name)
    problem = Problem(subject, size, dtype, kind)
    return checked(problem, magnitude, mode, place(problem))


def said(result: CheckResult) -> str:
    """The first line of a result that did not pass, or its first, in a few words."""
    lines = sorted(result.comparisons, key=lambda c: c.verdict is Verdict.PASS)
    return f"{lines[0].reason.code}, relative error {lines[0].rel_err:.0e}" if lines else result.reason.code


def stated(result: CheckResult) -> list[Stated]:
    """What a check states, leaf by leaf."""
    lines = [c for c in result.comparisons if (c.method, c.against) == ("reverse", "numeric")]
    return [Stated(c.resolution, c.unresolved, c.rtol) for c in lines]


def seen(
    problem: Problem, magnitude: float, where: tuple[int, int], record: Record, mode: str
) -> tuple[list[tuple[Tensor, Tensor]], bool, bool]:
    """The right and wrong gradients, leaf by leaf, (calls, entries) each, of the calls that a mode judges.

    A fault that none of these shows is measured with a random cotangent. Also: whether they are a probe's, and show it.
    """
    calls = record.calls[:DENSE] if mode == "probe" else record.calls
    shown = any(not torch.equal(g, w) for right, wrong in calls for g, w in zip(right, wrong, strict=True))
    if magnitude and not shown:
        inputs = problem.inputs()
        v = cotangent(problem.subject.function(*inputs), 0)
        spare = Record(1)
        spare.add(*gradients(problem.subject.function, KINDS[problem.kind], magnitude, where, inputs, v))
        calls = spare.calls
    pairs = [
        tuple(torch.stack([call[side][i].reshape(-1) for call in calls]) for side in (0, 1)) for i in range(len(calls[0][0]))
    ]
    return [(right, wrong) for right, wrong in pairs], mode == "probe", shown


@dataclass(frozen=True)
class Fault:
    """A fault as it shows in some gradients: right and wrong ones, leaf by leaf, (calls, entries) each."""

    leaves: list[tuple[Tensor, Tensor]]
    probe: bool
    shown: bool

    def over(self, states: Sequence[Stated]) -> float:
        """How many times what is stated as detectable it is, in the leaf where it is most; NaN where nothing is stated."""
        measure = of_probes if self.probe else of_entries
        both = zip(self.leaves, states, strict=bool(states))
        return max((measure(*leaf, state) for leaf, state in both if not math.isnan(state.resolution)), default=math.nan)


def of_entries(right: Tensor, wrong: Tensor, leaf: Stated) -> float:
    """The largest relative error of an entry, over resolution + rtol: from there on it is certainly wrong by more than rtol.

    An entry whose derivative is zero or below the resolution beside its leaf's largest, and as many of the smallest as the
    table counts as `small`, are measured by that largest.
    """
    size = torch.maximum(right.abs(), wrong.abs())
    lost = right.abs() <= leaf.resolution * size.max()
    if leaf.small:
        least = torch.where(lost, math.inf, right.abs()).amin(0).sort().values
        lost |= right.abs() <= least[leaf.small - 1]
    relative = (wrong - right).abs() / torch.where(lost, size.max(), size).clamp_min(TINY)
    return float(relative.max()) / (leaf.resolution + leaf.rtol)


def of_probes(right: Tensor, wrong: Tensor, leaf: Stated) -> float:
    """The fault's norm over the size of a typical entry, by resolution + rtol; or its relative error, by rtol, if that is less.

    A fault e moves a Gaussian probe by about its norm |e|, as a single wrong entry of that size would. The chance that three
    probes all miss it is a product, so the three ratios count with their geometric mean. The relative error is that of the
    entries it touches, in the root mean square: below rtol no entry's verdict could be FAIL.
    """
    error = wrong - right
    norm, typical = torch.linalg.vector_norm(error, dim=1), right.square().mean(1).sqrt().clamp_min(TINY)
    touched = torch.where(error != 0, torch.maximum(right.abs(), wrong.abs()), 0.0)
    relative = norm / torch.linalg.vector_norm(touched, dim=1).clamp_min(TINY)
    weight = (norm / typical).log().mean().exp()
    return min(float(weight) / (leaf.resolution + leaf.rtol), float(relative.max()) / (EDGE * leaf.rtol))
