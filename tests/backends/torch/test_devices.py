"""Devices: missing ones, two at once, one without float64, one that runs out of memory; TF32."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import gradcheck
from gradcheck import Reason, Verdict, normal
from gradcheck.backends.torch import devices
from gradcheck.cli import app
from gradcheck.errors import InputError, UsageError

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


def test_the_host_is_a_device():
    module = torch.nn.Linear(3, 2)
    assert gradcheck.check(torch.sin, normal(3), framework="torch", device="cpu").ok
    assert gradcheck.check(module, normal(4, 3), device="cpu").ok


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_named_with_the_available_ones():
    with pytest.raises(InputError, match=r"device='cuda' is not available: PyTorch finds cpu \(.*CUDA"):
        gradcheck.check(torch.sin, normal(3), framework="torch", device="cuda")
    done = CliRunner().invoke(app, ["run", "torch.nn.functional:gelu", "--input", "normal(3)", "--device", "cuda:3"])
    assert done.exit_code == 2
    assert "'cuda:3' is not available" in done.output


@pytest.mark.parametrize(
    ("target", "device", "told"),
    [
        (torch.sin, "gpu", "device='gpu' is not available"),
        (torch.sin, "meta", "on the meta device, which holds no numbers"),
        (np.sin, "cpu", "device='cpu' is for torch targets"),
        (torch.sin, 3, "device=3: expected a name"),
    ],
)
def test_a_device_that_a_target_cannot_use_is_refused(target, device, told):
    with pytest.raises(UsageError, match=told):
        gradcheck.check(target, normal(3), framework="numpy" if target is np.sin else "torch", device=device)


def test_inputs_on_two_devices_are_named_and_a_number_on_the_host_is_allowed():
    there = torch.ones(3, device="meta")
    with pytest.raises(InputError, match="inputs on 2 devices: x on meta, y on cpu; move them to one"):
        gradcheck.check(lambda x, y: x * y, there, torch.ones(3), framework="torch")
    devices.refuse_mixed_devices(["x", "k"], [torch.ones(3, device="cpu"), torch.tensor(2.0)])
    with pytest.raises(InputError, match="x is on the meta device"):
        devices.refuse_mixed_devices(["x", "k"], [there, torch.tensor(2.0)])


def test_a_module_on_the_meta_device_is_refused():
    with pytest.raises(InputError, match=r"inputs on 2 devices: input on cpu, params\['weight'\] on meta"):
        gradcheck.check(torch.nn.Linear(3, 2, device="meta"), normal(4, 3))


def test_on_a_device_without_float64_the_target_is_checked_in_float32(monkeypatch):
    """Simulates MPS, where no float64 tensor can be moved to."""
    to = torch.Tensor.to

    def on_mps(self, *args, **kwargs):
        if self.dtype is torch.float64 and any(isinstance(a, torch.device) for a in (*args, *kwargs.values())):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework does not support float64")
        return to(self, *args, **kwargs)

    x = torch.linspace(-1, 1, 6)
    monkeypatch.setattr(torch.Tensor, "to", on_mps)
    result = gradcheck.check(lambda x: torch.tanh(2 * x), x, framework="torch")
    assert result.verdict is Verdict.PASS, str(result)
    assert any("it does not run in float64 (TypeError: Cannot convert a MPS Tensor" in note for note in result.notes)
    wrong = gradcheck.check(lambda x: torch.tanh(2 * x), x, framework="torch", vjp=lambda g, x: g * (1 - torch.tanh(x) ** 2))
    assert wrong.verdict is Verdict.FAIL


def runs_out(when):
    """A sine that runs out of memory if `when` says so about its input."""

    def sine(x):
        if when(x):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return torch.sin(x)

    return sine


def test_if_memory_runs_out_entry_by_entry_random_directions_are_used():
    start = torch.linspace(-1, 1, 9, dtype=torch.float64)
    result = gradcheck.check(
        runs_out(lambda x: (x.detach() != start).sum() == 1), start, framework="torch", mode="full", every_entry=True
    )
    assert (result.verdict, result.mode) == (Verdict.PASS, "probe"), str(result)
    assert any("probes: the target ran out of memory" in note for note in result.notes)


@pytest.mark.parametrize("mode", ["auto", "probe"])
def test_if_random_directions_do_not_fit_either_there_is_one_clear_error(mode):
    start = torch.linspace(-1, 1, 9, dtype=torch.float64)
    result = gradcheck.check(runs_out(lambda x: bool((x.detach() != start).any())), start, framework="torch", mode=mode)
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.OUT_OF_MEMORY)
    assert "the target ran out of memory (OutOfMemoryError: CUDA out of memory" in result.message
    at_once = gradcheck.check(runs_out(lambda _: True), start, framework="torch", mode=mode)
    assert at_once.reason is Reason.OUT_OF_MEMORY
    assert "given x (9,) float64" in at_once.message


def test_running_out_of_host_memory_is_an_error_too():
    result = gradcheck.check(lambda x: x * torch.ones(2**50).sum(), torch.ones(3))
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.OUT_OF_MEMORY), str(result)


def test_a_backward_that_runs_out_of_memory_is_not_taken_for_a_wrong_one():
    class Large(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    result = gradcheck.check(Large, normal(4))
    assert result.reason is Reason.OUT_OF_MEMORY
    assert "the backward pass ran out of memory" in result.message


@pytest.fixture
def tf32():
    kind = torch.backends.cuda.matmul
    before, kind.allow_tf32 = kind.allow_tf32, True
    yield
    kind.allow_tf32 = before


@pytest.mark.usefixtures("tf32")
def test_the_rounding_of_tf32_is_measured_and_counts_as_noise(monkeypatch):
    """A float32 product that is rounded to the ten bits of TF32 if TF32 is switched on."""

    class Product(torch.autograd.Function):
        off = 1.0

        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x @ w

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            if g.dtype is torch.float32 and torch.backends.cuda.matmul.allow_tf32:
                g, x, w = (t.half().float() for t in (g, x, w))
            return Product.off * g @ w.mT, x.mT @ g

    given = [torch.randn(shape, generator=torch.manual_seed(0)) for shape in ((8, 64), (64, 16))]
    assert gradcheck.check(Product, *given, contracts=False).verdict is not Verdict.PASS
    monkeypatch.setattr(devices, "uses_tf32", lambda _: True)
    monkeypatch.setattr(torch.backends, "flags_frozen", lambda: True)  # as PyTorch's own tests have it
    result = gradcheck.check(Product, *given, contracts=False)
    assert result.verdict is Verdict.PASS, str(result)
    assert any(note.startswith("TF32: without it the reverse derivative moves by") for note in result.notes)
    assert torch.backends.cuda.matmul.allow_tf32
    Product.off = 1.01
    assert gradcheck.check(Product, *given, contracts=False).verdict is Verdict.FAIL


@pytest.mark.parametrize("dtype", [pytest.param(d, marks=gpu) for d in ("float64", "float32", "bfloat16", "float16")])
def test_a_gpu_gives_the_same_verdicts(dtype):
    class Off(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, g):
            return 1.1 * g * torch.cos(ctx.saved_tensors[0])

    for size in (8, 5000):
        assert gradcheck.check(torch.sin, normal(size), framework="torch", device="cuda", dtype=dtype).ok
        assert gradcheck.check(Off, normal(size), device="cuda", dtype=dtype).verdict is Verdict.FAIL
    module = torch.nn.Linear(6, 3, dtype=getattr(torch, dtype))
    assert gradcheck.check(module, normal(4, 6), device="cuda").ok
    assert next(module.parameters()).device.type == "cpu"
