"""At a tie no single entry moves the output; a claim that is wrong there shows a little away from the tie."""

import pytest
import torch
from elementwise import with_backward

import gradcheck
from gradcheck import Reason, Verdict

TIED = {
    "all tied": torch.full((9,), 3.0, dtype=torch.float64),
    "some tied": torch.tensor([1.0, 3, 3, 3, 3, 3, 4, 2, 5], dtype=torch.float64),
}


def median_with_gradient_times(factor):
    def backward(g, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return factor * torch.autograd.grad(x.median(), x, g)[0]

    return with_backward(lambda x: x.median(), backward)


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.PASS), (1.001, Verdict.FAIL)])
def test_a_factor_close_to_one_is_seen_beside_a_tie(name, seed, factor, verdict):
    result = gradcheck.check(median_with_gradient_times(factor), TIED[name], seed=seed)
    assert result.verdict is verdict, str(result)
    assert (result.comparisons[0].reason is Reason.TIE) is (verdict is Verdict.PASS)
