"""A model layer by layer: the one that is wrong is named, and no other."""

import re

import pytest
import torch
from elementwise import layer
from torch import nn

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.errors import UsageError
from gradcheck.results import RunResult


class Wave(nn.Module):
    """The sine of its input times a parameter; `spoil` makes of its right gradient what it returns."""

    def __init__(self, spoil=lambda g: g):
        super().__init__()
        self.weight, self.wave = nn.Parameter(torch.linspace(0.5, 1, 6, dtype=torch.float64)), layer(spoil).apply

    def forward(self, x):
        return self.wave(self.weight * x)


def doubled(g):
    return 2 * g


class Block(nn.Module):
    def __init__(self, spoil=lambda g: g, between=lambda g: g):
        super().__init__()
        self.linear, self.wave, self.between = nn.Linear(6, 6, dtype=torch.float64), Wave(spoil), layer(between).apply

    def forward(self, x):
        return x + self.between(self.wave(self.linear(x)))


def model(*blocks):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6, dtype=torch.float64), *blocks, nn.Flatten())


def verdicts(result):
    return {one.path: one.verdict for one in result.layers}


def checked(target, *inputs, **options):
    return gradcheck.check(target, *inputs, by_layer=True, **options)


def test_of_a_right_model_every_layer_passes():
    result = checked(model(Block(), Block()), normal(2, 4))
    assert (result.verdict, result.culprit) == (Verdict.PASS, "")
    found = verdicts(result)
    assert found.pop("") is None  # its own lines say it
    inside = {f"{block}{path}" for block in "12" for path in ("", ".Layer", ".linear", ".wave", ".wave.Layer")}
    assert set(found) == {"0", "3"} | inside
    assert set(found.values()) == {Verdict.PASS}
    assert "1  Block  PASS with all 4 inside" in str(result)


def test_the_layer_that_is_wrong_is_named_and_what_holds_it_is_not_looked_at():
    result = checked(model(Block(), Block(doubled), Block()), normal(2, 4))
    assert result.verdict is Verdict.FAIL
    assert result.culprit == "2.wave (in its autograd.Function Layer) is wrong; everything else is right given its inputs"
    found = verdicts(result)
    assert found.pop("2.wave.Layer") is Verdict.FAIL
    assert found.pop("2.wave") is found.pop("2") is found.pop("") is None
    assert set(found.values()) == {Verdict.PASS}
    assert "not checked: a layer inside is wrong" in str(result)
    assert "the claim is 2 times the derivative" in str(result)
    assert result.evaluations > 50


def test_what_is_wrong_between_layers_is_the_fault_of_what_holds_them():
    result = checked(model(Block(), Block(between=doubled)), normal(2, 4))
    assert result.culprit == "2 (in its autograd.Function Layer) is wrong; everything else is right given its inputs"
    whole = checked(Block(between=doubled), normal(2, 6))
    assert whole.culprit == "the model (in its autograd.Function Layer) is wrong; everything else is right given its inputs"


class Cut(nn.Module):
    """Leaves out a part of its gradient, with no Function of its own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6, dtype=torch.float64)

    def forward(self, x):
        return self.linear(x) * x.detach()


def test_what_is_wrong_without_a_function_is_the_fault_of_the_module():
    assert checked(model(Block(), Cut()), normal(2, 4)).culprit == "2 is wrong; everything else is right given its inputs"
    whole = checked(Cut(), normal(2, 6))
    assert whole.culprit == "every layer is right given its inputs: look at what the model does between them"


class Late(layer()):
    """The sine; its gradient is wrong beyond 5."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.cos(x) * (1 + (x > 5))


def test_a_module_that_is_called_several_times_is_checked_on_each():
    class Shared(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.first = Wave()
            self.first.wave = function
            self.again = self.first

        def forward(self, x):
            return self.first(x) + self.again(10 - x)

    right = checked(Shared(torch.sin), normal(2, 6))
    assert [(one.path, one.calls) for one in right.layers] == [("", 1), ("first", 2)]
    assert right.verdict is Verdict.PASS
    assert "first  Wave ×2  PASS" in str(right)
    wrong = checked(Shared(Late.apply), normal(2, 6))
    assert wrong.culprit == "first (in its autograd.Function Late) is wrong; everything else is right given its inputs"


def test_keywords_tuples_dictionaries_and_numbers_are_handled():
    class Gate(nn.Module):
        def forward(self, x, *, scale, parts):
            return {"product": x * scale * parts["factor"], "sum": (x + parts["factor"],)}

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.wave = Gate(), Wave()

        def forward(self, x, flag=True):
            found = self.gate(x, scale=0.5, parts={"factor": self.wave(x)})
            return found["product"] + found["sum"][0] if flag else x

    result = checked(Model(), normal(2, 6), kwargs={"flag": True})
    assert (result.verdict, verdicts(result)["gate"]) == (Verdict.PASS, Verdict.PASS)


def test_layers_without_a_derivative_of_their_own_have_no_verdict():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.silent, self.unused = nn.Embedding(5, 6, dtype=torch.float64), Silent(), nn.Linear(3, 3)
            self.layers = nn.ModuleList([Wave()])

        def forward(self, i):
            self.silent(i)
            return self.layers[0](self.words(i))

    class Silent(nn.Module):
        def forward(self, i):
            return None

    result = checked(Model(), torch.tensor([0, 3]))
    assert result.verdict is Verdict.PASS, str(result)
    found = verdicts(result)
    assert [path for path in found if found[path] is Verdict.PASS] == ["words", "layers.0", "layers.0.Layer"]
    assert Verdict.FAIL not in found.values()


def test_nothing_of_the_model_s_is_changed():
    norm = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    state = torch.get_rng_state()
    assert checked(norm, normal(5, 4)).verdict is Verdict.PASS
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert all(p.grad is None for p in norm.parameters())
    assert norm.training
    assert not any(m._forward_pre_hooks for m in norm.modules())
    assert torch.equal(torch.get_rng_state(), state)


class Inherited(layer()):
    """As its base class."""


class New(torch.autograd.Function):
    """The sine in the form that torch.func takes, of keyword-like numbers too; wrong where half of its cotangent is zero."""

    @staticmethod
    def forward(x, factor, flag):
        return factor * torch.sin(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        spoilt = 1.5 if 2 * int((g == 0).sum()) == g.numel() else 1
        return ctx.factor * g * torch.cos(x) * spoilt, None, None


class Applies(nn.Module):
    def __init__(self, *functions):
        super().__init__()
        self.functions = [function.apply for function in functions]

    def forward(self, x):
        for function in self.functions:
            x = function(x)
        return x


def test_functions_are_checked_by_themselves_in_every_form_they_come_in():
    right = checked(nn.Sequential(Applies(Inherited, layer(), Inherited)), normal(2, 6))
    assert {(one.path, one.calls, one.verdict) for one in right.layers} == {
        ("", 1, None),
        ("0", 1, Verdict.PASS),
        ("0.Inherited", 2, Verdict.PASS),
        ("0.Layer", 1, Verdict.PASS),
    }


class Masked(nn.Module):
    """Uses every other entry of what it is given."""

    def forward(self, x):
        return x[:, ::2]


class Factor(nn.Module):
    def forward(self, x):
        return New.apply(x, 0.5, True)


def test_a_layer_is_asked_for_the_cotangent_that_the_model_sends_back():
    assert gradcheck.check(Factor(), normal(2, 6)).verdict is Verdict.PASS
    result = checked(nn.Sequential(Factor(), Masked()), normal(2, 6))
    assert result.culprit == "0 is wrong; everything else is right given its inputs"
    assert "contract upstream: FAIL for the cotangent that the model sends back" in " ".join(str(result).split())


def test_a_backward_that_takes_what_is_small_for_nothing_is_named():
    class Faint(nn.Module):
        def __init__(self, spoil):
            super().__init__()
            self.wave = Wave(spoil)

        def forward(self, x):
            return 1e-5 * self.wave(x)

    wrong = checked(Faint(lambda g: torch.where(g.abs() < 1e-3, 0.0, g)), normal(2, 6))
    assert re.fullmatch(r"wave( \(in its autograd.Function Layer\))? is wrong; everything else is right .*", wrong.culprit)
    assert checked(Faint(lambda g: g), normal(2, 6)).verdict is Verdict.PASS


class Clamp(torch.autograd.Function):
    slope = 1.0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x > 0)
        ctx.mark_dirty(x)
        return x.clamp_(min=0)

    @classmethod
    def backward(cls, ctx, g):
        return cls.slope * g * ctx.saved_tensors[0]


class Doubled(Clamp):
    slope = 2.0


class Overwriting(nn.Module):
    def __init__(self, clamp=Clamp):
        super().__init__()
        self.linear, self.relu, self.clamp = nn.Linear(4, 6, dtype=torch.float64), nn.ReLU(inplace=True), clamp.apply

    def forward(self, x):
        return self.clamp(self.linear(x) - 0.1) + self.relu(self.linear(x))


def test_layers_that_write_to_what_they_are_given_are_checked_on_what_it_was_before():
    torch.manual_seed(0)
    right, wrong = checked(Overwriting(), normal(3, 4)), checked(Overwriting(Doubled), normal(3, 4))
    assert (right.verdict, verdicts(right)["Clamp"], verdicts(right)["relu"]) == (Verdict.PASS,) * 3
    assert wrong.culprit == "the model (in its autograd.Function Doubled) is wrong; everything else is right given its inputs"


def test_a_backward_that_raises_is_told_of_the_layer_that_it_is_in():
    def raising(g):
        raise RuntimeError("no kernel for this shape")

    result = checked(model(Block(), Block(raising)), normal(2, 4))
    wrong = [one for one in result.layers if one.verdict is Verdict.ERROR]
    assert [one.path for one in wrong] == ["2.wave.Layer"]
    assert result.verdict is Verdict.ERROR
    assert result.culprit == "2.wave (in its autograd.Function Layer) is broken; everything else is right given its inputs"
    assert "no kernel for this shape" in str(result)
    assert 'raise RuntimeError("no kernel' in str(result)


class Refusing(nn.Module):
    def forward(self, x):
        raise ValueError("only for images")


class Falling(nn.Module):
    """Does without a layer that raises."""

    def __init__(self):
        super().__init__()
        self.refusing, self.own = Refusing(), layer().apply

    def forward(self, x):
        try:
            return self.refusing(x)
        except ValueError:
            return self.own(x)


def test_a_function_is_named_behind_the_module_that_applies_it_though_another_has_raised():
    assert set(verdicts(checked(Falling(), normal(2, 3)))) == {"", "refusing", "Layer"}


class Moody(nn.Module):
    """Raises on every call but the first."""

    def __init__(self):
        super().__init__()
        self.own, self.seen = layer().apply, [0]

    def forward(self, x):
        self.seen[0] += 1
        if self.seen[0] > 1:
            raise ValueError("called twice")
        return self.own(x)


def test_a_model_that_raises_while_its_layers_are_looked_for_is_an_error_with_its_own_lines():
    result = checked(Moody(), torch.ones(2, 3, dtype=torch.float64))
    assert result.verdict is Verdict.ERROR
    assert "ValueError: called twice" in result.message
    assert 'raise ValueError("called twice")' in result.traceback


def test_only_modules_have_layers():
    with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module"):
        checked(torch.sin, normal(3))


def test_layers_are_in_the_json_and_can_be_read_back():
    result = checked(model(Block(doubled)), normal(2, 4))
    run = RunResult("0", {}, 0, {}, (result,))
    again = RunResult.from_dict(run.to_dict())
    assert again.results[0].culprit == result.culprit
    assert [one.verdict for one in again.results[0].layers] == [one.verdict for one in result.layers]
