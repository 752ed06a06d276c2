"""The noise of a program's outputs at its primal, and the size of the terms that may cancel in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import repeat_per_number
from gradcheck.backends.twin import MAX_CANCELLED_ULPS
from gradcheck.compare.evaluator import Evaluator
from gradcheck.evidence import directions, internal_rounding, noise
from gradcheck.evidence.line import F64, LARGEST_STEP, Phi, Setting, choose_slack
from gradcheck.number_format import FLOAT64
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.backends.program import Program

# Only inputs of at most this many numbers can lie on the grid of the function's values by accident.
FEW_INPUTS = 32
# Most noise that shows at coarse steps shows at this spacing, in units of t.
COARSE_SPACING = 2.0**-16
# An output with more noise than this many units in its last place is the difference of larger terms.
MIN_CANCELLATION_ULPS = 8.0
# Such terms are at most this many times as large as the inputs and the output's leaf, unless the output is only rounding all
# along a line: then its values are multiples of one quantum there. The smallest of them is at most so many quanta, and they are
# off their multiples by at most this share of a quantum.
MAX_AMPLIFICATION = 2.0**9
MAX_QUANTA, GRID_TOLERANCE = 64, 2.0**-20
# The places on the line are uneven, in units of the coarsest step.
GRID_PLACES = np.array([0.11, 0.29, 0.53, 0.97])
# In lower precision noise varies more from one direction to another, so it is measured along this many directions.
NOISE_DIRECTIONS = 3


def draw_gaussian_tangent(program: Program, rng: np.random.Generator) -> F64:
    """Draw a tangent that moves every entry by about its scale, (N,); unlike the tangents of estimates it is not rounded."""
    parts = [program.point[leaf.span] for leaf in program.leaves]
    return np.concatenate([rng.standard_normal(x.shape) * directions.compute_entry_scales(x) for x in parts])


def _measure_cancellation_noise(program: Program, line: Phi) -> F64:
    """Measure the noise of outputs that are far smaller than their leaf because larger terms cancel, (M,); 0 for all others.

    At fine steps it need not show: 1 + tanh(x), where tanh(x) is near -1, moves only at every millionth step, and its right
    derivative would FAIL. If several such outputs show noise at coarse steps, the median of theirs holds for those in which the
    function's own curve hides it.
    """
    cancellation_noise, size, terms = np.zeros(program.value.shape), np.abs(program.value), bound_terms(program)
    small = size < directions.SMALL_ENTRY_RATIO * terms
    if not np.any(small):
        return cancellation_noise
    reach = internal_rounding.MAX_REACH
    with np.errstate(all="ignore"):
        largest = np.fmax.reduce([size, *(np.abs(line(t)) for t in (-reach, reach))])

    def is_cancellation(noise_level: F64) -> NDArray[np.bool_]:
        above = noise_level > MIN_CANCELLATION_ULPS * program.eps * largest
        return np.asarray(small & above & (noise_level <= noise.MAX_ROUND_OFF_ULPS * program.eps * terms))

    with np.errstate(all="ignore"):
        if not np.any(is_cancellation(noise.estimate_rounding_noise(line, program.value, COARSE_SPACING))):
            return cancellation_noise
        coarse_noise = internal_rounding.measure_coarse_noise(line, program.value)
    clear = is_cancellation(coarse_noise)
    for leaf in program.outputs:
        leaf_noise, leaf_clear = coarse_noise[leaf.span], clear[leaf.span]
        if np.any(leaf_clear):
            usual = np.median(leaf_noise[leaf_clear])
            cancellation_noise[leaf.span] = np.where(small[leaf.span], np.where(leaf_clear, leaf_noise, usual), 0.0)
    return cancellation_noise


def bound_terms(program: Program) -> F64:
    """Bound the size of the terms that each output may be a sum of, (M,): as large as its leaf or as the inputs."""
    inputs = max((directions.compute_leaf_scale(program.point[leaf.span]) for leaf in program.leaves), default=0.0)
    scales = [max(inputs, directions.compute_leaf_scale(program.value[leaf.span])) for leaf in program.outputs]
    return repeat_per_number(scales, program.outputs)


def find_term_sizes(program: Program, eps: float) -> F64:
    """Find the size that the terms of each output may have, (M,).

    It is the size of the output, unless that may be only what rounding leaves of larger terms, as in `layer_norm(x).sum()`.

    Args:
        program: what is checked.
        eps: relative spacing of floats in the precision of the terms.
    """
    size, terms = np.abs(program.value), bound_terms(program)
    return np.where(size <= MAX_CANCELLED_ULPS * eps * terms, terms, size)


def _find_cancelled_terms(program: Program, noise_level: F64, line: Phi) -> F64:
    """Find the size of the terms that each output is made of, (M,): its own, unless it is nothing but rounding.

    Then its noise shows the terms, if they are not so large that the noise must be something else. A zero that stands still
    shows nothing, and may be made of terms as large as the inputs.

    Args:
        line: the line along some direction that moves every entry.
    """
    size, usual_terms = np.abs(program.value), bound_terms(program)
    shown = noise_level / program.eps
    is_rounding = size <= MAX_CANCELLED_ULPS * noise_level
    amplified = is_rounding & (shown > MAX_AMPLIFICATION * usual_terms)
    if np.any(amplified):
        is_rounding[amplified] = _is_rounding_everywhere(program, noise_level, line, amplified)
    stands_still = (size == 0) & (noise_level == 0)
    return np.fmax(size, np.where(stands_still, usual_terms, np.where(is_rounding, shown, 0.0)))


def _is_rounding_everywhere(program: Program, noise_level: F64, line: Phi, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark those of the chosen outputs that stay within their noise along a whole line, at multiples of one quantum.

    Terms that cancel leave such values. An oscillation fills all bits, and a function that is rounded to few digits moves.
    """
    with np.errstate(all="ignore"):
        places = LARGEST_STEP * np.concatenate([GRID_PLACES, -GRID_PLACES])
        values = np.stack([program.value[chosen], *(line(t)[chosen] for t in places)])
        size = np.abs(values)
        smallest = np.min(size, axis=0, where=size > 0, initial=np.inf)
        multiples = np.arange(1, MAX_QUANTA + 1)[:, None, None] * (values / smallest)
        on_grid = np.any(np.all(np.abs(multiples - np.rint(multiples)) <= GRID_TOLERANCE, axis=1), axis=0)
    within_noise = np.all(size <= MAX_CANCELLED_ULPS * noise_level[chosen], axis=0)
    return np.asarray(within_noise & on_grid & np.isfinite(smallest))


def measure_setting(evaluator: Evaluator, comparisons: int, label: object, spread: F64) -> Setting:
    """Measure the noise once, along directions that move every entry; each output is a channel.

    The directions are not rounded to exact displacements: what the rounding of the inputs does to the values is noise too.

    Args:
        comparisons: how many comparisons there will be; the more, the wider the bounds.
        label: names the random stream.
        spread: how far repeated evaluations at the primal differ, (M,).
    """
    program = evaluator.program
    finest_step = directions.finest_step(program.eps)
    is_float64 = program.eps <= FLOAT64.eps
    noise_level, spacings = spread, len(noise.SPACINGS) if program.point.size <= FEW_INPUTS else 1
    for k in range(1 if is_float64 else NOISE_DIRECTIONS):
        line = evaluator.line(draw_gaussian_tangent(program, make_generator(0, "noise", label, k)))
        fine_noise = noise.measure_noise(
            line, program.value, finest_step, program.eps, spacings=spacings, rounding_limit=program.value_rounding
        )
        noise_level = np.maximum(noise_level, fine_noise)
        if is_float64:
            noise_level = np.maximum(noise_level, _measure_cancellation_noise(program, line))
    slack = choose_slack(comparisons)
    term_sizes = _find_cancelled_terms(program, noise_level, line)
    return Setting(program.value, noise_level, program.eps, None, finest_step, slack, program.value_rounding, term_sizes)
