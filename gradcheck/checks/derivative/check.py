"""The check of the first derivative: is the claimed derivative the derivative?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.views import restrict_to_leaves
from gradcheck.checks.contracts.any_target import custom_rule_primal, direct_calls, empty_inputs, jvp_linearity, vjp_linearity
from gradcheck.checks.derivative.all_leaves import compare_whole_input
from gradcheck.checks.derivative.comparisons import Comparisons
from gradcheck.checks.derivative.full import compare_every_entry
from gradcheck.checks.derivative.mode import choose_mode, explain_over_budget, needs_every_entry
from gradcheck.checks.derivative.preconditions import check_preconditions, describe_non_finite
from gradcheck.checks.derivative.probe import compare_leaf_by_leaf
from gradcheck.checks.derivative.small_differences import describe_small_differences
from gradcheck.checks.optional.registry import run_optional_checks
from gradcheck.checks.trial_result import TrialResult
from gradcheck.compare import claimed_jacobians, conditioning, internal_precision
from gradcheck.compare.evaluator import Evaluator
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.results import Comparison, Contract, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.backends.flat import F64
    from gradcheck.backends.program import Program
    from gradcheck.compare.trial import MeasuredTrial, Trial
    from gradcheck.results import Partial

# Input numbers from which on the comparison along random directions must do for the linearity of the vjp: the cotangent of
# those directions is random, too.
MAX_LINEARITY_INPUT = 2**16
NOT_MOVED = "{}: no step moves such an entry, so only a derivative of zero passes there; give finite inputs"


def check_derivative(trial: Trial, partners: Sequence[Program] = ()) -> TrialResult:
    """Check every claim of a program, its contracts, and the optional checks that were requested.

    Preconditions come first, then the evidence with the interval test of every claim, leaf by leaf and method by method.

    Args:
        trial: the program with its options.
        partners: functions of the same inputs, for the laws of differentiation.

    Raises:
        DerivativeError: if a derivative that the user wrote raises.
        ClaimError: if a hand-written derivative has the wrong form.
    """
    program, options = trial.program, trial.options
    trial.recorder.count()  # the primal, which the backend evaluated
    trial.recorder.note(*program.notes)
    preconditions = check_preconditions(trial.evaluator, random=options.nondeterministic)
    contracts = [contract for contract in preconditions.contracts if options.tries(contract.name)]
    stop, message = preconditions.stop, preconditions.message
    if stop is None:
        message = explain_over_budget(options, trial.evaluator.seconds)
        stop = Reason.OVER_BUDGET if message else None
    else:
        contracts += _contracts_behind(stop, trial)
    if stop is not None:
        return TrialResult(
            contracts=tuple(contracts),
            notes=program.notes,
            stop=stop,
            message=message,
            evaluations=trial.recorder.evaluations,
        )
    unmoved = describe_non_finite(program.point, program.leaves)
    trial.recorder.note(*filter(None, [unmoved and NOT_MOVED.format(unmoved)]))
    mode = choose_mode(program, options, trial.evaluator.seconds)
    trial.recorder.note(*filter(None, [mode.why]))
    direct_calls.call_at_other_inputs(trial)
    if options.unbiased:
        from gradcheck.checks.derivative.unbiasedness import compare_means  # only where it is declared

        comparisons = compare_means(trial, preconditions.spread)
    else:
        comparisons = _compare_claims(trial, preconditions.spread, mode.name)
    if program.is_detached:
        comparisons = replace(comparisons, rows=[_name_detachment(row) for row in comparisons.rows])
    trial.recorder.note(*describe_small_differences(comparisons.rows))
    contracts += _check_contracts(comparisons)
    is_open = any(row.verdict is Verdict.INCONCLUSIVE for row in comparisons.rows)
    if comparisons.rows and not options.unbiased and (is_open if options.exact is None else options.exact):
        from gradcheck.checks.derivative.exact import check_exactly  # only where it is needed

        comparisons = replace(comparisons, rows=[*comparisons.rows, *check_exactly(trial, comparisons.rows)])
    trial.recorder.note(*_describe_equal_sizes(program))
    batching = trial.evaluator.batching
    return TrialResult(
        comparisons=tuple(comparisons.rows),
        contracts=tuple(contracts),
        checks=run_optional_checks(comparisons.trial, partners, comparisons.rows) if comparisons.rows else (),
        partials=tuple(comparisons.partials),
        notes=tuple(trial.recorder.notes),
        branches=frozenset(trial.recorder.branches),
        details=(*program.details, *((batching.why,) if batching else ())),
        stop=None if comparisons.rows else Reason.NOTHING_CLAIMED,
        mode=comparisons.mode,
        evaluations=trial.recorder.evaluations,
    )


def _compare_claims(trial: Trial, spread: F64, mode: str) -> Comparisons:
    """Compare every claim along directions of the whole input, then only the leaves that this does not confirm.

    Args:
        trial: what is checked.
        spread: how far repeated evaluations at the primal differ, (M,).
        mode: 'full' looks at every entry of those leaves, 'probe' along random directions of each.
    """
    program, options, is_full = trial.program, trial.options, mode == "full"
    compare_leaves = compare_every_entry if is_full else compare_leaf_by_leaf
    whole = None
    if not (needs_every_entry(program, options) if is_full else options.checks or options.stories):
        joint_program = claimed_jacobians.make_vjps_of_jvps(program) if is_full else program
        joint = trial.evaluator if joint_program is program else Evaluator(joint_program, trial.recorder)
        whole = compare_whole_input(replace(trial, evaluator=joint), every_entry_counts=is_full)
    if whole is None or not whole.rows:
        return compare_leaves(trial, spread)
    rows = {path: [replace(row, mode=mode) for row in of_leaf] for path, of_leaf in whole.rows.items()}
    unconfirmed = [leaf for leaf in program.leaves if leaf.entries and leaf.path not in rows]
    partials: Sequence[Partial] = ()
    if unconfirmed and program.capabilities.complex_step is not None:
        return compare_leaves(trial, spread)  # which compares with the complex step too
    if unconfirmed:
        evaluator = Evaluator(restrict_to_leaves(program, unconfirmed), trial.recorder)
        rest = compare_leaves(replace(trial, evaluator=evaluator), spread)
        partials = rest.partials
        rows |= {leaf.path: [row for row in rest.rows if row.wrt == leaf.path] for leaf in unconfirmed}
    in_order = [row for leaf in program.leaves for row in rows.get(leaf.path, [])]
    return Comparisons(trial.with_setting(whole.setting), in_order, mode, partials, whole.scales)


def _describe_equal_sizes(program: Program) -> list[str]:
    """Note the square inputs of a derivative that the user wrote: sizes that are mixed up do not show there."""
    if not program.has_written_derivative:
        return []
    square = [leaf for leaf in program.leaves if len({n for n in leaf.shape if n > 1}) < sum(n > 1 for n in leaf.shape)]
    shapes = ", ".join(f"{leaf.path} has {'×'.join(map(str, leaf.shape))}" for leaf in square)
    return [f"sizes coincide: {shapes}; swapped axes may not show, so try other sizes"] if square else []


def _name_detachment(row: Comparison) -> Comparison:
    """Give a wrong claim of zero its reason: no output carries a gradient. A hand-written claim keeps its own."""
    is_autodiff = row.verdict is Verdict.FAIL and row.method != "analytic"
    return replace(row, reason=Reason.DETACHED) if is_autodiff else row


def _contracts_behind(stop: Reason, trial: Trial) -> list[Contract]:
    """Check the contracts whose breach looks like a precondition that is not met."""
    layer, options = trial.program.capabilities.layer, trial.options
    if stop is Reason.NONDETERMINISTIC and options.tries("primal") and layer is not None:
        from gradcheck.checks.contracts.torch import registry  # loads PyTorch

        # A value that depends on whether gradients are recorded looks as if the function were random.
        others = [name for name in CONTRACTS if name != "primal"]
        contracts = registry.check_contracts(layer, np.abs, float, trial.label, others, None, trial.recorder)
        return [contract for contract in contracts if contract.verdict is Verdict.FAIL]
    if stop is Reason.EMPTY and options.tries(empty_inputs.NAME):
        return empty_inputs.check_empty_inputs(trial.program)
    return []


def _check_contracts(comparisons: Comparisons) -> list[Contract]:
    """Check what a derivative must honour besides its value."""
    trial, contracts = comparisons.trial, list[Contract]()
    program, options = trial.program, trial.options
    coarse = internal_precision.may_be_internal_rounding(comparisons.rows)
    applies = {
        vjp_linearity.NAME: not (comparisons.scales and program.point.size > MAX_LINEARITY_INPUT),
        vjp_linearity.UPSTREAM: program.capabilities.upstream is not None,
    }
    names = [name for name, is_checked in applies.items() if is_checked and options.tries(name)]
    contracts += vjp_linearity.check_vjp_linearity(trial, names, coarse=coarse, scales=comparisons.scales)
    if options.tries(jvp_linearity.NAME):
        contracts += jvp_linearity.check_jvp_linearity(trial)
    if program.capabilities.differentiated_values is not None and options.tries(custom_rule_primal.NAME):
        contracts += custom_rule_primal.check_custom_rule_primal(trial.evaluator, trial.label)
    contracts += direct_calls.check_direct_calls(trial)
    return contracts + _check_layer_contracts(trial, comparisons.rows)


def _check_layer_contracts(trial: MeasuredTrial, comparisons: Sequence[Comparison]) -> list[Contract]:
    """Check the contracts of autograd Functions and modules that the user wrote."""
    layer = trial.program.capabilities.layer
    claim = next((claim for claim in trial.program.claims if claim.method == "reverse"), None)
    if layer is None or claim is None:
        return []
    from gradcheck.checks.contracts.torch import registry  # loads PyTorch

    skipped = [name for name in CONTRACTS if not trial.options.tries(name)]
    if any(c.verdict is Verdict.FAIL and "forward" in (c.method, c.against) for c in comparisons):
        skipped.append("adjoint")  # the table says the same with more detail
    if trial.options.order > 1:
        skipped.append("double-backward")

    def gradient_shift(cotangent: F64) -> F64:
        rows = claimed_jacobians.evaluate_rows(claim, trial.program.point, cotangent[None])
        jacobian = claimed_jacobians.jacobian_of_claim(claim, rows, trial.program)
        return np.asarray(conditioning.measure_movement(jacobian, trial.program, cotangent[None])[0])

    tolerance = cache(lambda: internal_precision.measure_internal_tolerance(trial))
    options = trial.options
    return registry.check_contracts(layer, gradient_shift, tolerance, trial.label, skipped, options.budget, trial.recorder)
