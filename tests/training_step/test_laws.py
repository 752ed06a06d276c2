"""Every law on right steps, on planted faults, and on what it does not apply to; `reports/step` tries more of each."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradcheck
from gradcheck.errors import InputError
from gradcheck.glossary.laws import LAWS
from gradcheck.results import Reason, Verdict
from tests.support import training_steps as steps

QUICK = tuple(law for law in LAWS if law != "compiled")


def line_of(result, name):
    (law,) = [law for law in result.laws if law.name == name]
    return law


@pytest.mark.parametrize("name", ["LSTM", "contrastive loss", "LBFGS", "clipping after unscaling"])
def test_right_steps_pass(name):
    result = gradcheck.step(**steps.RIGHT[name](0), laws=QUICK)
    assert result.verdict is Verdict.PASS, str(result)
    assert result.reason is Reason.AGREES
    assert [law.name for law in result.laws] == list(QUICK)


@pytest.mark.parametrize(
    ("law", "fault", "words"),
    [
        ("micro-batches", "unequal parts averaged", "weight each by its number of labels"),
        ("receives", "detach in the middle", "in the forward of blocks.1"),
        ("receives", "LoRA under reentrant checkpointing", "use_reentrant=False"),
        ("receives", "missing from the optimiser", "3.bias"),
        ("permuted", "view() for transpose()", "blocks.1.out"),
        ("per-sample", "mean over axis 0", "blocks.1.out"),
        ("scaling", "clipped before unscaling", "clipped before unscaling"),
        ("scaling", "part of the model clipped", "2 of 4 gradients are not clipped"),
        ("directional", "factor missing in a backward", "backward"),
        ("resumed", "moving average as attribute", "average"),
        ("checkpointed", "counter in the forward", "counters"),
        ("autocast", "positions in bfloat16", "positions"),
    ],
)
def test_planted_faults_fail_and_are_named(law, fault, words):
    result = gradcheck.step(**steps.FAULTS[law][fault](), laws=(law,))
    assert result.verdict is Verdict.FAIL
    assert result.reason is Reason.STEP_BROKEN
    assert words in line_of(result, law).message
    assert f"law {law}" in result.summary


def test_compiled_names_the_backend_of_a_fault(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)  # as without a C++ compiler, which takes seconds
    law = line_of(gradcheck.step(**steps.FAULTS["compiled"]["factor under compilation"](), laws=("compiled",)), "compiled")
    assert law.verdict is Verdict.FAIL
    assert "from the backend eager on" in law.message


def test_lora_is_dead_by_construction_and_not_disconnected():
    law = line_of(gradcheck.step(**steps.lora(), laws=("receives",)), "receives")
    assert law.verdict is Verdict.PASS
    assert "lora_A" in law.message


def test_everything_of_the_user_stays_as_it_was():
    pieces = steps.mlp(0)
    model = pieces["model"].train()
    optimizer = torch.optim.Adam(model.parameters())
    pieces["loss"](model, pieces["batch"]).backward()
    optimizer.step()
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict(), [p.grad for p in model.parameters()], pieces["batch"]))
    identities, random_state = [id(p.grad) for p in model.parameters()], torch.get_rng_state()
    pieces["loss"] = lambda m, b: functional.cross_entropy(
        m(b["x"]) + 0 * model(b["x"]), b["y"]
    )  # one that also uses the user's model
    gradcheck.step(**{**pieces, "optimizer": optimizer}, laws=QUICK)
    now = (model.state_dict(), optimizer.state_dict(), [p.grad for p in model.parameters()], pieces["batch"])
    assert str(now) == str(kept)
    assert all(torch.equal(a, b) for a, b in zip(kept[0].values(), now[0].values(), strict=True))
    assert [id(p.grad) for p in model.parameters()] == identities
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.training


def test_a_batch_that_cannot_be_split_is_said_by_the_laws_that_need_it():
    class Graph:
        x = torch.ones(2, 4)

    pieces = steps.mlp(0, loss=lambda m, b: m(b.x).square().mean(), batch=Graph())
    result = gradcheck.step(**pieces, laws=("micro-batches", "permuted", "per-sample", "receives"))
    assert [law.verdict for law in result.laws] == [None, Verdict.PASS, None, None]
    assert line_of(result, "permuted").message == (
        "not available: a batch of type Graph cannot be split: expected tensors with a common first axis"
    )


def test_a_loss_that_takes_no_part_of_the_batch_has_no_verdict_of_the_laws_that_split_it():
    pieces = steps.mlp(0, loss=lambda m, b: m(b[None]).square().mean(), batch=torch.randn(4))
    result = gradcheck.step(**pieces, laws=("micro-batches", "permuted", "per-sample"))
    assert [law.verdict for law in result.laws] == [None] * 3
    assert "cannot be split: with 2 samples of it, the loss raised RuntimeError" in line_of(result, "permuted").message


def test_a_loss_that_is_nan_fails_by_its_gradient_and_is_not_called_random():
    pieces = steps.with_loss(lambda m, b: m(b["x"]).sum() * float("nan"))
    result = gradcheck.step(**pieces, laws=("micro-batches", "receives", "per-sample", "directional"))
    assert "NaN or infinite" in line_of(result, "receives").message
    assert "NaN or infinite" in line_of(result, "micro-batches").message
    assert line_of(result, "directional").verdict is None
    assert not result.notes


def test_an_optimizer_keeps_what_its_class_adds():
    pieces = steps.mlp(0)
    pieces["optimizer"] = torch.optim.LBFGS(pieces["model"].parameters())
    result = gradcheck.step(**pieces, laws=("receives", "resumed"))
    assert [law.verdict for law in result.laws] == [Verdict.PASS, Verdict.PASS]


def test_random_losses_are_not_split():
    loss = lambda m, b: (m(b["x"]) * torch.rand(len(b["x"]), 3)).mean()  # noqa: E731
    law = line_of(gradcheck.step(**steps.with_loss(loss), laws=("permuted",)), "permuted")
    assert law.verdict is None
    assert "random numbers" in law.message


class Uncopyable(nn.Linear):
    def __deepcopy__(self, memo):
        raise RuntimeError("no copies")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": lambda m, b: m(b["x"])}, r"a tensor of shape \(6, 3\): expected a scalar"),
        ({"model": Uncopyable(4, 3), "optimizer": None}, "pass a function that makes the model"),
        ({"optimizer": "adam"}, "expected a torch.optim.Optimizer"),
        ({"model": lambda: 3}, "returned a int: expected an nn.Module"),
        ({"laws": ("micro",)}, "law 'micro': expected some of micro-batches"),
        ({"laws": "recieves"}, "law 'recieves': did you mean 'receives'"),
        ({"loss": {"x": 1}}, "loss: expected a function, got a dict"),
        ({"model": nn.Linear(4, 3).requires_grad_(False), "optimizer": None}, "there is nothing to train"),
    ],
)
def test_a_piece_that_does_not_fit_is_one_clear_error(change, words):
    with pytest.raises(InputError, match=words):
        gradcheck.step(**{**steps.mlp(0), **change})


def test_a_loss_that_raises_is_an_error_with_its_own_frames():
    result = gradcheck.step(**steps.with_loss(lambda m, b: b["missing"]))
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.TARGET_RAISED)
    assert "KeyError" in result.message


def test_state_that_cannot_be_saved_fails_the_law():
    class Locked(nn.Linear):
        def get_extra_state(self):
            return lambda: 0

        def set_extra_state(self, state):
            pass

    law = line_of(gradcheck.step(**steps.mlp(0, model=nn.Sequential(Locked(4, 3))), laws=("resumed",)), "resumed")
    assert law.verdict is Verdict.FAIL
    assert "cannot be saved" in law.message
