"""Right derivatives pass PyTorch's drop-ins, and injected faults fail them with PyTorch's own texts."""

import functools
import sys
import warnings

import pytest
import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gradcheck.backends.torch.derivatives import tangent_of
from gradcheck.compat import InconclusiveWarning, policy
from gradcheck.compat.torch import GradcheckError, common_utils, gradcheck, gradgradcheck


def tensor(*shape, dtype=torch.float64, seed=0, requires_grad=True):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=dtype, generator=generator).requires_grad_(requires_grad)


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", InconclusiveWarning)
        yield


def square_with(derivative, jvp=None):
    """The square as a Function with a given derivative: (cotangent, x) -> gradient."""

    class Square(Function):
        @staticmethod
        def forward(x):
            return x * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, g):
            return derivative(g, *ctx.saved_tensors)

    if jvp is not None:
        Square.jvp = staticmethod(lambda ctx, t: jvp(t, *ctx.saved_tensors))
    return Square.apply


right_square = square_with(lambda g, x: 2 * g * x, lambda t, x: 2 * t * x)


class Scale(torch.nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.square = square_with(lambda g, x: 2 * factor * g * x)

    def forward(self, x):
        return self.square(x)

    def double(self, x):
        return 2 * self.square(x)


def penalised(x):
    (gradient,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    return gradient.norm()


def nested(x):
    assert gradcheck(torch.sin, (tensor(2),))
    return x.sin()


def hooked(x):
    y = x * 1
    y.register_hook(lambda g: g)
    return y.sin()


def written_to(x):
    x.mul_(2)
    return x.sin()


RIGHT = {
    "builtin": (torch.sin, (tensor(3),)),
    "single input": (torch.sin, tensor(3)),
    "list of inputs": (torch.mul, [tensor(3), tensor(3, seed=1)]),
    "constant input": (torch.mul, (tensor(3), tensor(3, requires_grad=False))),
    "plain values": (lambda x, n, name: x**n, (tensor(3), 2, "x")),
    "keyword in a partial": (functools.partial(functional.softmax, dim=-1), (tensor(2, 3),)),
    "Function": (right_square, (tensor(3),)),
    "module": (Scale(), (tensor(3),)),
    "module in another dtype": (Scale().float(), (tensor(3),)),
    "bound method": (Scale().double, (tensor(3),)),
    "several outputs": (lambda x, y: (x * y, x.sin(), y.sum()), (tensor(3), tensor(3, seed=1))),
    "named tuple": (lambda x: x.max(0), (tensor(2, 3),)),
    "list of outputs": (lambda x: [x.sin(), x.cos()], (tensor(3),)),
    "output without gradient": (lambda x: (x.sin(), x.argmax(), None, 3), (tensor(3),)),
    "returns its input": (lambda x: x, (tensor(3),)),
    "constant": (lambda x: torch.ones(2, dtype=torch.float64), (tensor(3),)),
    "no output": (lambda x: (), (tensor(3),)),
    "integer output": (lambda x: x.round().long(), (tensor(3),)),
    "empty": (lambda x: 2 * x, (tensor(0, 3),)),
    "scalar": (lambda x: x.sin(), (tensor(),)),
    "expanded": (lambda x: x.sin(), (tensor(1).expand(3),)),
    "overlapping": (lambda x: x.sin(), (tensor(4).detach().as_strided((3, 2), (1, 1)).requires_grad_(),)),
    "not a leaf": (lambda x: x.sin(), (tensor(3) * 2,)),
    "transposed": (lambda x: x.sin(), (tensor(2, 3).T,)),
    "repeated": (torch.mul, (tensor(3),) * 2),
    "complex": (torch.mul, (tensor(3, dtype=torch.complex128), tensor(3, dtype=torch.complex128, seed=1))),
    "complex to real": (torch.abs, (tensor(3, dtype=torch.complex128),)),
    "real to complex": (torch.fft.fft, (tensor(4),)),
    "float32": (torch.sin, (tensor(3, dtype=torch.float32),)),
    "bfloat16": (torch.sin, (tensor(3, dtype=torch.bfloat16),)),
    "a kink": (torch.relu, (torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True),)),
    "gradient inside": (penalised, (tensor(3),)),
    "hook": (hooked, (tensor(3),)),
    "writes to its input": (written_to, (tensor(3),)),
    "checker inside": (nested, (tensor(3),)),
    "random": (lambda x: functional.dropout(x, 0.5), (tensor(8),)),
    "large values": (lambda x: 1e12 * x.sin(), (tensor(3),)),
    "tiny values": (lambda x: 1e-20 * x.sin(), (tensor(3),)),
    "sparse": (lambda x: x.to_dense().sin(), (tensor(2, 3).relu().detach().to_sparse().requires_grad_(),), {"masked": True}),
    "sparse, every entry": (lambda x: 2 * x.sum(), (tensor(2, 3).relu().detach().to_sparse().requires_grad_(),)),
}


@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.parametrize("name", RIGHT)
def test_right_derivatives_pass(name, fast_mode):
    fn, inputs, *keywords = RIGHT[name]
    assert gradcheck(fn, inputs, fast_mode=fast_mode, **(keywords[0] if keywords else {})) is True


RIGHT_TWICE = {
    "builtin": (torch.sin, (tensor(3),)),
    "Function": (right_square, (tensor(3),)),
    "linear": (lambda x: 3 * x, (tensor(3),)),
    "several outputs": (lambda x, y: (x * y, x.sin()), (tensor(3), tensor(3, seed=1))),
    "gradient of one input alone": (lambda x, y: x.sin() + 0 * y, (tensor(3), tensor(3, seed=1))),
    "matrix product": (torch.mm, (tensor(2, 3), tensor(3, 2))),
    "softmax": (lambda x: functional.softmax(x, -1), (tensor(2, 3),)),
    "layer norm": (lambda x, w, b: functional.layer_norm(x, (4,), w, b), (tensor(3, 4), tensor(4), tensor(4, seed=1))),
    "batch norm": (lambda x, b: functional.batch_norm(x + b, None, None, training=True), (tensor(5, 3), tensor(3))),
    "complex": (torch.mul, (tensor(3, dtype=torch.complex128), tensor(3, dtype=torch.complex128, seed=1))),
    "float32": (torch.sin, (tensor(3, dtype=torch.float32),)),
    "module": (torch.nn.Sequential(torch.nn.Linear(3, 2).double(), torch.nn.Tanh()), (tensor(2, 3),)),
    "no output": (lambda x: (), (tensor(3),)),
    "straight-through": (square_with(lambda g, x: g * x), (tensor(3),)),  # the gradient itself is not asked for
}


@pytest.mark.parametrize("name", RIGHT_TWICE)
def test_right_second_derivatives_pass(name):
    fn, inputs = RIGHT_TWICE[name]
    assert gradgradcheck(fn, inputs) is True


@pytest.mark.parametrize("name", ["builtin", "Function", "several outputs", "softmax", "complex", "module"])
def test_right_second_derivatives_pass_in_forward_mode(name):
    fn, inputs = RIGHT_TWICE[name]
    if name == "Function":
        fn = square_with(lambda g, x: 2 * g * x, lambda t, x: 2 * t * x)
    assert gradgradcheck(fn, inputs, check_fwd_over_rev=True, check_rev_over_rev=False, check_undefined_grad=False)


class TwoOutputs(Function):
    """(xy, x + y); the second output's part of the gradient of y is wrong."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y, x + y

    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        return g * y + h, g * x + 1.1 * h


class OneEntry(Function):
    """The square of a matrix, with one wrong entry among all."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        gradient = 2 * g * x
        gradient[2, 3] *= 1.5
        return gradient


class Conjugate(Function):
    """The complex square without a conjugate in its backward."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * z

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


class Once(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


def hook_with(change):
    def fn(x):
        y = x.clone()
        y.register_hook(change)
        return y

    return fn


def raise_for_none(gradient):
    if gradient is None:
        raise RuntimeError("x is undefined")
    return gradient


def with_one_more_axis(gradient, x):
    return (2 * x * gradient.numpy(force=True).sum() * torch.ones(1)) if gradient.dim() else 2 * x * gradient


MISMATCH = "Jacobian mismatch for output 0 with respect to input 0,\nnumerical:"
FAULTS = {
    "a factor": (square_with(lambda g, x: 2.2 * g * x), tensor(3), {}, MISMATCH),
    "a factor of 1.0005": (square_with(lambda g, x: 2.001 * g * x), tensor(3), {}, MISMATCH),
    "a sign": (square_with(lambda g, x: -2 * g * x), tensor(3), {}, MISMATCH),
    "zero": (square_with(lambda g, x: 0 * g), tensor(3), {}, MISMATCH),
    "None": (square_with(lambda g, x: None), tensor(3), {}, MISMATCH),
    "zero of a tiny function": (lambda x: 1e-9 * square_with(lambda g, x: 0 * g)(x), tensor(3), {}, MISMATCH),
    "10 % of a tiny function": (lambda x: 1e-9 * square_with(lambda g, x: 2.2 * g * x)(x), tensor(3), {}, MISMATCH),
    "a factor in float32": (square_with(lambda g, x: 2.002 * g * x), tensor(3, dtype=torch.float32), {}, MISMATCH),
    "a module": (Scale(1.1), tensor(3), {}, MISMATCH),
    "a bound method": (Scale(1.1).double, tensor(3), {}, MISMATCH),
    "one entry": (OneEntry.apply, tensor(4, 5), {}, MISMATCH),
    "one entry, fast": (OneEntry.apply, tensor(30, 30), {"fast_mode": True}, MISMATCH),
    "second input of second output": (
        TwoOutputs.apply,
        (tensor(3), tensor(3, seed=1)),
        {},
        "Jacobian mismatch for output 1 with respect to input 1,",
    ),
    "second input, after one without gradient": (
        lambda n, x, y: TwoOutputs.apply(x, y)[1],
        (tensor(3, requires_grad=False), tensor(3), tensor(3, seed=1)),
        {},
        "Jacobian mismatch for output 0 with respect to input 1,",
    ),
    "output after one without gradient": (
        lambda x: (x.argmax(), square_with(lambda g, x: g)(x)),
        tensor(3),
        {},
        MISMATCH,
    ),
    "no conjugate": (
        Conjugate.apply,
        tensor(3, dtype=torch.complex128),
        {},
        "While considering the imaginary part of complex outputs only, Jacobian mismatch for output 0",
    ),
    "a cotangent that is not used": (hook_with(lambda g: g + 1e-2), tensor(3), {}, MISMATCH),
    "a cotangent that is not used, tolerated": (
        hook_with(lambda g: g + 1e-4),
        tensor(3),
        {"atol": 1e-3},
        "backward not multiplied by grad_output",
    ),
    "another gradient each time": (
        square_with(lambda g, x: 2 * g * x * (1 + 1e-6 * torch.rand_like(g))),
        tensor(3),
        {},
        "Backward is not reentrant",
    ),
    "undefined gradients": (
        hook_with(raise_for_none),
        tensor(3),
        {},
        "Expected backward function to handle undefined output grads",
    ),
    "layout": (square_with(lambda g, x: (2 * g * x).to_sparse()), tensor(3), {}, "grad is incorrect layout"),
    "a batch of cotangents": (
        square_with(with_one_more_axis),
        tensor(1),
        {"check_batched_grad": True},
        "gradcheck or gradgradcheck failed while testing batched gradient computation",
    ),
    "dtype": (
        square_with(lambda g, x: (2 * g * x).float()),
        torch.ones(3, dtype=torch.float64, requires_grad=True),
        {"check_grad_dtypes": True},
        "Gradient has dtype mismatch",
    ),
    "detached": (
        lambda x: torch.tensor(x.tolist(), dtype=x.dtype),
        tensor(3),
        {},
        "Numerical gradient for function expected to be zero",
    ),
    "entries that a sparse input does not store": (
        lambda x: x.to_dense().sin(),
        tensor(2, 3).relu().detach().to_sparse().requires_grad_(),
        {},
        MISMATCH,
    ),
    "jvp": (
        square_with(lambda g, x: 2 * g * x, lambda t, x: 2.2 * t * x),
        tensor(3),
        {"check_forward_ad": True},
        "Jacobian computed with forward mode mismatch for output 0 with respect to input 0",
    ),
    "jvp, without backward": (
        square_with(lambda g, x: g, lambda t, x: 2.2 * t * x),
        tensor(3),
        {"check_forward_ad": True, "check_backward_ad": False},
        "Jacobian computed with forward mode mismatch for output 0 with respect to input 0",
    ),
    "no tangent": (
        lambda x: right_square(x) if tangent_of(x) is None else x.detach() ** 2,
        tensor(3),
        {"check_forward_ad": True},
        "Jacobian computed with forward mode mismatch for output 0 with respect to input 0",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_raise_with_the_text_of_pytorch(name):
    fn, inputs, keywords, text = FAULTS[name]
    with pytest.raises(GradcheckError, match=text) as raised:
        gradcheck(fn, inputs, **keywords)
    assert type(raised.value) is sys.modules["torch.autograd.gradcheck"].GradcheckError
    assert gradcheck(fn, inputs, raise_exception=False, **keywords) is False


def test_the_text_goes_on_with_the_numbers_and_the_table():
    with pytest.raises(GradcheckError) as raised:
        gradcheck(square_with(lambda g, x: 2.2 * g * x), torch.ones(1, dtype=torch.float64, requires_grad=True))
    first, numerical, analytical, summary, *table = str(raised.value).splitlines()
    assert first == "Jacobian mismatch for output 0 with respect to input 0,"
    assert (numerical, analytical) == ("numerical:2", "analytical:2.2")
    assert summary.startswith("FAIL ∂output[0] / ∂x[0]: reverse 2.2, numeric 2 ")
    assert any("the claim is 1.1 times the derivative" in line for line in table)
    assert not any(line.startswith("replay") for line in table)


SECOND_FAULTS = {
    "constant input": (
        square_with(lambda g, x: 2 * g * x.detach()),
        {},
        "Jacobian mismatch for output 0 with respect to input 0,",
    ),
    "constant cotangent": (
        square_with(lambda g, x: 2 * g.detach() * x),
        {},
        "Jacobian mismatch for output 0 with respect to input 1,",
    ),
    "both constant": (
        square_with(lambda g, x: 2 * g.detach() * x.detach()),
        {},
        "Numerical gradient for function expected to be zero",
    ),
    "wrong Function inside": (
        square_with(lambda g, x: g * square_with(lambda h, y: 2.2 * h * y)(x)),
        {},
        "Jacobian mismatch for output 0 with respect to input 0,",
    ),
    "forward over reverse": (
        square_with(lambda g, x: g * square_with(lambda h, y: 2 * h * y, lambda t, y: 3 * t * y)(x), lambda t, x: t),
        {"check_fwd_over_rev": True},
        "Jacobian computed with forward mode mismatch for output 0 with respect to input 0,",
    ),
}


@pytest.mark.parametrize("name", SECOND_FAULTS)
def test_faults_of_second_derivatives_raise_with_the_text_of_pytorch(name):
    fn, keywords, text = SECOND_FAULTS[name]
    with pytest.raises(GradcheckError, match=text):
        gradgradcheck(fn, (tensor(3),), **keywords)
    assert gradgradcheck(fn, (tensor(3),), raise_exception=False, **keywords) is False


def test_a_function_that_is_differentiable_once_fails_as_with_pytorch():
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0,"):
        gradgradcheck(Once.apply, (tensor(3),))


def raises(*_):
    raise KeyError("mine")


@pytest.mark.parametrize(
    ("fn", "keywords", "error"),
    [
        (raises, {}, KeyError),
        (square_with(raises), {}, KeyError),
        (lambda x: square_with(lambda g, x: 2 * g * x)(x), {"check_forward_ad": True}, NotImplementedError),
        (square_with(lambda g, x: 2 * g * x, raises), {"check_forward_ad": True}, KeyError),
        (square_with(raises, raises), {"check_forward_ad": True, "check_backward_ad": False}, KeyError),
    ],
)
def test_an_exception_of_the_users_code_goes_through(fn, keywords, error):
    for raise_exception in (True, False):
        with pytest.raises(error):
            gradcheck(fn, (tensor(3),), raise_exception=raise_exception, **keywords)


def test_modes_that_are_not_asked_for_may_be_wrong():
    assert gradcheck(square_with(lambda g, x: 2 * g * x, raises), (tensor(3),))
    assert gradcheck(square_with(raises, lambda t, x: 2 * t * x), (tensor(3),), check_forward_ad=True, check_backward_ad=False)


def test_parameters_of_a_module_are_not_checked():
    class Wrong(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x):
            return x * square_with(lambda g, x: g)(self.weight)

    assert gradcheck(Wrong(), (tensor(3),))


def test_nothing_of_the_callers_changes():
    x = tensor(3)
    torch.manual_seed(3)
    before, values = torch.get_rng_state(), x.detach().clone()
    assert gradcheck(written_to, (x,))
    assert gradgradcheck(lambda x: functional.dropout(x).sin(), (x,))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x.detach(), values)
    assert x.grad is None


@pytest.mark.parametrize(("check", "keywords"), [(gradcheck, {"check_forward_ad": True}), (gradgradcheck, {})])
def test_buffers_of_a_module_and_constant_inputs_stay(check, keywords):
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).double()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    assert check(module, (tensor(4, 3),), **keywords)
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())
    constant = torch.ones(3, dtype=torch.float64)
    assert check(lambda x, c: x.sin() * c.add_(1), (tensor(3), constant), **keywords)
    assert torch.equal(constant, torch.ones_like(constant))


def test_inconclusive_warns_at_the_call_and_passes_unless_the_policy_says_otherwise():
    at_the_border = (torch.sqrt, (torch.zeros(1, dtype=torch.float64, requires_grad=True),))
    for check in (gradcheck, common_utils.gradcheck):
        with pytest.warns(InconclusiveWarning) as warned:
            assert check(*at_the_border)
        assert {warning.filename for warning in warned} == {__file__}
    with policy(inconclusive="fail"), pytest.raises(GradcheckError, match="gradcheck cannot decide"):
        gradcheck(*at_the_border)
