"""PyTorch's checkers as a takeover replaces them."""

import inspect
from importlib import import_module

import pytest
import torch

from gradcheck.backends.torch.derivatives import forward_mode_level
from gradcheck.compat.answer import Answer, ask
from gradcheck.compat.torch import CHECKERS, GradcheckError
from gradcheck.results import Verdict

FIRST, SECOND = CHECKERS
D, C = torch.float64, torch.complex128


def tensor(*shape, dtype=D, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.fixture(autouse=True, scope="module")
def _forward_mode_is_loaded():
    with forward_mode_level():  # loads PyTorch's rules without its DeprecationWarning
        pass


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]

    @staticmethod
    def jvp(ctx, t):
        return 2 * t * ctx.saved_tensors[0]


def original(checker):
    return getattr(import_module(checker.module), checker.attribute)


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_names_a_function_of_pytorch(checker):
    assert original(checker) is getattr(torch.autograd, checker.attribute)
    assert checker.name == f"torch.autograd.{checker.attribute}"


CALLS = {
    "a builtin": (FIRST, ((torch.sin, (tensor(3),)), {})),
    "by name": (FIRST, ((), {"func": torch.sin, "inputs": tensor(3)})),
    "a Function": (FIRST, ((Square.apply, (tensor(3),)), {})),
    "fast mode": (FIRST, ((torch.sin, (tensor(3),)), {"fast_mode": True})),
    "complex": (FIRST, ((torch.mul, (tensor(3, dtype=C), tensor(3, dtype=C, seed=1))), {})),
    "complex, fast mode": (FIRST, ((torch.mul, (tensor(3, dtype=C), tensor(3, dtype=C, seed=1))), {"fast_mode": True})),
    "complex, forward mode": (FIRST, ((torch.sin, (tensor(3, dtype=C),)), {"check_forward_ad": True})),
    "several outputs": (FIRST, ((lambda x: (x.sin(), x.cos(), x.argmax()), (tensor(3),)), {})),
    "a list": (FIRST, ((lambda x: [x.sin(), x.cos()], [tensor(3)]), {})),
    "a named tuple": (FIRST, ((lambda x: x.max(0), (tensor(3, 2),)), {})),
    "a module": (FIRST, ((torch.nn.Linear(3, 2).double(), (tensor(2, 3),)), {})),
    "forward mode": (FIRST, ((Square.apply, (tensor(3),)), {"check_forward_ad": True})),
    "forward mode alone": (FIRST, ((torch.sin, (tensor(3),)), {"check_forward_ad": True, "check_backward_ad": False})),
    "batches": (
        FIRST,
        ((torch.sin, (tensor(3),)), {"check_batched_grad": True, "check_forward_ad": True, "check_batched_forward_grad": True}),
    ),
    "second order": (SECOND, ((torch.sin, (tensor(3),)), {})),
    "second order of a Function": (SECOND, ((Square.apply, (tensor(3),)), {})),
    "second order, fast mode": (SECOND, ((torch.mm, (tensor(2, 3), tensor(3, 2))), {"fast_mode": True})),
    "second order, forward mode": (SECOND, ((torch.sin, (tensor(3),)), {"check_fwd_over_rev": True})),
    "second order, batches": (SECOND, ((torch.sin, (tensor(3),)), {"check_batched_grad": True})),
    "second order with cotangents": (SECOND, ((torch.sin, (tensor(3),), tensor(3, seed=1)), {})),
    "second order, complex": (SECOND, ((torch.sin, (tensor(3, dtype=C),)), {})),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_right_call_passes_both_and_one_with_a_zero_gradient_fails_both(name):
    checker, arguments = CALLS[name]
    assert checker.has_passed(original(checker)(*arguments[0], **arguments[1]))
    assert checker.has_passed(checker.conclude(ask(checker.translate(arguments)), arguments))
    args, keywords = zeroed = checker.with_zero_gradient(arguments)
    with pytest.raises(GradcheckError, match="mismatch for output"):
        original(checker)(*args, **keywords)
    given = ask(checker.translate(zeroed))
    assert given.verdict is Verdict.FAIL
    with pytest.raises(GradcheckError, match="mismatch for output"):
        checker.conclude(given, zeroed)
    assert checker.conclude(given, (args, {**keywords, "raise_exception": False})) is False


@pytest.mark.parametrize("name", CALLS)
def test_a_zero_gradient_leaves_the_value_as_it_is(name):
    checker, arguments = CALLS[name]
    (zeroed, inputs), keywords = checker.with_zero_gradient(arguments)
    bound = inspect.signature(original(checker)).bind(*arguments[0], **arguments[1]).arguments
    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    values, expected = zeroed(*inputs), bound["func"](*inputs)
    if isinstance(expected, tuple | list):
        assert all(map(torch.equal, values, expected))
    else:
        assert torch.equal(values, expected)
    assert {name: keywords[name] for name in arguments[1] if name in keywords} == {
        name: value for name, value in arguments[1].items() if name in keywords
    }


def test_tolerances_are_read_and_scaled():
    arguments = ((torch.sin, (tensor(3),)), {"atol": 1e-2})
    assert FIRST.read_tolerances(arguments) == {"atol": 1e-2, "rtol": 1e-3}
    args, keywords = FIRST.scale_tolerances(arguments, 0.1)
    assert args == arguments[0]
    assert keywords == {"atol": pytest.approx(1e-3), "rtol": pytest.approx(1e-4)}
    assert SECOND.read_tolerances(((torch.sin, (tensor(3),)), {})) == {"atol": 1e-5, "rtol": 1e-3}


def test_arguments_that_do_not_fit_are_a_type_error():
    for checker in CHECKERS:
        with pytest.raises(TypeError):
            checker.translate(((torch.sin,), {}))
        with pytest.raises(TypeError):
            checker.translate(((torch.sin, (tensor(3),)), {"no_such_argument": 1}))


def test_a_call_inside_a_checked_function_passes():
    assert FIRST.conclude(Answer(Verdict.PASS), ((torch.sin, (tensor(3),)), {"check_forward_ad": True}))


def test_what_did_not_return_true_has_not_passed():
    assert FIRST.has_passed(True)
    assert not FIRST.has_passed(False)
    assert not FIRST.has_passed(None)
