"""Many points and many cotangents at once give the same numbers as one by one."""

import numpy as np
import pytest
import torch
from elementwise import layer

import gradcheck
from gradcheck import Verdict, normal
from gradcheck.backends.program import Unavailable
from gradcheck.backends.torch import bind as backend
from gradcheck.backends.torch import derivatives, vjps
from gradcheck.targets.case import Case
from gradcheck.targets.signature import resolve_inputs


def bound(fn, *inputs):
    return backend.bind(Case("case", fn, inputs), fn, resolve_inputs(fn, inputs, {}))


class Branches(torch.nn.Module):
    def forward(self, x):
        return torch.sin(x) if x.sum() > 0 else x  # depends on the data: cannot be mapped


def linear():
    """Make a layer with the same weights in every run, with which no directional derivative below is a sum that cancels."""
    with torch.random.fork_rng():
        torch.manual_seed(37)
        return torch.nn.Linear(4, 3)


TARGETS = {
    "linear": (linear().double(), torch.ones(2, 4, dtype=torch.float64)),
    "float32 twin": (linear(), torch.ones(2, 4)),
    "complex": (lambda z: torch.exp(z) * z.conj(), torch.ones(3, dtype=torch.complex128)),
    "random": (lambda x: torch.nn.functional.dropout(x * 2, 0.5), torch.ones(20, dtype=torch.float64)),
    "several outputs": (lambda x: {"a": x.sum(), "b": [x * 2, 3 * x[0]]}, torch.ones(3, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", TARGETS)
def test_all_points_at_once_give_the_values_of_each_point_alone(name):
    program = bound(*TARGETS[name])
    points = program.point + 0.1 * np.random.default_rng(0).standard_normal((5, program.point.size))
    alone = np.stack([program.evaluate(point) for point in points])
    np.testing.assert_allclose(program.capabilities.evaluate_many(points), alone, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", TARGETS)
def test_the_fast_evaluation_along_a_line_gives_the_values_of_the_function(name):
    program = bound(*TARGETS[name])
    if program.capabilities.evaluate_along is None:
        pytest.fail("no fast evaluation along a line")
    tangent = np.random.default_rng(1).standard_normal(program.point.size)
    line = program.capabilities.evaluate_along(tangent)
    for t in (0.0, 0.5, -0.25):
        np.testing.assert_array_equal(np.concatenate(line(t)), program.evaluate(program.point + t * tangent))


def test_the_error_of_a_target_that_cannot_be_mapped_says_why():
    program = bound(Branches(), torch.ones(3, dtype=torch.float64))
    with pytest.raises(Unavailable, match="data-dependent"):
        program.capabilities.evaluate_many(np.ones((2, 3)))


@pytest.mark.parametrize(("target", "told"), [(Branches(), "vmap cannot"), (torch.nn.Linear(60, 40).double(), "vmap")])
def test_details_say_how_a_check_evaluated(target, told):
    size = 60 if isinstance(target, torch.nn.Linear) else 2000
    result = gradcheck.check(target, normal(4, size, dtype="float64"), mode="full", every_entry=True)
    assert result.verdict is Verdict.PASS, str(result)
    assert any(told in line for line in result.details)
    assert not any(told in line for line in str(result).splitlines())


def graph(outputs, x):
    program = bound(lambda x: outputs(x), x)
    given = x.clone().requires_grad_()
    return vjps.BackwardGraph([(outputs(given), program.outputs[0])], [given], program.leaves), program


OUTPUTS = {
    "elementwise": torch.sin,
    "a stack": lambda x: torch.stack([x.sum(), *x.prod().repeat(11)]),
    "a Function": lambda x: layer().apply(x),
    "flipped": lambda x: x.exp().flip(0),
}


@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS)
def test_all_vjps_at_once_give_the_values_of_each_alone(outputs):
    made, program = graph(outputs, torch.linspace(0.1, 1, 12, dtype=torch.float64))
    cotangents = np.random.default_rng(0).standard_normal((12, program.value.size))
    alone = vjps.evaluate_vjps(made, cotangents, vjps.BatchingChoice([False]))
    for choice in (vjps.BatchingChoice(), vjps.BatchingChoice([True])):
        np.testing.assert_allclose(vjps.evaluate_vjps(made, cotangents, choice), alone, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", TARGETS)
def test_all_jvps_at_once_give_the_values_of_each_alone(name, monkeypatch):
    monkeypatch.setattr(vjps, "MIN_BATCH_SECONDS", 0.0)
    monkeypatch.setattr(vjps, "MAX_BATCH_TIME", np.inf)
    program = bound(*TARGETS[name])
    claim = next(claim for claim in program.claims if claim.method == "forward")
    tangents = np.random.default_rng(0).standard_normal((10, program.point.size))
    alone = np.concatenate([claim.jvp(program.point, u[None]) for u in tangents])
    pushed = []
    monkeypatch.setattr(
        derivatives,
        "_evaluate_jvp",
        lambda *args, push=derivatives._evaluate_jvp, **options: pushed.append(push(*args, **options)),
    )
    for _ in range(2):
        np.testing.assert_allclose(claim.jvp(program.point, tangents), alone, rtol=1e-6 if "float32" in name else 1e-12)
    assert len(pushed) == 2  # the first and the last, to compare with


def test_a_jvp_that_cannot_be_mapped_is_pushed_one_by_one(monkeypatch):
    monkeypatch.setattr(vjps, "MIN_BATCH_SECONDS", 0.0)
    program = bound(lambda x: x.detach() * float(x.sum() > 0) + torch.sin(x), torch.ones(10, dtype=torch.float64))
    claim = next(claim for claim in program.claims if claim.method == "forward")
    np.testing.assert_allclose(claim.jvp(program.point, np.eye(10)), np.cos(1) * np.eye(10))


def doubled(backward):
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return backward(g)

    return Doubled


def test_a_backward_that_cannot_be_mapped_is_called_one_by_one():
    through_numpy = doubled(lambda g: torch.from_numpy(2 * g.numpy()))
    made, _ = graph(through_numpy.apply, torch.ones(10, dtype=torch.float64))
    choice = vjps.BatchingChoice()
    np.testing.assert_array_equal(vjps.evaluate_vjps(made, np.eye(10), choice), 2 * np.eye(10))
    assert choice.batched is False


def test_a_backward_that_is_wrong_when_mapped_is_called_one_by_one():
    odd = doubled(lambda g: (3 if torch._C._functorch.is_batchedtensor(g) else 2) * g)
    made, _ = graph(odd.apply, torch.ones(10, dtype=torch.float64))
    np.testing.assert_array_equal(vjps.evaluate_vjps(made, np.eye(10), vjps.BatchingChoice()), 2 * np.eye(10))
