"""Complex inputs, parameters and outputs, in PyTorch's convention: dL/da + i dL/db."""

import pytest
import torch
from torch import nn

import gradcheck
from gradcheck import Verdict, normal

REAL = {"complex128": "float64", "complex64": "float32"}


class Square(torch.autograd.Function):
    """z², from complex to complex."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * z

    @staticmethod
    def backward(ctx, g):
        return g * 2 * ctx.saved_tensors[0].conj()


class Power(torch.autograd.Function):
    """|z|², from complex to real."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return (z * z.conj()).real

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


class Turned(torch.autograd.Function):
    """x (1 + 2i), from real to complex."""

    @staticmethod
    def forward(ctx, x):
        return x * (1 + 2j)

    @staticmethod
    def backward(ctx, g):
        return (g * (1 - 2j)).real


class Product(torch.autograd.Function):
    """The product a x of a complex matrix and a real one."""

    @staticmethod
    def forward(ctx, a, x):
        ctx.save_for_backward(a, x)
        return a @ x.to(a.dtype)

    @staticmethod
    def backward(ctx, g):
        a, x = ctx.saved_tensors
        return g @ x.to(a.dtype).mH, (a.mH @ g).real


def with_backward(function, backward):
    return type("Spoilt", (function,), {"backward": staticmethod(backward)})


WRONG = {
    "square": (Square, lambda ctx, g: g * 2 * ctx.saved_tensors[0], "conjugated"),
    "square of the cotangent": (Square, lambda ctx, g: g.conj() * 2 * ctx.saved_tensors[0], "conjugated"),
    "square, its real part": (Square, lambda ctx, g: (g * 2 * ctx.saved_tensors[0].conj()).real, "zero"),
    "power": (Power, lambda ctx, g: 2 * g * ctx.saved_tensors[0].conj(), "conjugated"),
    "power, half": (Power, lambda ctx, g: g * ctx.saved_tensors[0], "factor"),
    "turned": (Turned, lambda ctx, g: (g * (1 + 2j)).real, "conjugated"),
    "product": (Product, lambda ctx, g: (Product.backward(ctx, g)[0], (ctx.saved_tensors[0].mT @ g).real), "conjugated"),
}
INPUTS = {Square: ["z"], Power: ["z"], Turned: ["x"], Product: ["z", "x"]}


def inputs(function, dtype):
    shapes = [(3, 2), (2, 4)] if function is Product else [(3, 2)]
    kinds = INPUTS[function]
    return [normal(*shape, dtype=dtype if kind == "z" else REAL[dtype]) for shape, kind in zip(shapes, kinds, strict=True)]


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("function", INPUTS)
def test_right_backwards_pass_with_their_contracts(function, mode, dtype):
    result = gradcheck.check(function, *inputs(function, dtype), mode=mode)
    assert result.verdict is Verdict.PASS, str(result)
    assert {"cotangent-layout", "batched-vjp", "accumulation"} <= {c.name for c in result.contracts}
    assert {c.verdict for c in result.contracts} == {Verdict.PASS}, str(result)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("name", WRONG)
def test_a_forgotten_conjugate_is_caught_and_named(name, mode, dtype):
    function, backward, kind = WRONG[name]
    result = gradcheck.check(with_backward(function, backward), *inputs(function, dtype), mode=mode, contracts=False)
    (line,) = [c for c in result.comparisons if c.verdict is Verdict.FAIL]
    assert line.wrt == ("x" if name == "product" else INPUTS[function][0])
    assert (line.diagnosis or "").startswith(f"{kind}:") or (mode, kind) == ("probe", "zero"), line.diagnosis


def test_a_complex_gradient_of_a_real_input_is_one_clear_error():
    result = gradcheck.check(with_backward(Turned, lambda ctx, g: g * (1 - 2j)), normal(3))
    assert result.verdict is Verdict.ERROR
    assert result.message == "a backward returned a complex gradient for a real input: return its real part"


Z, X = "complex", "real"
OPERATORS = {
    "fft": (torch.fft.fft, [(Z, 6)]),
    "fft of reals": (torch.fft.fft, [(X, 6)]),
    "irfft": (torch.fft.irfft, [(Z, 4)]),
    "abs": (torch.abs, [(Z, 4)]),
    "angle": (torch.angle, [(Z, 4)]),
    "view_as_real": (lambda z: torch.view_as_real(z) * torch.tensor([1.0, 2.0], dtype=z.real.dtype), [(Z, 4)]),
    "view_as_complex": (lambda x: torch.view_as_complex(x).exp(), [(X, 4, 2)]),
    "a lazily conjugated output": (torch.conj, [(Z, 4)]),
    "a lazily negated output": (lambda z: z.conj().imag, [(Z, 4)]),
    "resolve_conj": (lambda z: z.conj().resolve_conj() @ z, [(Z, 4)]),
    "real and complex": (lambda x, z: {"product": x * z, "size": z.abs() + x}, [(X, 5), (Z, 5)]),
    "mixed thrice": (lambda x, z, y: z * x.sum() + y, [(X, 3), (Z, 4), (X, 4)]),
}


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("mode", ["full", "probe"])
def test_operators_from_real_to_complex_and_back(mode, dtype):
    for name, (function, shapes) in OPERATORS.items():
        given = [normal(*shape, dtype=dtype if kind is Z else REAL[dtype]) for kind, *shape in shapes]
        result = gradcheck.check(function, *given, mode=mode, framework="torch", name=name)
        assert result.verdict is Verdict.PASS, f"{name}\n{result}"


def test_lazily_conjugated_or_negated_inputs_reach_the_target_unchanged():
    seen = set()

    def records(x):
        seen.add((x.is_conj(), x.is_neg(), x.stride()))
        return x * x

    z = torch.randn(3, 2, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    for given, expected in (
        (z.conj(), (True, False, (2, 1))),
        (z.conj().T, (True, False, (1, 2))),
        (z.conj().imag, (False, True, (4, 2))),
    ):
        seen.clear()
        assert gradcheck.check(records, given).verdict is Verdict.PASS
        assert seen == {expected}


def test_a_backward_that_does_not_know_of_lazy_conjugation_breaks_a_contract():
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return torch.from_numpy(g.numpy()) * 2 * z.conj()

    result = gradcheck.check(with_backward(Square, backward), normal(3, dtype="complex128"))
    (broken,) = [c for c in result.contracts if c.verdict is Verdict.FAIL]
    assert broken.name == "cotangent-layout"
    assert "lazily conjugated" in broken.message


class Rotates(nn.Module):
    """A complex parameter between a real input and a real output."""

    def __init__(self, function=Square):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(0.5))
        self.turn, self.square = nn.Parameter(torch.tensor([1 + 1j, 2 - 1j, 0.5j])), function.apply

    def forward(self, x):
        return (self.square(self.turn) * (x + self.shift)).real


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_complex_parameters_among_real_ones(mode):
    assert gradcheck.check(Rotates(), normal(2, 3), mode=mode).verdict is Verdict.PASS
    wrong = gradcheck.check(Rotates(with_backward(*WRONG["square"][:2])), normal(2, 3), mode=mode, contracts=False)
    assert {c.wrt for c in wrong.comparisons if c.verdict is Verdict.FAIL} == {"params['turn']"}
