import functools
import tomllib

import pytest
import torch
from torch import nn
from watched_layers import Bias, Block, Scale, Swish, cube

import gradcheck
from gradcheck.harvest.draft import format_value


class Dense(nn.Module):
    """Keeps only one of its constructor's arguments."""

    def __init__(self, size, outputs, slope=0.5):
        super().__init__()
        self.slope = slope
        self.outputs = outputs
        self.weight = nn.Parameter(torch.ones(size, outputs))

    def forward(self, x, mask=None):
        return self.slope * x @ self.weight


@pytest.fixture
def watched():
    torch.manual_seed(0)
    with gradcheck.watch() as watched:
        Swish.apply(torch.randn(4, 3, dtype=torch.float64).requires_grad_())
        Swish.apply(torch.randn(3, 4).t().requires_grad_())
        Scale.apply(torch.rand(8).add(1).requires_grad_(), 2.0)
        Dense(3, 2)(torch.randn(4, 3))
        Block(3, True)(torch.randn(4, 3), residual=True)
        cube(torch.randn(9, requires_grad=True))
    return watched


def test_cases_are_pasted_above_their_targets(watched):
    lines = [line for line in watched.draft().splitlines() if line and "@case above" not in line]
    assert lines[0] == "from gradcheck import case, normal, positive"
    assert "@case(x=normal(4, 3, dtype='float64'))" in lines
    assert "@case(x=normal(4, 3, dtype='float32', layout='transposed'))" in lines
    assert "@case(x=positive(8, dtype='float32'), factor=2.0)" in lines
    assert "@case(x=normal(4, 3, dtype='float32'), init={'size': TODO, 'outputs': 2})  # fill in each TODO" in lines
    assert "@case(x=normal(4, 3, dtype='float32'), residual=True, init={'dim': 3, 'wrong': True})" in lines
    assert "# An operator cannot carry a case: check it by a configuration." in lines
    assert lines.index("@case(x=normal(4, 3, dtype='float64'))") - 1 == next(
        k for k, line in enumerate(lines) if line.startswith("# watched_layers:Swish (") and ", line 7)" in line
    )


def test_a_drafted_case_checks_what_was_recorded(watched):
    from gradcheck import case, normal  # noqa: F401 - the text uses them

    text = next(line for line in watched.draft().splitlines() if "layout='transposed'" in line)
    namespace = {**globals(), **locals()}
    exec(f"{text}\nclass Copy(Swish): pass\nresult = gradcheck.check(Copy)", namespace)
    assert namespace["result"].ok
    assert namespace["result"].comparisons[0].shape == (4, 3)


def test_the_configuration_has_the_first_call_of_each_target(watched):
    data = tomllib.loads(watched.draft_configuration())["tool"]["gradcheck"]["target"]
    by_name = {entry["target"].partition(":")[2]: entry for entry in data}
    assert by_name["Swish"]["inputs"] == {"x": "normal(4, 3, dtype='float64')"}
    assert by_name["cube"] == {"target": "watched_layers:cube", "inputs": {"x": "normal(9, dtype='float32')"}}
    assert by_name["Block"]["init"] == {"dim": "3", "wrong": "True"}
    assert len(data) == len(by_name)


def test_the_configuration_runs(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from gradcheck.cli import app

    with gradcheck.watch() as watched:
        Scale.apply(torch.rand(8).add(1).requires_grad_(), 2.0)
        cube(torch.randn(9, requires_grad=True))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(watched.draft_configuration())
    result = CliRunner().invoke(app, ["run", "-q"])
    assert result.exit_code == 0, result.output
    assert "2 passed" in result.output


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.tensor([3, 5, 4]), "integers(3, low=3, high=6, dtype='int64')"),
        (torch.tensor([True, False]), "boolean(2)"),
        (torch.ones(2), "normal(2, dtype='float32')"),
        (torch.full((8,), 0.5), "uniform(8, low=0.0, high=1.0, dtype='float32')"),
        (torch.zeros(1, 3).expand(4, 3), "normal(4, 3, dtype='float32', layout='expanded')"),
        (torch.zeros(4, 6)[:, ::2], "normal(4, 3, dtype='float32', layout='strided')"),
        (torch.zeros(2, dtype=torch.complex64), "normal(2, dtype='complex64')"),
        ([torch.zeros(2), 1], "[normal(2, dtype='float32'), 1]"),
        ({"a": (None,)}, "{'a': (None,)}"),
        (object(), "TODO"),
    ],
)
def test_values_become_specs_or_literals(value, text):
    assert format_value(value) == text


def test_a_module_that_holds_another_is_constructed_from_what_it_says():
    with gradcheck.watch() as watched:
        Bias(3)(torch.randn(2, 3))
    assert "init={'dim': TODO}" in watched.draft()


class MaskedScale(torch.autograd.Function):
    """Gives no gradient to its second input, and takes one with a default in between."""

    @staticmethod
    def forward(ctx, x, scale=1.0, weight=None):
        ctx.save_for_backward(x, weight)
        ctx.scale = scale
        return (x * weight).sin() * scale

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return ctx.scale * g * weight * (x * weight).cos(), None, None


class Product(torch.autograd.Function):
    """Takes any number of inputs, some of which may be None."""

    @staticmethod
    def forward(ctx, *factors):
        ctx.save_for_backward(factors[0], factors[2])
        return factors[0] * factors[2]

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g * b, None, g * a


class Reserved(nn.Module):
    """Takes inputs whose names are arguments of `@case`, and buffers of its caller's."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, x, wrt=1.0, init=None, extra=2.0):
        return x * self.gain * wrt * torch.sign(init.detach()) * extra


def call_masked():
    return MaskedScale.apply(torch.randn(3, requires_grad=True), 1.0, torch.randn(3))


def call_product():
    return Product.apply(torch.randn(3, requires_grad=True), None, torch.randn(3, requires_grad=True))


def call_reserved():
    return Reserved()(torch.randn(3, requires_grad=True), 1.0, torch.randn(3))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            call_masked,
            "@case(x=normal(3, dtype='float32'), scale=1.0, weight=normal(3, dtype='float32'), wrt='x')",
        ),
        (call_product, "@case(normal(3, dtype='float32'), None, normal(3, dtype='float32'))"),
        (
            call_reserved,
            "@case(x=normal(3, dtype='float32'), inputs={'wrt': 1.0, 'init': normal(3, dtype='float32')}, wrt=('x', 'params'))",
        ),
    ],
)
def test_a_drafted_case_makes_the_call_that_was_recorded(call, text, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from gradcheck.cli import app

    with gradcheck.watch() as watched:
        call()
    lines = watched.draft().splitlines()
    assert text in lines
    namespace = {**vars(gradcheck), **globals()}
    (record,) = watched.harvest.records
    name = record.home[1]
    exec(f"{text}\nclass Copy({name}): pass\nresult = gradcheck.check(Copy)", namespace)
    assert namespace["result"].ok, str(namespace["result"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(watched.draft_configuration())
    result = CliRunner().invoke(app, ["run", "-q"])
    assert "1 passed" in result.output or not watched.draft_configuration(), result.output


class Doubled(nn.Module):
    """Keeps another value under the name of its argument, and does not keep the other."""

    def __init__(self, size=3, *, wide=False):
        super().__init__()
        self.size = size * 2
        self.weight = nn.Parameter(torch.ones(size, 1 + wide))

    def forward(self, x):
        return x @ self.weight


class Loose(Dense):
    def __init__(self, size, wide=False):
        super().__init__(size, 2 + wide)
        self.size = size


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (Doubled(3), "init={'size': TODO})  # fill in each TODO; add to init"),
        (Loose(3), "init={'size': 3})  # add to init"),
        (Loose(3, wide=True), "init={'size': TODO})  # fill in each TODO; add to init"),
    ],
)
def test_constructor_arguments_are_tried_before_they_are_written(module, text):
    with gradcheck.watch() as watched:
        module(torch.ones(2, 3))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    remark = "what differs from the default, as the module does not keep it: wide"
    assert f"@case(x=normal(2, 3, dtype='float32'), {text} {remark}" in watched.draft()
    assert torch.equal(torch.get_rng_state(), state)
    assert "# nn.Module; add to init what differs" in watched.draft_configuration()


def give_factor(forward):
    @functools.wraps(forward)
    def call(self, x):
        return forward(self, x, 2.0)

    return call


class Decorated(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    @give_factor
    def forward(self, x, factor):
        return x * self.weight * factor


def test_a_signature_that_does_not_fit_the_call_leaves_the_other_drafts():
    with gradcheck.watch() as watched:
        Decorated()(torch.ones(3))
        Swish.apply(torch.ones(3, requires_grad=True))
    assert watched.draft().count("\n@case(x=normal(3, dtype='float32')") == 2
