"""The line that a report points at: where the derivative is written."""

import inspect

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import normal
from gradcheck.targets.location import locate_backward


class Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):  # the line of a Sine
        (x,) = ctx.saved_tensors
        return g * torch.cos(x)


class Inherited(Sine):
    pass


class Named(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def vjp(ctx, g):  # the line of a Named
        (x,) = ctx.saved_tensors
        return 2 * g * x


class Layer(torch.nn.Module):  # the line of a Layer
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def gradient(x):  # the line of a gradient
    return 2 * x


def line_of(what):
    lines, _ = inspect.findsource(inspect.getmodule(Sine))
    return 1 + next(k for k, text in enumerate(lines) if text.rstrip().endswith(f"# the line of a {what}"))


def squares(x):
    return np.sum(x**2)


@pytest.mark.parametrize(
    ("target", "arguments", "what"),
    [
        (Sine, {}, "Sine"),
        (Inherited, {}, "Sine"),
        (Named, {}, "Named"),
        (lambda x: Sine.apply(Named.apply(x)), {}, "Sine"),
        (Layer(Named.apply), {}, "Named"),
        (Layer(torch.sin), {}, "Layer"),
        (squares, {"gradient": gradient}, "gradient"),
        (Layer(Sine.apply), {"vjp": lambda g, x: (gradient(g),), "mode": "full"}, "vjp"),
    ],
)
def test_the_place_is_that_of_the_code_that_claims(target, arguments, what):
    result = gradcheck.check(target, normal(3), contracts=False, **arguments)
    assert result.claim_file == __file__
    own = inspect.getsourcelines(arguments["vjp"])[1] if what == "vjp" else line_of(what)
    assert result.claim_line == own


def test_of_a_registered_operator_it_is_the_backward_that_was_registered():
    @torch.library.custom_op("gradcheck_test_source::cube", mutates_args=())
    def cube(x: torch.Tensor) -> torch.Tensor:
        return x**3

    def backward(ctx, g):
        return 3 * g * ctx.saved_tensors[0] ** 2

    cube.register_autograd(backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]))
    made = cube(torch.ones(2, requires_grad=True)).grad_fn
    assert locate_backward(type(made)._forward_cls) == (__file__, backward.__code__.co_firstlineno)


def test_of_a_wrong_layer_it_is_that_layer_s():
    class Doubled(Sine):
        @staticmethod
        def backward(ctx, g):
            return 2 * Sine.backward(ctx, g)

    model = torch.nn.Sequential(Layer(Sine.apply), Layer(Doubled.apply))
    result = gradcheck.check(model, normal(3), by_layer=True, contracts=False)
    assert not result.ok
    assert (result.claim_file, result.claim_line) == (__file__, Doubled.backward.__code__.co_firstlineno + 1)
    assert [layer.line for layer in result.layers if layer.kind == "autograd.Function"] == [line_of("Sine"), result.claim_line]


def test_where_python_knows_no_source_there_is_no_place():
    made: dict[str, object] = {}
    exec("def unknown(x): return x * 2.0", made)
    result = gradcheck.check(made["unknown"], normal(3), framework="numpy")
    assert (result.claim_file, result.claim_line) == (None, None)
