"""Which outputs can be looked at together, and how much each counts in a combination of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import repeat_per_number
from gradcheck.backends.program import Program
from gradcheck.compare.noise_floor import bound_terms, draw_gaussian_tangent, find_term_sizes
from gradcheck.evidence import directions
from gradcheck.evidence.line import F64, Setting
from gradcheck.seeds import make_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.evidence.line import Phi

# Up to this many outputs are each a channel of their own; more are looked at in random combinations.
MAX_SINGLE_CHANNELS = 16
# Full mode looks at this many random combinations of the outputs.
COMBINATIONS = 4
# The error of a value may be small by chance, so the terms that cancel in it may be this many times as large as it shows.
VALUE_ERROR_ULPS = 4.0
# No output has a larger weight than this in a combination: float16 ends at 65504, and a backward adds weighted terms up.
MAX_WEIGHT = 256.0
# The outputs are looked at this far along a line, in units of the finest step.
NEARBY_STEP = 4.0
# In a combination no output counts as smaller than eps to this power, relative to the terms that cancel in it.
CANCELLED_SIZE_POWER = 0.25


@dataclass(frozen=True)
class OutputScales:
    """The sizes of the outputs near the primal.

    Attributes:
        scales: what each output is divided by in a combination, (M,): its leaf's root mean square, so that a large output does
            not hide a small one. An output far smaller than its leaf, in value and in slope, counts by its own size, unless it
            is what is left of larger terms.
        non_finite: the outputs that are not finite on both sides of the primal, however near, (M,): a combination with one of
            them would not be finite either.
    """

    scales: F64
    non_finite: NDArray[np.bool_]

    def draw_cotangent(self, rng: np.random.Generator) -> F64:
        """Draw a Gaussian combination of the outputs that can be looked at together, (M,)."""
        return self.weigh_outputs(rng.standard_normal(self.scales.shape))

    def draw_even_cotangents(self, count: int, label: str) -> F64:
        """Draw combinations of the outputs in which each counts, (count, M): at least half as much as a typical one."""
        factors, rng = np.empty((count, self.scales.size)), make_generator(0, "joint", "cotangent", label)
        for row in factors:
            directions.fill_even(rng, np.ones(row.size), row)
        return np.stack([self.weigh_outputs(row) for row in factors])

    def weigh_outputs(self, factors: F64) -> F64:
        """Make the combination in which the outputs count by these factors, (M,), and not by their sizes.

        It is scaled by a power of two, so that its weights are numbers of every dtype.
        """
        weights = np.where(self.non_finite, 0.0, factors / np.maximum(self.scales, directions.MIN_OUTPUT_SIZE))
        excess = float(np.max(np.abs(weights), initial=0.0)) / MAX_WEIGHT
        return weights if excess <= 1 else np.ldexp(weights, -math.ceil(math.log2(excess)))


def measure_output_scales(evaluator: Evaluator, setting: Setting, label: str) -> OutputScales:
    """Measure the sizes of the outputs near the primal, along a direction that moves every entry.

    Args:
        setting: its noise shows how large the terms are that cancel in an output.
        label: names the random stream.
    """
    program = evaluator.program
    line = evaluator.line(draw_gaussian_tangent(program, make_generator(0, "outlook", label)))
    output_scales = measure_scales_along(program, line)
    smallest_share = max((claim.eps for claim in program.claims), default=setting.eps) ** CANCELLED_SIZE_POWER
    return replace(output_scales, scales=np.maximum(output_scales.scales, smallest_share * estimate_terms(program, setting)))


def estimate_terms(program: Program, setting: Setting) -> F64:
    """Estimate from the noise how large the terms are that each output is the sum of, (M,).

    The logarithm of a probability next to 1 is the difference of large terms, and so is its derivative. Weighed by its own size
    alone it would drown all other outputs in their rounding.
    """
    return np.maximum(np.abs(program.value), np.minimum(setting.total_noise / setting.eps, bound_terms(program)))


def measure_scales_along(program: Program, phi: Phi) -> OutputScales:
    """Measure the sizes of the outputs a little off the primal on both sides along a line."""
    step = NEARBY_STEP * directions.finest_step(program.eps)
    with np.errstate(all="ignore"):
        ahead = phi(step).copy()
        behind = phi(-step)
        non_finite = ~(np.isfinite(ahead) & np.isfinite(behind))
        slope = np.where(non_finite, 0.0, np.abs(ahead - behind) / (2 * step))
    size = np.maximum(np.abs(program.value), slope)
    scales = np.concatenate([directions.compute_entry_scales(size[leaf.span]) for leaf in program.outputs])
    return OutputScales(scales, non_finite & ~non_finite.all())


def choose_channels(evaluator: Evaluator, setting: Setting, label: str) -> F64 | None:
    """Choose the combinations of outputs to differentiate in full mode, (C, M); None: every output is a channel.

    Outputs that are not finite on both sides of the primal are channels of their own, as many as there is room for.
    """
    size = evaluator.program.value.size
    if size <= MAX_SINGLE_CHANNELS:
        return None
    output_scales = measure_output_scales(evaluator, setting, label)
    combinations = output_scales.draw_even_cotangents(COMBINATIONS, label)
    singled_out = np.flatnonzero(output_scales.non_finite)[: MAX_SINGLE_CHANNELS - COMBINATIONS]
    single_channels = np.zeros((singled_out.size, size))
    single_channels[np.arange(singled_out.size), singled_out] = 1.0
    return np.vstack([*combinations, *single_channels])


def find_outputs_of_channels(program: Program, channels: F64 | None) -> NDArray[np.intp]:
    """Return the number of the output that each channel belongs to, (C,); combinations of outputs all count as one output."""
    if channels is not None:
        return np.zeros(len(channels), dtype=np.intp)
    return repeat_per_number(np.arange(len(program.outputs)), program.outputs)


def _find_native_terms(program: Program, eps: float) -> F64:
    """Find the size of the terms that may cancel in the target's own dtype, (M,).

    PyTorch and JAX may let terms as large as the inputs cancel in their own derivatives. Where the user wrote a derivative,
    they count as far as the value shows that they cancel.
    """
    terms = find_term_sizes(program, eps)
    if not program.has_written_derivative or program.native_value is None:
        return terms
    with np.errstate(invalid="ignore"):
        shown = VALUE_ERROR_ULPS * np.nan_to_num(np.abs(program.native_value - program.value)) / eps
    return np.maximum(np.minimum(terms, shown), np.abs(program.value))


def compute_output_slopes(program: Program, setting: Setting, eps: float) -> F64:
    """Compute the slope of a channel that changes by the size of its terms over the scale of each leaf, (C, N).

    Terms of order one, such as that of exp(x) - 1, change over a distance of one if the scale is smaller than that.

    Args:
        program: what is checked.
        setting: the channels, and the noise that shows the terms.
        eps: relative spacing of floats in the precision of the slopes that this is compared with.
    """
    terms = estimate_terms(program, setting)
    if setting.term_sizes is not None:
        terms = np.maximum(terms, setting.term_sizes)
    if eps > setting.eps:  # what cancels in it may not show in the evaluation
        terms = np.maximum(terms, _find_native_terms(program, eps))
    terms_of_order_one = np.minimum(setting.total_noise / setting.eps, 1.0)
    if setting.channels is not None:
        sizes = [np.max(np.abs(setting.channels) * t, axis=1, initial=0.0) for t in (terms, terms_of_order_one)]
    else:
        outputs = program.outputs
        sizes = [
            repeat_per_number([np.max(t[leaf.span], initial=0.0) for leaf in outputs], outputs)
            for t in (terms, terms_of_order_one)
        ]
    parts = [program.point[leaf.span] for leaf in program.leaves]
    scales = np.concatenate([np.full(x.size, directions.compute_leaf_scale(x)) for x in parts])
    slopes: F64 = np.maximum(sizes[0][:, None] / scales, sizes[1][:, None] / np.maximum(scales, 1.0))
    return slopes
