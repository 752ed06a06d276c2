"""The forms of inputs and outputs, and the ways in which a module holds its parameters."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from elementwise import layer
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import gradcheck
from gradcheck import InputError, Verdict, normal

F64 = torch.float64


def failing(result):
    return {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL and c.against == "numeric"}


# --- dataclasses and other containers


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None
    name: str = "model"


@dataclass(frozen=True)
class Batch:
    x: torch.Tensor
    y: torch.Tensor
    mask: torch.Tensor
    options: dict = field(default_factory=dict)

    def __post_init__(self):
        assert len(self.x) == len(self.y)


class Both(torch.autograd.Function):
    """x² and sin(x); `used` is the share of the second cotangent that the backward uses."""

    used = 1.0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2, torch.sin(x)

    @classmethod
    def backward(cls, ctx, first, second):
        (x,) = ctx.saved_tensors
        return 2 * x * first + cls.used * torch.cos(x) * second


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_field_of_a_dataclass_that_the_backward_ignores_is_caught(dtype, mode):
    ignoring = type("Ignoring", (Both,), {"used": 0.0})
    right = gradcheck.check(lambda x: Output(*Both.apply(x)), normal(3), framework="torch", dtype=dtype, mode=mode)
    assert right.verdict is Verdict.PASS
    wrong = gradcheck.check(lambda x: Output(*ignoring.apply(x)), normal(3), framework="torch", dtype=dtype, mode=mode)
    assert failing(wrong) == {"x"}
    if mode == "full":
        assert any(c.output.startswith("output.hidden[") for c in wrong.comparisons)
    unused = gradcheck.check(lambda x: Output(ignoring.apply(x)[0]), normal(3), framework="torch", dtype=dtype, mode=mode)
    assert unused.verdict is Verdict.PASS


def batch():
    x, y = torch.linspace(-1, 1, 12, dtype=F64).reshape(4, 3), torch.linspace(0, 2, 4, dtype=F64)
    return Batch(x, y, torch.tensor([True, True, False, True]), {"scale": 2.0})


def loss(batch):
    return (((batch.x.sum(1) - batch.y) * batch.mask) ** 2).mean() * batch.options["scale"]


def loss_gradient(batch, factor=1):
    r = batch.options["scale"] * 2 * (batch.x.sum(1) - batch.y) * batch.mask / 4
    return r[:, None].expand(4, 3), -factor * r


def test_a_dataclass_may_be_an_input_and_its_gradient_a_dataclass_or_a_dictionary():
    given = batch()
    result = gradcheck.check(loss, given)
    assert (result.verdict, {c.wrt for c in result.comparisons}) == (Verdict.PASS, {"batch.x", "batch.y"})
    assert {c.wrt for c in gradcheck.check(loss, given, wrt="batch.y").comparisons} == {"batch.y"}
    forms = {
        "dataclass": lambda x, y: {"batch": Batch(x, y, None, None)},
        "itself": lambda x, y: Batch(x, y, None, None),
        "dictionary": lambda x, y: {"batch": {"y": y, "x": x}},
        "tuple": lambda x, y: (x, y),
    }
    for name, form in forms.items():
        right = gradcheck.check(loss, given, gradient=lambda batch, form=form: form(*loss_gradient(batch)))
        assert right.verdict is Verdict.PASS, name
        wrong = gradcheck.check(loss, given, gradient=lambda batch, form=form: form(*loss_gradient(batch, 2)))
        assert failing(wrong) == {"batch.y"}, name
    with pytest.raises(InputError, match=r"wrt='batch\.z' names no input .* did you mean 'batch\.[xy]'"):
        gradcheck.check(loss, given, wrt="batch.z")


def test_a_gradient_by_hand_of_a_dataclass_of_arrays_is_read_by_names_in_any_order():
    def product(pair):
        return np.sum(pair.logits**2 * pair.hidden)

    def gradient(pair):
        return {"hidden": pair.logits**2, "logits": 2 * pair.logits * pair.hidden}

    given = Output(np.linspace(0.5, 1, 3), np.linspace(1, 2, 3))
    assert gradcheck.check(product, given, gradient=gradient, framework="numpy").verdict is Verdict.PASS


def test_a_cotangent_has_the_form_of_the_output():
    def vjp(v, x):
        assert type(v) is Output
        return v.logits * 2 * x + v.hidden * torch.cos(x)

    x = torch.linspace(0, 1, 3, dtype=F64)
    assert gradcheck.check(lambda x: Output(x**2, torch.sin(x)), x, vjp=vjp).verdict is Verdict.PASS


def test_models_of_dataclasses_are_checked_layer_by_layer():
    class Head(nn.Module):
        def __init__(self, inject_fault=lambda g: g):
            super().__init__()
            self.wave = layer(inject_fault).apply

        def forward(self, batch):
            return Output(self.wave(batch.x) * batch.y[:, None])

    class Model(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.linear, self.head = nn.Linear(3, 2, dtype=F64), Head(**options)

        def forward(self, batch):
            return {"a": Output(self.linear(batch.x), self.head(batch).logits)}

    assert gradcheck.check(Model(), batch(), by_layer=True).verdict is Verdict.PASS
    wrong = gradcheck.check(Model(inject_fault=lambda g: 2 * g), batch(), by_layer=True)
    assert wrong.culprit.startswith("head (in its autograd.Function")


def test_an_object_with_tensors_that_is_no_tree_is_noted():
    class Holder:
        def __init__(self, x):
            self.x = x

    held = Holder(torch.ones(3))
    with pytest.raises(
        InputError, match=r"h is Holder; give at least one .* or in a tuple, list, dictionary, named tuple or data"
    ):
        gradcheck.check(lambda h: h.x * 2, held, framework="torch")
    result = gradcheck.check(lambda h, y: h.x * y, held, torch.ones(3))
    assert any("not differentiated: the tensors in h, which is Holder" in note for note in result.notes)
    returned = gradcheck.check(lambda x: Holder(x * 2), torch.ones(3))
    assert returned.verdict is Verdict.ERROR
    assert (
        "returned Holder: expected a floating-point array, or a tuple, list, dictionary, named tuple or data"
        in returned.message
    )


# --- how modules hold their parameters


class Tied(nn.Module):
    """An embedding and an output layer that share a weight; its second use may be cut off."""

    def __init__(self, cut=False):
        super().__init__()
        self.embed, self.out, self.cut = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False), cut
        self.out.weight = self.embed.weight

    def forward(self, i):
        weight = self.out.weight.detach() if self.cut else self.out.weight
        return torch.tanh(self.embed(i)) @ weight.T


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_a_tied_weight_is_one_leaf_with_the_gradient_of_both_uses(mode):
    words = torch.tensor([0, 3])
    result = gradcheck.check(Tied(), words, mode=mode)
    assert (result.verdict, {c.wrt for c in result.comparisons}) == (Verdict.PASS, {"params['embed.weight']"})
    assert failing(gradcheck.check(Tied(cut=True), words, mode=mode)) == {"params['embed.weight']"}


def test_a_parameter_that_is_also_an_input_is_two_leaves():
    linear = nn.Linear(3, 3, bias=False, dtype=F64)
    result = gradcheck.check(linear, linear.weight)
    assert (result.verdict, {c.wrt for c in result.comparisons}) == (Verdict.PASS, {"input", "params['weight']"})


class Listed(nn.Module):
    """Parameters that are reached through a list, a dictionary and a tuple."""

    def __init__(self, inject_fault=lambda g: g):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.linspace(0.5, 1, 3)), nn.Parameter(torch.linspace(1, 2, 3))
        self.register_buffer("c", torch.linspace(0, 1, 3))
        self.all, self.named, self.wave = [self.a, (self.b, self.c)], {"b": self.b}, layer(inject_fault).apply

    def forward(self, x):
        first, (second, third) = self.all
        return torch.sin(x * first) * second + self.wave(self.named["b"]) * third


def test_parameters_that_a_module_also_holds_in_lists_are_replaced_there():
    module = Listed()
    held = module.all
    result = gradcheck.check(module, normal(2, 3))
    assert result.verdict is Verdict.PASS, str(result)
    assert not any(c.resolution != c.resolution for c in result.comparisons)  # none is zero
    assert not any("differences in its own dtype" in note for note in result.notes)
    assert module.all is held
    assert held[0] is module.a
    assert failing(gradcheck.check(Listed(lambda g: 0 * g), normal(2, 3), contracts=False)) == {"params['b']"}


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize(
    "make",
    [
        lambda: parametrizations.weight_norm(nn.Linear(3, 2)),
        lambda: nn.utils.weight_norm(nn.Linear(3, 2)),
        lambda: parametrizations.orthogonal(nn.Linear(3, 3, dtype=F64)),
        lambda: parametrizations.spectral_norm(nn.Linear(3, 2, dtype=F64)).eval(),
    ],
    ids=["weight_norm", "old weight_norm", "orthogonal", "spectral_norm"],
)
def test_parametrised_weights_are_checked_with_respect_to_their_parameters(make):
    module = make()
    before = {name: t.clone() for name, t in module.state_dict().items()}
    result = gradcheck.check(module, normal(4, 3))
    assert result.verdict is Verdict.PASS, str(result)
    assert {f"params[{name!r}]" for name, _ in module.named_parameters()} <= {c.wrt for c in result.comparisons}
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())


class Normed(nn.Module):
    """Weight norm as a custom parametrisation g v / |v|, in which g may be cut off."""

    def __init__(self, cut):
        super().__init__()
        self.g, self.cut = nn.Parameter(torch.tensor([[1.5], [0.5]])), cut

    def forward(self, v):
        return (self.g.detach() if self.cut else self.g) * v / v.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("cached", [False, True])
def test_a_wrong_parametrisation_is_caught_inside_cached_too(cached):
    for cut, expected in ((False, set()), (True, {"params['parametrizations.weight.0.g']"})):
        module = nn.Linear(3, 2)
        parametrize.register_parametrization(module, "weight", Normed(cut))
        if not cached:
            assert failing(gradcheck.check(module, normal(4, 3))) == expected
            continue
        with parametrize.cached():
            weight = module.weight
            assert failing(gradcheck.check(module, normal(4, 3))) == expected
            assert module.weight is weight


def test_buffers_that_the_next_call_reads_are_named_and_running_statistics_are_not():
    torch.manual_seed(0)
    norm = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4, dtype=F64))
    result = gradcheck.check(norm, normal(3, 4))
    told = [note for note in result.notes if "the output depends on parametrizations.weight.0._u" in note]
    assert failing(result) == {"params['parametrizations.weight.original']"}
    assert told
    assert "`.eval()` may stop the updates" in told[0]
    assert not any("the output depends on" in note for note in gradcheck.check(nn.BatchNorm1d(3), normal(5, 3)).notes)


class Zoo(nn.Module):
    """Parameters of every kind: a number, none at all, complex, in a list and in a dictionary; and a buffer."""

    def __init__(self):
        super().__init__()
        self.number, self.nothing = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.zeros(0, 3))
        self.turn = nn.Parameter(torch.tensor([1 + 1j, 2 - 1j, 0.5 + 0.25j]))
        self.several = nn.ParameterList([torch.linspace(0.5, 1, 3), torch.tensor(1.5)])
        self.named = nn.ParameterDict({"shift": torch.linspace(0, 1, 3), "more": torch.ones(2)})
        self.register_buffer("offset", torch.ones(3))

    def forward(self, x):
        scaled = x * self.number * self.turn.abs() * self.several[0] * self.several[1]
        return scaled + self.named["shift"] * self.named["more"].sum() + self.offset + self.nothing.sum()


def test_parameters_of_every_kind_are_leaves():
    result = gradcheck.check(Zoo(), normal(2, 3))
    assert result.verdict is Verdict.PASS, str(result)
    names = ("number", "turn", "several.0", "several.1", "named.shift", "named.more")
    assert {c.wrt for c in result.comparisons} == {"x", *(f"params[{name!r}]" for name in names)}


def test_notes_name_tensors_that_are_not_differentiated():
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    result = gradcheck.check(module, normal(4, 3))
    assert {c.wrt for c in result.comparisons} == {"input", "params['1.weight']", "params['1.bias']"}
    assert "not differentiated, as they require no gradient: params['0.weight'], params['0.bias']" in result.details
    module.plain = [torch.ones(2, requires_grad=True)]
    assert any("plain requires a gradient, but is no Parameter" in note for note in gradcheck.check(module, normal(4, 3)).notes)
    module.requires_grad_(False)
    assert {c.wrt for c in gradcheck.check(module, normal(4, 3)).comparisons} == {"input"}
    assert {c.wrt for c in gradcheck.check(nn.Tanh(), normal(4, 3)).comparisons} == {"input"}


class Tripled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(3.0)

    @staticmethod
    def backward(ctx, g):
        return 3.0 * g


class TripledWrongly(Tripled):
    @staticmethod
    def backward(ctx, g):
        return 2.9 * g


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (nn.ReLU(inplace=True), Verdict.PASS),
        (lambda x: x.mul_(2).sin(), Verdict.PASS),
        (Tripled, Verdict.PASS),
        (TripledWrongly, Verdict.FAIL),
    ],
    ids=["ReLU", "function", "Tripled", "TripledWrongly"],
)
def test_a_target_that_writes_to_its_inputs_gets_copies(target, verdict):
    x = torch.randn(3, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    result = gradcheck.check(target, x)
    assert result.verdict is verdict, str(result)
    assert any("writes to its inputs" in note for note in result.notes)
    assert torch.equal(x, before)


class Halved(torch.nn.Module):
    """A layer with a wrong gradient with respect to `weight`, of half the true size."""

    def __init__(self, wrong: bool = False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.5, -1.5, 2.0]))
        self.wrong = wrong

    def forward(self, x):
        weight = (self.weight + self.weight.detach()) / 2 if self.wrong else self.weight
        return torch.tanh(weight * x)


class Around(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.scale = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.scale * self.inner(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("compiled", [torch.jit.script, lambda module: torch.jit.trace(module, torch.ones(3))])
def test_scripted_and_traced_modules_are_checked_with_their_parameters(compiled, wrong):
    module = compiled(Halved(wrong))
    weight = module.weight.clone()
    for target, path in ((module, "weight"), (Around(module), "inner.weight")):
        result = gradcheck.check(target, normal(3), contracts=False)
        assert result.verdict is (Verdict.FAIL if wrong else Verdict.PASS)
        failing = {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL}
        assert failing == ({f"params[{path!r}]"} if wrong else set())
    assert torch.equal(module.weight, weight)
    assert module.weight.grad is None
