"""Complex tensors in the exact method, each a pair of real arrays; and memory that is shared or written to."""

import pytest
import torch

import gradcheck
from gradcheck import Reason, Verdict

Z = torch.tensor([0.5 - 1.25j, -2.0 + 0.75j, 1.5 + 0.25j], dtype=torch.complex128)
W = torch.complex(*torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
X = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)

RIGHT = {
    "square of the size": (lambda z: (z * z.conj()).real, Z),
    "size": (torch.abs, Z),
    "exp": (torch.exp, Z),
    "log": (torch.log, Z),
    "angle": (torch.angle, Z),
    "quotient": (lambda z: (1 + z) / (2j - z), Z),
    "power": (lambda z: z**3, Z),
    "matrix product": (lambda z, w: z @ w, Z, W),
    "parts": (lambda z: (z.real * z.imag).cumsum(0), Z),
    "mean over an axis": (lambda w: (w.mean(0) * 2j).abs(), W),
    "views": (lambda w: torch.stack([w.T[0], w[:, 1].conj()]).sum(0), W),
    "from real numbers": (lambda x: torch.polar(x.exp(), x), X),
}


def exact_reasons(function, *args):
    result = gradcheck.check(function, *args, exact=True, contracts=False)
    rows = {row.method: row for row in result.comparisons if row.against == "exact"}
    return result.verdict, {method: row.reason for method, row in rows.items()}, result


@pytest.mark.parametrize("name", RIGHT)
def test_right_derivatives_of_complex_functions_are_proved(name):
    verdict, reasons, result = exact_reasons(*RIGHT[name])
    assert verdict is Verdict.PASS
    assert reasons == dict.fromkeys(("reverse", "forward"), Reason.IDENTITY_PROVED), result


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * z

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return 2 * z.conj() * g


class WithoutConj(Square):
    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return 2 * z * g


def test_a_missing_conjugate_is_refuted_and_the_right_backward_proved():
    assert exact_reasons(Square.apply, Z)[:2] == (Verdict.PASS, {"reverse": Reason.IDENTITY_PROVED})
    assert exact_reasons(WithoutConj.apply, Z)[:2] == (Verdict.FAIL, {"reverse": Reason.IDENTITY_REFUTED})


def write_slices(x):
    out = torch.zeros(6, dtype=x.dtype)
    out[:3] = x.exp()
    head = out[:3]  # a view whose writes show in the whole
    out[3:].add_(x).mul_(2)
    head.mul_(x)
    return out * head.sum()


def write_rows(x):
    out = x.new_zeros(3, 2)
    for i in range(3):
        out[i] = torch.stack([x[i] ** 2, x[i - 1]])
    out.T[1].sub_(out.T[0].detach().clone() * 0)
    return out.T.reshape(-1)


def write_parts(x):
    z = torch.complex(x, x * x)
    w = z * 1
    w.imag = w.real * 2  # the real and the imaginary part share the memory of the whole
    torch.view_as_real(w)[1:, 0].mul_(x[1:])
    return (w * z).imag + z.conj().imag * x  # the last is a view with the opposite sign


@pytest.mark.parametrize("function", [write_slices, write_rows, write_parts])
def test_writes_to_tensors_show_in_all_that_share_their_memory(function):
    verdict, reasons, result = exact_reasons(function, X)
    assert verdict is Verdict.PASS
    assert reasons["reverse"] is Reason.IDENTITY_PROVED, result


def write_wrong_part(z):
    w = z * 1
    torch.view_as_real(w)[:, 1] *= 2
    return w * w


class WritesWrongPart(Square):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return write_wrong_part(z)

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        w = z * 1
        w.real *= 2
        d = g * (2 * w).conj()
        return torch.complex(d.real * 2, d.imag)


def test_a_write_to_the_wrong_part_of_complex_numbers_is_refuted():
    assert exact_reasons(WritesWrongPart.apply, Z)[:2] == (Verdict.FAIL, {"reverse": Reason.IDENTITY_REFUTED})
    assert exact_reasons(write_wrong_part, Z)[1]["reverse"] is Reason.IDENTITY_PROVED


def test_a_write_to_numbers_that_are_used_conjugated_is_not_decided():
    def fn(z):
        w = z * 1
        other = w.conj()
        w.mul_(z)
        return other * z

    _, reasons, result = exact_reasons(fn, Z)
    assert reasons == {}
    assert any("writes to complex numbers that it also uses conjugated" in note for note in result.notes)


def test_numbers_that_numpy_writes_are_not_taken_for_those_of_pytorch():
    def scale(x):
        out = x * 2
        out.detach().numpy()[:] *= 3
        return out

    result = exact_reasons(scale, X)[2]
    assert any("exact not available" in note for note in result.notes)
