"""A run on another machine, in another process or under another load reports the same."""

import sys

import numpy as np
import pytest

import gradcheck
from gradcheck import normal
from gradcheck.checks.derivative.mode import BY_TIME, is_close_call
from gradcheck.options import Options
from gradcheck.run import runner
from gradcheck.run.api import build_case
from gradcheck.tracebacks import summarise_error


@pytest.mark.parametrize(
    ("options", "mode", "notes", "seconds", "close"),
    [
        (Options(), "full", (), 2.0, False),
        (Options(), "full", (), 4.0, True),
        (Options(budget=100.0), "full", (), 4.0, False),
        (Options(), "probe", (f"probes: one by one, 3 input numbers would take about 40 s {BY_TIME}",), 0.1, True),
        (Options(), "probe", ("probes: 4000 input numbers exceed the 1024",), 50.0, False),
        (Options(mode="full"), "full", (), 50.0, False),
    ],
)
def test_a_mode_that_the_time_decided_is_a_close_call(options, mode, notes, seconds, close):
    assert is_close_call(options, mode, notes, seconds) is close


def test_the_replay_of_a_close_call_names_the_mode(monkeypatch):
    case = build_case(lambda x: np.sum(x**2), normal(3), gradient=lambda x: 3 * x, framework="numpy")
    for close, replay in ((True, "gradcheck run f --seed 0 --mode full"), (False, "gradcheck run f --seed 0")):
        monkeypatch.setattr(runner, "is_close_call", lambda *_, close=close: close)
        (result,) = runner.run([case], Options(), replay=lambda _: "gradcheck run f --seed 0").results
        assert (result.mode, result.replay) == ("full", replay)


def test_the_versions_of_libraries_do_not_depend_on_what_this_process_has_loaded(monkeypatch):
    before = runner.describe_environment()
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert runner.describe_environment() == before
    assert {"python", "platform", "numpy", "torch"} <= set(before)


def test_messages_hold_no_addresses():
    assert summarise_error(ValueError(f"got {test_messages_hold_no_addresses} and {object()}")) == (
        "ValueError: got <function test_messages_hold_no_addresses> and <object object>"
    )
    further = {"checks": ("descent",), "optimizer": lambda loss, x: x}
    result = gradcheck.check(lambda x: np.sum(x), normal(3), gradient=np.ones_like, framework="numpy", **further)
    assert "0x" not in result.replay
