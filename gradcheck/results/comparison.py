"""One claim held against one piece of evidence, and what is known of it: plain data."""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck.glossary.verdicts import Reason, Verdict


@dataclass(frozen=True)
class Partial:
    """One partial derivative as each method sees it: d output[output_entry] / d wrt[entry]."""

    wrt: str
    entry: tuple[int, ...]
    output: str
    output_entry: tuple[int, ...]
    values: dict[str, float]
    bound: float
    rel_err: float


@dataclass(frozen=True)
class Estimate:
    """How a numerical derivative was found: what was seen at every step, and what was made of it.

    Attributes:
        value, bound: the derivative and what its error is at most; infinite where the evidence does not tell.
        noise: of a difference of the function's values, as the bounds allow for it.
        smoothness: 'smooth', 'kink', 'jump', 'singular' or 'one-sided'; '' where too little was seen.
        kink_distance: of the nearest kink along the line, in units of the input; 0 at one, NaN where none was seen.
        one_sided: the lowest and highest slope at a kink, NaN elsewhere.
        steps: tried, from coarse to fine, in units of the input (along a random direction: in units of its length).
        differences: central differences at these steps, one-sided ones at the border of the domain; NaN outside it.
        bounds: what noise may do to each of them.
        plateau: the coarsest and finest of the steps that the value rests on; None where no step would do.
    """

    value: float
    bound: float
    noise: float
    smoothness: str
    kink_distance: float
    one_sided: tuple[float, float]
    steps: tuple[float, ...]
    differences: tuple[float, ...]
    bounds: tuple[float, ...]
    plateau: tuple[float, float] | None

    def per(self, unit: float) -> Estimate:
        """The same where one unit of t is a displacement `unit` of the input."""
        length = abs(unit)
        low, high = sorted(slope / unit for slope in self.one_sided)
        return Estimate(
            value=self.value / unit,
            bound=self.bound / length,
            noise=self.noise,
            smoothness=self.smoothness,
            kink_distance=self.kink_distance * length,
            one_sided=(low, high),
            steps=tuple(h * length for h in self.steps),
            differences=tuple(d / unit for d in self.differences),
            bounds=tuple(b / length for b in self.bounds),
            plateau=self.plateau and (self.plateau[0] * length, self.plateau[1] * length),
        )


@dataclass(frozen=True)
class SelfTest:
    """Claims spoilt on purpose and held against the same evidence: none may pass.

    Attributes:
        tried: the kinds of fault that make a difference here.
        slipped: those of them that passed.
    """

    tried: tuple[str, ...]
    slipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class WrongEntry:
    """A wrong entry of a leaf, confirmed by an estimate of its own; of complex entries the wrong part.

    Attributes:
        claimed, estimate: its derivatives by the two methods, of the `output`; bound: of both together.
        output: path of the output, with its entry; 'combination' for a random combination of outputs.
    """

    entry: tuple[int, ...]
    claimed: float
    estimate: float
    bound: float
    output: str = ""


@dataclass(frozen=True)
class Whereabouts:
    """Where in a leaf a claim is wrong.

    Attributes:
        entries: wrong ones, at most 8, those that are off by most first.
        count: how many there are; None where that is not known.
        examined: share of the leaf's entries that this rests on.
        sampled: how many entries taken at random were looked at, and how many of them are wrong.
        slice: what exactly the wrong entries fill, such as 'w[:, 3]' or 'the diagonal of w'; '' where that is no simple part
            of the leaf, or not known.
    """

    entries: tuple[WrongEntry, ...]
    count: int | None
    examined: float
    sampled: tuple[int, int] = (0, 0)
    slice: str = ""


@dataclass(frozen=True)
class Picture:
    """The entries of a leaf at a glance, where each was looked at; numbers are rounded, as for a drawing.

    Attributes:
        grid: rows and columns: the last axis and all others, folded or in blocks where they are many.
        errors: the largest relative error in each cell, row by row; NaN where it has no meaning.
        wrong: whether an entry in the cell is wrong.
        claimed, estimate: of some entries, wrong ones among them.
    """

    grid: tuple[int, int]
    errors: tuple[float, ...]
    wrong: tuple[bool, ...]
    claimed: tuple[float, ...]
    estimate: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """One leaf, one pair of methods: the claim held against an independent estimate, at its worst entry.

    Attributes:
        wrt: path of the leaf the derivative is taken with respect to.
        output: path of the output, with its entry where one is meant; 'combination' for a random combination of outputs.
        claimed, estimate: derivatives by `method` and by `against` at the worst entry (or along the worst probe).
        bound: error bound of both together; the true difference lies within abs_err ± bound.
        rel_err: abs_err over the larger of claim and estimate.
        rtol: the relative error from which on a claim is a FAIL.
        resolution: for a PASS, the smallest relative error of a single entry that would have been caught.
        certainty: the probability with which it would have been: 1 where every entry was looked at.
        worst_entry: index in the leaf; None where a probe could not be narrowed down to an entry.
        unresolved: entries too small beside the leaf's others to be judged by their own size.
        self_test: of a PASS against numerical evidence, what became of faults planted in the claim.
        where: of a FAIL, which entries are wrong.
        story: how the estimate at the worst entry was found, where steps were tried one by one.
        order: of the derivative; 2 where the outputs are themselves gradients, `∂output/∂x`, of one random cotangent.
        picture: of all entries, where each was looked at and held against numerical evidence.
        error_ulp, plain_ulp, ratio: in half precision, the error of the claim in units in the last place of its dtype, that of
            a plain implementation in the same dtype, and the one over the other; None elsewhere.
    """

    wrt: str
    output: str
    method: str
    against: str
    verdict: Verdict
    reason: Reason
    claimed: float
    estimate: float
    bound: float
    abs_err: float
    rel_err: float
    rtol: float
    resolution: float
    worst_entry: tuple[int, ...] | None = None
    diagnosis: str | None = None
    shape: tuple[int, ...] = ()
    dtype: str = "float64"
    entries: int = 1
    unresolved: int = 0
    trial: int = 0
    mode: str = "full"
    certainty: float = 1.0
    self_test: SelfTest | None = None
    story: Estimate | None = None
    where: Whereabouts | None = None
    order: int = 1
    picture: Picture | None = None
    error_ulp: float | None = None
    plain_ulp: float | None = None
    ratio: float | None = None
