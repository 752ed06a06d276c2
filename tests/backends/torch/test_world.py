"""Several ranks of torch.distributed, checked as one function of all their inputs."""

import multiprocessing

import pytest
import ranks

import gradcheck
from gradcheck import Reason, Verdict, normal, uniform
from gradcheck.backends.torch.world import pool
from gradcheck.backends.torch.world.payload import pack
from gradcheck.errors import InputError, UsageError
from gradcheck.options import Options
from gradcheck.run.api import build_case

DDP_LEAVES = ("inputs[0]", "params['module.bias']", "params['module.weight']")


def leaves_of(result):
    return [row.wrt for row in result.comparisons]


def diagnoses_of(result):
    return "".join(row.diagnosis or "" for row in result.comparisons)


@pytest.mark.parametrize(
    ("target", "options", "leaves"),
    [
        (ranks.gather, {"dtype": "float32"}, ["rank 0: x", "rank 1: x"]),
        (ranks.dropout, {}, ["rank 0: x", "rank 1: x"]),
        (
            ranks.SharedScale,
            {"ranks": "replicated", "replicated": ("x", "params['scale']")},
            [f"rank {rank}: {leaf}" for rank in (0, 1) for leaf in ("x", "params['scale']", "params['weight']")],
        ),
        (
            ranks.ddp,
            {"ranks": "mean", "init": {}},
            [f"rank {rank}: {leaf}" for rank in (0, 1) for leaf in DDP_LEAVES],
        ),
    ],
)  # fmt: skip
def test_right_programs_pass(target, options, leaves):
    result = gradcheck.check(target, normal(1, 2), world=2, **options)
    assert result.verdict is Verdict.PASS
    assert sorted(leaves_of(result)) == sorted(leaves)
    assert not multiprocessing.active_children()


def test_dependences_hold_on_every_rank_or_on_one():
    def check(depends):
        result = gradcheck.check(ranks.gather, normal(1, 2), world=2, contract=("depends",), depends=depends)
        return next(contract.message for contract in result.contracts if contract.name == "depends")

    assert "rank 1: output: only x: holds" in check({"output": ["x"]})
    assert "rank 0: output depends on rank 1: x, which is not" in check({"rank 0: output": ["rank 0: x"]})


def test_several_ranks_imply_pytorch():
    assert gradcheck.check(ranks.negative, normal(2), world=2).verdict is Verdict.PASS


def test_every_rank_draws_inputs_of_its_own_unless_they_are_replicated():
    result = gradcheck.check(ranks.gather, normal(1, 2), world=2, every_entry=True)
    slopes = [partial.values["reverse"] for partial in result.partials if partial.values["reverse"]]
    assert len(set(slopes)) == 4


@pytest.mark.parametrize(
    ("target", "options", "leaf", "diagnosis"),
    [
        (ranks.gather_own_slice, {}, "rank 0: x", "ranks: the claim is 0 for 1 of 4 outputs, and right"),
        (ranks.reduce, {"ranks": "replicated"}, "rank 1: x", "is 2 times the derivative on all 2 entries, and 2 is the"),
        (ranks.Summed, {"ranks": "mean"}, "rank 1: params['weight']", "2 is the number of ranks; a sum or mean over the ranks"),
        (ranks.ddp, {"init": {}}, "rank 0: params['module.weight']", "as by DistributedDataParallel: use ranks='mean'"),
        (ranks.Unreduced, {"replicated": ("params",)}, "rank 1: params['weight']", "a sum over the ranks is missing"),
        (ranks.Summed, {}, "rank 0: params['weight']", "and its gradient is summed over them, name it in replicated="),
        (ranks.gather_scaled, {}, "rank 1: x", "right for the outputs of its own rank, and wrong for those of other ranks"),
    ],
)  # fmt: skip
def test_wrong_programs_fail(target, options, leaf, diagnosis):
    result = gradcheck.check(target, normal(1, 2), world=2, **options)
    failed = [row.wrt for row in result.comparisons if row.verdict is Verdict.FAIL]
    assert result.verdict is Verdict.FAIL
    assert leaf in failed
    assert diagnosis in diagnoses_of(result)


def test_an_exception_of_one_rank_names_it():
    result = gradcheck.check(ranks.raises_on_one_rank, normal(2), world=2)
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.TARGET_RAISED)
    assert result.message == "rank 1: the target raised ValueError: only here, given x (2,) float64"
    assert "in raises_on_one_rank" in result.traceback


def test_ranks_whose_collectives_no_longer_match_are_started_again_a_few_times(monkeypatch):
    monkeypatch.setattr(pool, "GRACE_SECONDS", 0.0)
    result = gradcheck.check(ranks.raises_below_one, uniform(1, low=1.0, high=1.0 + 1e-12), world=2)
    assert result.message.startswith("rank 1: the target raised ValueError: below one")


def test_a_dead_rank_costs_its_case():
    result = gradcheck.check(ranks.dies_on_one_rank, normal(2), world=2)
    assert (result.reason, result.message) == (Reason.WORKER_DIED, "rank 1 of 2 ended with exit code 3, without an answer")
    assert not multiprocessing.active_children()


def test_ranks_that_wait_for_each_other_end_with_their_places():
    result = gradcheck.check(ranks.hangs, normal(2), world=2, budget=0.2)
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.TIMEOUT)
    assert "ranks.py" in result.traceback
    assert "in hangs" in result.traceback


def test_ranks_must_return_the_same_shapes():
    result = gradcheck.check(ranks.returns_its_rank, normal(2), world=2)
    assert result.message.startswith(
        "the ranks return different outputs: rank 0 output (1,) float64; rank 1 output (2,) float64"
    )


def test_one_replicated_output_must_be_the_same_on_every_rank():
    with pytest.raises(InputError, match="rank 1 differs from rank 0"):
        gradcheck.check(ranks.Summed, normal(1, 2), world=2, ranks="replicated")


def test_a_target_that_other_processes_cannot_import_is_refused():
    import torch

    with pytest.raises(InputError, match="at the top level of a module"):
        gradcheck.check(lambda x: torch.tanh(x), normal(2), world=2)
    assert pack(build_case(ranks.gather, normal(2)), Options(world=2)).files["ranks"] == ranks.__file__


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world": 0}, "world=0: expected an integer of at least 1"),
        ({"ranks": "mean"}, "say how many by world=2"),
        ({"world": 2, "ranks": "summ"}, "did you mean sum"),
        ({"world": 2, "order": 2, "reference": ranks.reduce}, "leave out reference=, order="),
        ({"world": 2, "framework": "numpy"}, "is for torch targets"),
        ({"world": 2, "methods": ("forward", "numeric")}, "checks the reverse mode .* leave out methods= without 'reverse'"),
        ({"world": 2, "depends": "masked along 0 of x by keep"}, "leave out masks by name in depends="),
        ({"world": 2, "replicated": ("z",)}, "replicated='z' is not an input or a parameter: expected some of x"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        gradcheck.check(ranks.gather, normal(2), **options)
