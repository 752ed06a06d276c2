"""Triton kernels with hand-written backwards; without a GPU in Triton's interpreter."""

import kernels
import pytest
import torch
from kernels import CrossEntropy, CrossEntropyFromOne, RMSNorm, RMSNormOfConstantScale, Softmax, UncentredSoftmax

import gradcheck
from gradcheck import Verdict, integers, normal

INPUTS = {
    Softmax: (normal(2, 3),),
    RMSNorm: (normal(2, 3), normal(3)),
    CrossEntropy: (normal(2, 3), integers(0, 3, 2)),
}
ROW = {  # one short row suffices for a fault, and the interpreter is slow
    Softmax: (normal(1, 2),),
    RMSNorm: (normal(1, 2), normal(2)),
    CrossEntropy: (normal(1, 2), integers(0, 2, 1)),
}
WRONG = {Softmax: UncentredSoftmax, RMSNorm: RMSNormOfConstantScale, CrossEntropy: CrossEntropyFromOne}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kernel", INPUTS)
def test_a_right_kernel_passes_with_all_contracts(kernel, dtype):
    result = gradcheck.check(kernel, *INPUTS[kernel], dtype=dtype, mode="probe")
    assert result.verdict is Verdict.PASS, str(result)
    assert {c.verdict for c in result.contracts} == {Verdict.PASS}
    told = {c.name: c.message for c in result.contracts}
    assert all("a Triton kernel without a mask would" in told[name] for name in ("empty-batch", "one-element"))


@pytest.mark.parametrize("kernel", INPUTS)
def test_a_planted_fault_is_found(kernel):
    result = gradcheck.check(WRONG[kernel], *ROW[kernel], dtype="float32", mode="full", wrt="x", contracts=False)
    assert result.verdict is Verdict.FAIL, str(result)
    assert "x" in {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL}


def test_the_error_of_a_kernel_without_a_driver_says_what_it_needs():
    def no_driver(x):
        raise RuntimeError("0 active drivers ([]). There should only be one.")

    result = gradcheck.check(no_driver, torch.ones(2))
    assert result.verdict is Verdict.ERROR
    assert "TRITON_INTERPRET=1" in result.message


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", INPUTS)
def test_a_right_kernel_passes_on_the_device(kernel):
    tensors = [torch.randn(64, 300, device="cuda"), *([torch.randn(300, device="cuda")] if kernel is RMSNorm else [])]
    labels = [torch.arange(64, device="cuda")] if kernel is CrossEntropy else []
    result = gradcheck.check(kernel, *tensors, *labels)
    assert result.verdict is Verdict.PASS, str(result)
    assert kernels.sizes(tensors[0])["BLOCK"] == 512
