"""The time of an evaluation, by which a mode is chosen; lines that are evaluated once."""

from types import SimpleNamespace

import numpy as np
import pytest

from gradcheck.compare import evaluator
from gradcheck.compare.trial_recorder import Recorder


@pytest.mark.parametrize(
    ("elapsed", "cpu", "seconds"),
    [
        (10.0, 9.5, 9.5),
        (10.0, 2.0, 2.0),  # other processes had the processor
        (10.0, 40.0, 10.0),  # several threads
        (10.0, 0.1, 10.0),  # it waited for a device
    ],
)
def test_the_time_of_an_evaluation_does_not_depend_on_the_load(monkeypatch, elapsed, cpu, seconds):
    clocks = {"perf_counter": 0.0, "process_time": 0.0}

    def evaluate(point):
        clocks["perf_counter"] += elapsed
        clocks["process_time"] += cpu
        return point

    monkeypatch.setattr(evaluator, "time", SimpleNamespace(**{name: lambda name=name: clocks[name] for name in clocks}))
    evaluated = evaluator.Evaluator(SimpleNamespace(evaluate=evaluate, value=np.zeros(2)), Recorder())
    evaluated(np.zeros(2))
    assert evaluated.seconds == seconds
    elapsed = cpu = 100.0  # a slow one
    evaluated(np.zeros(2))
    assert evaluated.seconds == seconds


@pytest.mark.parametrize(("limit", "calls"), [(100, 2), (1, 4)])
def test_a_line_is_evaluated_once_at_each_point_if_few_outputs_move(monkeypatch, limit, calls):
    monkeypatch.setattr(evaluator, "MAX_REMEMBERED", limit)
    base, points = np.array([1.0, np.nan, 3.0]), []

    def phi(t):
        points.append(t)
        return base + np.array([0.0, 0.0, t])

    line = evaluator.remember_line(phi, base)
    for t in (0.5, -0.5, 0.5, -0.5):
        np.testing.assert_array_equal(line(t), [1.0, np.nan, 3.0 + t])
    assert len(points) == calls
