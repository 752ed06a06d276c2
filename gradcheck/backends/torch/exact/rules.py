"""The rule of every PyTorch operator that has one, by the operator's name."""

from __future__ import annotations

from typing import Any

from gradcheck.backends.torch.exact import branches, functions, linear, matrices
from gradcheck.backends.torch.exact.linear import Rule, list_names
from gradcheck.exact.build import node_of
from gradcheck.exact.formulas import FORMULAS

# Functions that are constant between jumps, and tensors that do not depend on the values of their arguments.
STEPS = list_names(
    """
    sign sgn floor ceil round trunc heaviside signbit floor_divide empty_like zeros_like ones_like full_like new_zeros
    new_ones new_full new_empty new_empty_strided empty_strided _new_zeros_with_same_feature_meta _efficientzerotensor
    rand_like randn_like bernoulli fill zero empty_permuted uniform normal
    """
)
# Operators whose branch the floating-point values of their arguments choose.
BRANCHES = {
    *list_names("where maximum minimum fmax fmin clamp clamp_min clamp_max relu abs amax amin max min copysign sign sgn floor"),
    *list_names("ceil round trunc threshold_backward argmax argmin _local_scalar_dense equal is_nonzero"),
    *branches.SELECTION_AXES,
    *branches.POOLS,
}
# Operators that give a number of a tensor to Python.
READING = frozenset(("_local_scalar_dense", "item"))
# Operators that compare two tensors: a branch that equal numbers choose is one by chance, unless they are always equal.
COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))


def name_of(operator: Any) -> str:
    """Return an operator's name without its namespace and overload."""
    packet = getattr(operator, "overloadpacket", operator)
    return str(getattr(packet, "__name__", packet))


RULES: dict[str, Rule] = {
    **dict.fromkeys(linear.MOVES, linear.translate_move),
    **dict.fromkeys(linear.SUMS, linear.translate_linear),
    **dict.fromkeys(linear.CHOSEN_SUMS, linear.translate_chosen_sum),
    **dict.fromkeys(linear.WEIGHTED_SUMS, linear.translate_by_matrix),
    **dict.fromkeys(STEPS, functions.translate_step),
    **{name: functions.make_rule(formula) for name, formula in FORMULAS.items()},
    **dict.fromkeys(("convert_element_type", "_to_copy"), functions.make_rule(node_of)),
    "erf_inv": functions.make_rule(FORMULAS["erfinv"]),
    "_neg_view": functions.make_rule(FORMULAS["neg"]),
    **dict.fromkeys(("index_put", "_unsafe_index_put", "put"), linear.translate_put),
    "scatter_reduce": linear.translate_reduction,
    "masked_fill": linear.translate_filling("value", 2),
    "scatter": linear.translate_filling("value", 3),
    "index_fill": linear.translate_filling("value", 3),
    "constant_pad_nd": linear.translate_filling("value", 2),
    "add": functions.translate_add,
    "sub": functions.translate_sub,
    "rsub": functions.translate_rsub,
    "mul": functions.translate_mul,
    "div": functions.translate_div,
    "true_divide": functions.translate_div,
    "fmod": functions.translate_remainder,
    "remainder": functions.translate_remainder,
    "frac": functions.translate_fraction,
    "pow": functions.translate_pow,
    "float_power": functions.translate_pow,
    "exp": functions.translate_exp(0),
    "exp2": functions.translate_exp(2),
    "atan2": functions.translate_atan2,
    "hypot": functions.translate_hypot,
    "_trilinear": functions.translate_trilinear,
    "polygamma": functions.translate_polygamma,
    "native_dropout": functions.translate_dropout,
    "mean": linear.translate_mean,
    "var": linear.translate_variance,
    "prod": linear.translate_product,
    "cumprod": linear.translate_cumulative_product,
    **dict.fromkeys(("maximum", "fmax"), branches.translate_extremum_of_two(1)),
    **dict.fromkeys(("minimum", "fmin"), branches.translate_extremum_of_two(-1)),
    "clamp": branches.translate_clamp,
    "clamp_min": branches.translate_clamp,
    "clamp_max": branches.translate_clamp_max,
    "relu": branches.translate_relu,
    "abs": branches.translate_abs,
    "copysign": branches.translate_copysign,
    "where": branches.translate_where,
    "amax": branches.translate_extremum(1),
    "amin": branches.translate_extremum(-1),
    "max": branches.translate_max(1),
    "min": branches.translate_max(-1),
    **{name: branches.translate_selection(name) for name in branches.SELECTION_AXES},
    **{name: branches.translate_pool(3 if "3d" in name else 2) for name in branches.POOLS},
    **dict.fromkeys(("mm", "bmm", "dot", "mv", "vdot", "ger", "outer"), linear.translate_bilinear),
    "convolution": linear.translate_convolution,
    "_convolution": linear.translate_convolution,
    "convolution_backward": linear.translate_convolution_backward,
    **matrices.RULES,
}
