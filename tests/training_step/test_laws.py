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


@pytest.mark.parametrize(
    "name",
    ["LSTM", "contrastive loss", "LBFGS", "clipping after unscaling", "clipping by value", "GAN critic", "GAN, two optimisers"],
)
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
        ("scaling", "clipped by value before unscaling", "clipped before unscaling"),
        ("scaling", "clipped while scaled by hand", "after unscaling"),
        ("directional", "factor missing in a backward", "backward"),
        ("resumed", "moving average as attribute", "average"),
        ("checkpointed", "counter in the forward", "counters"),
        ("autocast", "positions in bfloat16", "positions"),
        ("autocast", "cast without gradient behind a router", "casts that are kept"),
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


@pytest.mark.parametrize("seed", range(3))
def test_choices_that_rounding_turns_over_are_no_fault_of_autocast(seed):
    law = line_of(gradcheck.step(**steps.hard_experts(seed), laws=("autocast",)), "autocast")
    assert law.verdict is Verdict.PASS
    assert "turn over by rounding" in law.message


def test_an_expert_that_the_batch_leaves_out_is_not_taken_for_dead():
    law = line_of(gradcheck.step(**steps.hard_experts(size=2), laws=("receives",)), "receives")
    assert law.verdict is Verdict.INCONCLUSIVE
    assert "pass a larger batch" in law.message


def test_jumps_of_the_loss_are_not_taken_for_its_slope():
    class Jumping(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y + (self.weight.sum() > self.level)

    model = Jumping(4, 3)
    model.level = model.weight.sum().item() - 1e-4
    pieces = {"model": model, "loss": lambda m, b: m(b).square().mean(), "batch": torch.randn(6, 4)}
    law = line_of(gradcheck.step(**pieces, laws=("directional",)), "directional")
    assert law.verdict is Verdict.PASS


def test_each_parameter_may_be_clipped_by_its_own_norm():
    law = line_of(gradcheck.step(**steps.mlp(training_step=steps.clipped_by_parameter), laws=("scaling",)), "scaling")
    assert law.verdict is Verdict.PASS
    assert "multiplies the gradients by" in law.message
    assert " to " in law.message


def test_gradients_changed_by_hand_are_not_judged():
    def centralised(model, batch, optimizer):
        optimizer.zero_grad()
        functional.cross_entropy(model(batch["x"]), batch["y"]).backward()
        model[0].weight.grad -= model[0].weight.grad.mean(1, keepdim=True)
        optimizer.step()

    law = line_of(gradcheck.step(**steps.mlp(training_step=centralised), laws=("scaling",)), "scaling")
    assert (law.verdict, law.worst) == (Verdict.INCONCLUSIVE, "0.weight")


def test_what_a_step_neither_reaches_nor_holds_may_have_been_forgotten():
    unfrozen = steps.critic()
    unfrozen["model"].generator.requires_grad_(True)
    law = line_of(gradcheck.step(**unfrozen, laws=("receives",)), "receives")
    assert (law.verdict, law.worst) == (Verdict.INCONCLUSIVE, "generator.weight")
    held = {**unfrozen, "optimizer": torch.optim.Adam}
    assert line_of(gradcheck.step(**held, laws=("receives",)), "receives").worst == "generator.weight"


def test_ignored_labels_are_tried_only_where_the_loss_takes_them():
    def loss(model, batch):
        return -model(batch["ids"]).log_softmax(-1).gather(-1, batch["labels"][..., None]).mean()

    for pieces, unit in ((steps.gpt(), "labels"), (steps.gpt(loss=loss), "samples")):
        law = line_of(gradcheck.step(**pieces, laws=("micro-batches",)), "micro-batches")
        assert law.verdict is Verdict.PASS
        assert f"weight each part by its number of {unit}" in law.message


@pytest.mark.parametrize("loss", [lambda m, b: m(b["x"]).detach().sum(), lambda m, b: 0 * m(b["x"]).sum()])
def test_without_a_gradient_no_law_passes(loss):
    result = gradcheck.step(**steps.with_loss(loss), laws=QUICK)
    assert {law.name: law.verdict for law in result.laws if law.verdict} == {"receives": Verdict.FAIL}


def test_a_scheduler_that_wants_a_metric_is_saved_and_loaded():
    pieces = steps.mlp(scheduler=lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0))
    assert gradcheck.step(**pieces, laws=("receives", "resumed")).ok


def test_a_backward_in_float32_alone_is_judged_in_float32():
    class Narrow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return torch.mm(torch.eye(len(grad), dtype=torch.float32), 2 * grad)

    result = gradcheck.step(**steps.with_loss(lambda m, b: Narrow.apply(m(b["x"])).square().mean()), laws=("permuted",))
    assert result.ok
    assert "does not run in float64" in result.notes[0]


def test_a_training_step_that_raises_is_reported_once():
    result = gradcheck.step(**steps.mlp(training_step=lambda model, batch, optimizer: batch["missing"]))
    assert (result.verdict, result.laws) == (Verdict.ERROR, ())
    assert "the training step raised KeyError" in result.message


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
        ({"loss": lambda m: 0}, r"loss\(m\): expected loss\(model, batch\)"),
        ({"training_step": lambda m, b, o, s, epoch: 0}, r"epoch\): expected training_step\(model, batch, optimizer\) or"),
        ({"accumulate": lambda m, b: 0}, r"expected accumulate\(model, loss, batches\)"),
        ({"model": nn.LazyLinear(3)}, "the shape of weight is not known yet: run it once"),
        ({"batch": {"x": torch.zeros(0, 4), "y": torch.zeros(0).long()}}, "it has no samples"),
        ({"batch": torch.utils.data.DataLoader([1])}, r"got a DataLoader; pass next\(iter\(loader\)\)"),
        ({"scheduler": torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)], 0.1), 1)}, "another optimizer"),
        ({"scheduler": [1]}, "expected one scheduler"),
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
