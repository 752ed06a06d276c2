"""Mishaps in modules and Functions: the verdict names what happened, with the user's own lines, and leaves all as it was."""

import mishaps
import pytest
import torch
from typer.testing import CliRunner

import gradcheck
from gradcheck import Reason, Verdict, normal
from gradcheck.cli import app

X = normal(5, 4)
TOLD = {
    "NeedsAGpu": (Verdict.ERROR, Reason.TARGET_RAISED, ["the target raised", "return super().forward(x.cuda())"]),
    "RaisesInEval": (
        Verdict.FAIL,
        Reason.CONTRACT_BROKEN,
        ["contract train-eval: FAIL in eval mode the forward raises IndexError", "return y if self.training else y[:, 7]"],
    ),
    "ReturnsNone": (Verdict.ERROR, Reason.TARGET_RAISED, ["the function returned None", "is a return missing?"]),
    "Detaches": (Verdict.FAIL, Reason.DETACHED, ["output carries no gradient", "Look for .detach()", "explain detached"]),
    "ReturnsAFloat": (Verdict.FAIL, Reason.DETACHED, ["output, a Python float, carries no gradient"]),
    "WithoutGrad": (Verdict.FAIL, Reason.DETACHED, ["output carries no gradient", "no_grad()"]),
    "HalfWithoutGrad": (
        Verdict.FAIL,
        Reason.DISAGREES,
        ["detached: the claim would be right if nothing were detached", "torch.no_grad()"],
    ),
    "RaisesInBackward": (
        Verdict.ERROR,
        Reason.DERIVATIVE_RAISED,
        ["the backward pass raised NameError", "mishaps.py", "return g * torch.cos(y)"],
    ),
    "OfAnotherShape": (Verdict.ERROR, Reason.DERIVATIVE_RAISED, ["OfAnotherShapeBackward returned an invalid gradient"]),
    "TooMany": (Verdict.ERROR, Reason.DERIVATIVE_RAISED, ["(expected 1, got 2)"]),
    "NothingReturned": (Verdict.FAIL, Reason.DISAGREES, ["a missing return value"]),
    "RaisesInJvp": (
        Verdict.ERROR,
        Reason.DERIVATIVE_RAISED,
        ["the forward derivative cannot be computed: AttributeError", "return u * ctx.never_saved"],
    ),
    "NoBackward": (Verdict.ERROR, Reason.DERIVATIVE_RAISED, ["You must implement either the backward or vjp method"]),
}
OURS = ("gradcheck/backends", "gradcheck/checks", "torch/autograd", "torch/nn")


@pytest.mark.parametrize("name", TOLD)
def test_what_happened_is_named(name):
    verdict, reason, words = TOLD[name]
    torch.manual_seed(0)
    target = getattr(mishaps, name)
    result = gradcheck.check(target() if isinstance(target, torch.nn.Module) else target, X)
    told = " ".join(str(result).split())
    assert (result.verdict, result.reason) == (verdict, reason), str(result)
    assert all(word in told for word in words), str(result)
    assert not any(place in told for place in OURS), str(result)


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [
        ("NeedsAGpu", 3, "x.cuda()"),
        ("RaisesInEval", 1, "in eval mode"),
        ("ReturnsNone", 3, "returned None"),
        ("Detaches", 1, "carries no gradient"),
        ("RaisesInBackward", 3, "NameError"),
        ("RaisesInJvp", 3, "never_saved"),
        ("Holds", 0, "1 passed"),
        ("Prints", 0, "1 passed"),
    ],
)
def test_the_command_line_says_the_same_with_its_exit_code(name, code, word):
    words = ["run", f"{mishaps.__file__}:{name}", "--input", "normal(5, 4)", "--mode", "probe"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    assert word in done.stdout
    assert "the shape is" not in done.stdout
    assert ("the shape is" in done.stderr) is (name == "Prints")


@pytest.mark.parametrize("training", [True, False])
def test_what_cannot_be_copied_is_left_alone(training):
    module = mishaps.Holds().train(training)
    held = dict(vars(module))
    result = gradcheck.check(module, X, mode="probe")
    assert result.verdict is Verdict.PASS, str(result)
    assert vars(module) == held
    assert all(vars(module)[name] is value for name, value in held.items())
    assert not module.lock.locked()
    assert not module.log.closed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--contract", "compiled"], "contract='compiled': did you mean compile?"),
        (["--no-contract", "autocasts"], "no_contract='autocasts': did you mean autocast?"),
        (["--contract", "compile", "--no-contract", "compile"], "leave the other out"),
    ],
)
def test_a_contract_that_does_not_exist_is_refused(words, said):
    done = CliRunner().invoke(app, ["run", f"{mishaps.__file__}:Base", "--input", "normal(5, 4)", *words])
    assert (done.exit_code, said in done.stderr) == (2, True), done.output


def test_a_contract_is_explained_and_asked_for_again_by_the_replay():
    for name, how in (("compile", "`--contract compile`"), ("autocast", "`--no-contract autocast`")):
        assert how in CliRunner().invoke(app, ["explain", name]).stdout
    words = ["run", f"{mishaps.__file__}:RaisesInEval", "--input", "normal(5, 4)", "--no-contracts", "--contract", "train-eval"]
    done = CliRunner().invoke(app, [*words, "--mode", "probe"])
    assert done.exit_code == 1
    assert "--no-contracts --contract train-eval" in " ".join(done.stdout.split())
