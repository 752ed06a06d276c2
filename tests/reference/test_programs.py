import runpy
import sys

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck import Verdict
from gradcheck.reference import programs, regression, textbook
from gradcheck.reference.modules import LinearMSE

CHECKED = [0, 1, 2, 5, 10, 20, 40]  # steps whose gradient is checked; from first to last the loss falls by four digits
STEPS = 41


def checked_by_hand(X, y, step):
    return gradcheck.check(
        regression.mse, X, step.w, step.b, y, gradient=lambda *_: {"w": step.dw, "b": step.db}, wrt=("w", "b")
    )


def checked_module(X, y, step):
    model = LinearMSE(X.shape[1]).double()
    model.load_state_dict({"linear.weight": torch.from_numpy(step.w), "linear.bias": torch.from_numpy(step.b)})
    found = {"params": {"linear.weight": torch.from_numpy(step.dw), "linear.bias": torch.from_numpy(step.db)}}
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y)[:, None]
    return gradcheck.check(model, inputs, targets, gradient=lambda X, y, params: found, wrt="params")


def checked_broadcasting(X, y, step):
    return gradcheck.check(
        textbook.broadcast_mse, X, step.w, step.b, y[:, None], gradient=lambda *_: {"w": step.dw, "b": step.db}, wrt=("w", "b")
    )


CHECKS = {
    programs.train_by_hand: checked_by_hand,
    programs.train_module: checked_module,
    programs.train_broadcasting: checked_broadcasting,
}
RIGHT = [programs.train_by_hand, programs.train_module]


def by_name(program):
    return program.__name__


@pytest.mark.parametrize("step", CHECKED)
@pytest.mark.parametrize("program", CHECKS, ids=by_name)
def test_the_gradient_that_a_step_follows_is_that_of_the_program(program, step):
    X, y = programs.points()
    result = CHECKS[program](X, y, program(X, y, STEPS).steps[step])
    assert result.verdict is Verdict.PASS, str(result)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("program", RIGHT, ids=by_name)
def test_a_program_converges_to_the_least_squares_line(program, seed):
    X, y = programs.points(seed=seed)
    w, b = programs.closed_form(X, y)
    found = program(X, y, 400)
    np.testing.assert_allclose(found.w.ravel(), w, rtol=1e-9)
    np.testing.assert_allclose(found.b.ravel(), [b], rtol=1e-9)
    assert found.steps[-1].loss == pytest.approx(regression.mse(X, w, b, y), rel=1e-9)


def test_programs_converge_with_several_features_too():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 3))
    y = X @ [1.0, -2.0, 0.5] + 3 + 0.1 * rng.standard_normal(30)
    w, b = programs.closed_form(X, y)
    for program in RIGHT:
        found = program(X, y, 400)
        np.testing.assert_allclose(np.append(found.w.ravel(), found.b), np.append(w, b), rtol=1e-8)


def test_the_program_by_hand_and_the_module_take_the_same_steps():
    X, y = programs.points()
    for one, other in zip(programs.train_by_hand(X, y).steps, programs.train_module(X, y).steps, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(np.ravel(mine), np.ravel(theirs), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("program", CHECKS, ids=by_name)
def test_the_loss_of_each_program_falls_at_every_step(program):
    losses = [step.loss for step in program(*programs.points(), STEPS).steps]
    assert np.all(np.diff(losses) < 0)


@pytest.mark.parametrize("seed", range(3))
def test_the_broadcasting_program_converges_to_the_flat_line_through_the_mean_although_its_loss_falls(seed):
    X, y = programs.points(seed=seed)
    found = programs.train_broadcasting(X, y, 800)
    w, b = programs.closed_form(X, y)
    assert found.steps[-1].loss < found.steps[0].loss
    np.testing.assert_allclose(found.w, 0, atol=1e-9)
    np.testing.assert_allclose(found.b, y.mean(), atol=1e-9)
    assert regression.mse(X, found.w, found.b, y) > 100 * regression.mse(X, w, b, y)


def test_in_the_broadcasting_program_the_gradient_of_the_formula_is_wrong_at_its_first_step():
    X, y = programs.points()
    step = programs.train_broadcasting(X, y, 1).steps[0]
    result = gradcheck.check(
        textbook.broadcast_mse, X, step.w, step.b, y[:, None], gradient=textbook.mse_gradient, wrt=("w", "b")
    )
    assert result.verdict is Verdict.FAIL


def scale_gradient(**factors):
    def gradient(*i):
        return {leaf: factors.get(leaf, 1.0) * g for leaf, g in regression.mse_gradient(*i).items()}

    return gradient


@pytest.mark.parametrize("wrong", [{"w": 2.0}, {"b": 0.5}, {"w": 1.5, "b": 1.5}], ids=str)
def test_a_gradient_that_is_wrong_by_a_factor_still_converges_and_only_the_check_sees_it(wrong):
    X, y = programs.points()
    found = programs.train_by_hand(X, y, 800, gradient=scale_gradient(**wrong))
    w, b = programs.closed_form(X, y)
    np.testing.assert_allclose(np.append(found.w, found.b), np.append(w, b), rtol=1e-8)
    result = checked_by_hand(X, y, found.steps[0])
    assert {c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL} == set(wrong)


def test_a_missing_one_over_n_is_caught_at_the_first_step_before_training_diverges():
    X, y = programs.points()
    found = programs.train_by_hand(X, y, 20, gradient=scale_gradient(w=len(X), b=len(X)))
    assert checked_by_hand(X, y, found.steps[0]).verdict is Verdict.FAIL
    assert found.steps[-1].loss > 1e3 * found.steps[0].loss


def test_running_the_programs_prints_where_each_arrived(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "gradcheck.reference.programs")
    runpy.run_module("gradcheck.reference.programs", run_name="__main__")
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    found = {line[:20].strip(): line.split()[-2:] for line in lines[1:]}
    assert found["by hand"] == found["nn.Module with SGD"] == found["closed form"]
    assert float(found["broadcasting"][0]) == 0
    assert not printed.err
