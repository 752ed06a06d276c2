from dataclasses import replace

import pytest

from gradcheck.takeover.prediction import is_sampled, predict
from gradcheck.takeover.records import NOT_SAMPLED, TakeoverCall, TakeoverRun

COMPARED = TakeoverCall("lib.check", ours_seconds=0.1, extra_seconds=0.02)
LEFT_OUT = TakeoverCall("lib.check", not_compared=NOT_SAMPLED)


def make_run(costs, left_out):
    calls = [replace(COMPARED, ours_seconds=seconds, extra_seconds=0.0) for seconds in costs]
    return TakeoverRun("predict", 5.0, (*calls, *[LEFT_OUT] * left_out))


def test_at_least_twenty_calls_are_sampled():
    assert [sum(map(is_sampled, range(1, calls + 1))) for calls in (5, 20, 100, 1000)] == [5, 20, 28, 118]


def test_equal_calls_are_predicted_exactly():
    prediction = predict(make_run([0.5] * 20, 180))
    assert (prediction.calls, prediction.sampled) == (200, 20)
    assert prediction.seconds == prediction.low == prediction.high == pytest.approx(100)


def test_the_range_contains_the_truth_of_calls_that_differ():
    costs = [0.1 * (1 + number % 7) for number in range(400)]
    sampled = [cost for number, cost in enumerate(costs, 1) if is_sampled(number)]
    prediction = predict(make_run(sampled, len(costs) - len(sampled)))
    assert prediction.low < sum(costs) < prediction.high
    assert prediction.high - prediction.low < sum(costs)


def test_the_first_call_loads_modules_and_does_not_count_for_all():
    prediction = predict(make_run([3.0, *[0.1] * 49], 950))
    assert prediction.seconds == pytest.approx(3.0 + 0.1 * 999, rel=0.02)


def test_nothing_is_predicted_of_a_run_without_calls():
    assert predict(TakeoverRun("predict", 5.0)).seconds == 0
