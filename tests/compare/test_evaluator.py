"""The time of an evaluation, by which a mode is chosen."""

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
