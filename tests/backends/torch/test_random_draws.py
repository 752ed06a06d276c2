"""Random numbers in float32 and half precision: the float64 twin is handed the same ones."""

import pytest
import torch

import gradcheck
from gradcheck import Verdict

X = torch.linspace(-1.0, 2.0, 32).reshape(4, 8)
GENERATOR = torch.Generator()
DRAWS = {
    "randn_like": torch.randn_like,
    "rand_like": torch.rand_like,
    "factory": lambda x: torch.randn(4, 8),
    "dtype": lambda x: torch.rand(4, 8, dtype=x.dtype),
    "generator": lambda x: torch.randn(4, 8, generator=GENERATOR),
    "normal": lambda x: torch.normal(0.0, 1.0, size=(4, 8)),
    "in place": lambda x: torch.empty_like(x).exponential_(),
    "probabilities": lambda x: torch.bernoulli(torch.sigmoid(x.detach())),
    "dropout": lambda x: torch.nn.functional.dropout(torch.ones_like(x), 0.3),
    "in float64": lambda x: torch.rand(4, 8, dtype=torch.float64).float(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("source", DRAWS)
def test_the_twin_draws_the_same_numbers(source, dtype):
    if (source, dtype) == ("probabilities", torch.bfloat16):
        pytest.skip("the probabilities are others in that dtype, and so may be the draws")
    result = gradcheck.check(lambda x: (DRAWS[source](x) * x**2).sum(), X.to(dtype))
    assert result.ok
    assert not result.notes


def test_a_wrong_gradient_of_a_random_function_fails():
    result = gradcheck.check(lambda x: (torch.randn_like(x) * x * x.detach()).sum(), X)
    assert result.verdict is Verdict.FAIL
    assert {row.diagnosis.partition(":")[0] for row in result.comparisons if row.diagnosis} == {"detached"}


@pytest.mark.parametrize(("detached", "verdict"), [(False, Verdict.PASS), (True, Verdict.FAIL)])
def test_a_variational_autoencoder_in_float32(detached, verdict):
    class Autoencoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.log_deviation, self.decoder = (torch.nn.Linear(8, 8) for _ in range(3))

        def forward(self, x):
            deviation = self.log_deviation(x).exp()
            noise = torch.randn_like(deviation) * (deviation.detach() if detached else deviation)
            return ((self.decoder(self.mean(x) + noise) - x) ** 2).sum()

    torch.manual_seed(0)
    assert gradcheck.check(Autoencoder(), X, mode="probe").verdict is verdict
