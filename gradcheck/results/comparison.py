"""A claim compared with a piece of evidence, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck.glossary.verdicts import Reason, Verdict


@dataclass(frozen=True)
class Partial:
    """One partial derivative by each method: d output[output_entry] / d wrt[entry]."""

    wrt: str
    entry: tuple[int, ...]
    output: str
    output_entry: tuple[int, ...]
    values: dict[str, float]
    bound: float
    rel_err: float


@dataclass(frozen=True)
class Estimate:
    """How a numerical derivative was estimated: the difference at every step, and what was concluded from them.

    Attributes:
        value: the derivative.
        bound: an upper bound of the error of the value; infinite if the evidence gives none.
        noise: the noise of a difference of the function's values, as the bounds allow for it.
        smoothness: 'smooth', 'kink', 'jump', 'singular' or 'one-sided'; '' if there were too few values to decide.
        kink_distance: distance of the nearest kink along the line, in units of the input; 0 at a kink, NaN if none was found.
        one_sided: the lowest and the highest slope at a kink, NaN elsewhere.
        steps: the steps tried, from coarse to fine, in units of the input (along a random direction: in units of its length).
        differences: central differences at these steps, one-sided ones at the border of the domain; NaN outside it.
        bounds: the error that noise may cause in each difference.
        plateau: the coarsest and the finest of the steps that the value is based on; None if no step was suitable.
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
        """Rescale the estimate from a parameter `t` to the input, if one unit of `t` displaces the input by `unit`.

        Args:
            unit: the displacement of the input for one unit of `t`; not 0.
        """
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
    """Fault injection: claims with a planted fault, compared with the same evidence; none of them may pass.

    Attributes:
        tried: the kinds of fault that make a difference here.
        slipped: the kinds of fault that passed unnoticed.
    """

    tried: tuple[str, ...]
    slipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class WrongEntry:
    """A wrong entry of a leaf, confirmed by a separate estimate; for a complex entry, its wrong part.

    Attributes:
        entry: index in the leaf.
        claimed: the claimed derivative of `output` with respect to this entry.
        estimate: the derivative of `output` by the other method.
        bound: error bound of claim and estimate together.
        output: path of the output, with its entry; 'combination' for a random combination of outputs.
    """

    entry: tuple[int, ...]
    claimed: float
    estimate: float
    bound: float
    output: str = ""


@dataclass(frozen=True)
class Whereabouts:
    """The place in a leaf where a claim is wrong.

    Attributes:
        entries: at most 8 wrong entries, largest error first.
        count: the number of wrong entries; None if it is not known.
        examined: the share of the leaf's entries that were examined, from 0 to 1.
        sampled: the number of entries that were examined at random, and how many of them are wrong.
        slice: the part of the leaf that the wrong entries fill exactly, such as 'w[:, 3]' or 'the diagonal of w'. It is '' if
            they fill no simple part, or if it is not known.
    """

    entries: tuple[WrongEntry, ...]
    count: int | None
    examined: float
    sampled: tuple[int, int] = (0, 0)
    slice: str = ""


@dataclass(frozen=True)
class Picture:
    """A heat map of a leaf of which every entry was examined; numbers are rounded, as for a drawing.

    Attributes:
        grid: rows and columns of cells: the last axis and all others, folded or grouped into blocks if they are long.
        errors: the largest relative error in each cell, row by row; NaN if it has no meaning.
        wrong: whether an entry in the cell is wrong.
        claimed: the claimed derivatives of some entries, wrong ones among them.
        estimate: the numerical derivatives of the same entries.
        wrong_entries: whether each of these entries is wrong; empty in files of older versions.
    """

    grid: tuple[int, int]
    errors: tuple[float, ...]
    wrong: tuple[bool, ...]
    claimed: tuple[float, ...]
    estimate: tuple[float, ...]
    wrong_entries: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The comparison of a claim with an independent estimate, for one leaf and one pair of methods, at the worst entry.

    Attributes:
        wrt: path of the leaf with respect to which the derivative is taken.
        output: path of the output, with its entry if there is one; 'combination' for a random combination of outputs.
        method: the method that made the claim.
        against: the method that made the estimate.
        claimed: the derivative by `method` at the worst entry, or along the worst probe.
        estimate: the derivative by `against` at the same place.
        bound: error bound of both together; the true difference lies within abs_err ± bound.
        abs_err: the absolute difference between claim and estimate.
        rel_err: abs_err divided by the larger of claim and estimate.
        rtol: the relative error from which on a claim is a FAIL.
        resolution: for a PASS, the smallest relative error of a single entry that would have been caught.
        certainty: the probability of catching such an error; 1 if every entry was examined.
        worst_entry: index in the leaf; None if a probe could not be narrowed down to an entry.
        diagnosis: code and description of the likely fault; None if the claim is not wrong.
        entries: the number of entries of the leaf.
        unresolved: the number of entries that are too small, compared with others of the leaf, to be judged by their own size.
        trial: the number of the draw of the inputs, from 0.
        mode: 'full', 'probe', or 'draws' for means over random draws.
        self_test: for a PASS against numerical evidence, the result of the fault injection.
        where: for a FAIL, which entries are wrong.
        story: how the estimate at the worst entry was made, if steps were tried one by one.
        order: the order of the derivative; 2 if the outputs are themselves gradients, `∂output/∂x`, of one random cotangent.
        picture: the heat map of the leaf, if each entry was examined and compared with numerical evidence.
        error_ulp: in half precision, the error of the claim in units in the last place of its dtype; None otherwise.
        plain_ulp: the error of a plain implementation in the same dtype, in the same units.
        ratio: error_ulp divided by plain_ulp.
        max_abs_err: the largest absolute difference at any entry, while `abs_err` is that at the worst one; None if entries
            were not compared one by one.
        largest: the largest derivative of the leaf by either method, in absolute value; None if entries were not compared one
            by one.
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
    max_abs_err: float | None = None
    largest: float | None = None
