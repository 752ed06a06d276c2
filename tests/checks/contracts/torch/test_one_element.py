"""Contract `one-element`: what is special about a size of one."""

import torch

import gradcheck
from gradcheck import Verdict


def message_of(result):
    return next(contract for contract in result.contracts if contract.name == "one-element")


def test_a_gradient_of_a_size_that_is_written_in_is_shown_with_its_shape():
    class MeanOfFour(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum() / 4

        @staticmethod
        def backward(ctx, g):
            return g * torch.ones(4, dtype=g.dtype) / 4

    contract = message_of(gradcheck.check(MeanOfFour, torch.ones(4, dtype=torch.float64)))
    assert contract.verdict is Verdict.FAIL
    assert "the backward returns shape (4,) for x of shape (1,), and PyTorch sums it up" in contract.message


def test_where_the_output_has_that_size_too_nothing_fails():
    class FourWeights(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * torch.arange(4, dtype=x.dtype)

        @staticmethod
        def backward(ctx, g):
            return g * torch.arange(4, dtype=g.dtype)

    contract = message_of(gradcheck.check(FourWeights, torch.ones(4, dtype=torch.float64)))
    assert (contract.verdict, "the outputs are as large as before" in contract.message) == (Verdict.PASS, True)
