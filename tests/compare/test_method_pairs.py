"""Two methods that give the same number agree, also where it is infinite."""

import torch

import gradcheck
from gradcheck import Verdict


def test_two_methods_that_are_infinite_at_a_pole_of_the_derivative_agree():
    result = gradcheck.check(lambda x: torch.sqrt(x).sum(), torch.zeros(1, dtype=torch.float64), contracts=False)
    (pair,) = [row for row in result.comparisons if row.against == "forward"]
    assert pair.verdict is Verdict.PASS, str(result)
    assert result.verdict is Verdict.INCONCLUSIVE
