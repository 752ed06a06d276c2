import io

import numpy as np
from rich.console import Console

import gradcheck
from gradcheck import normal
from gradcheck.progress import LISTENER
from gradcheck.report.terminal import progress_bar


def test_a_check_tells_how_far_it_has_come_leaf_by_leaf():
    heard = []
    token = LISTENER.set(lambda *told: heard.append(told))
    try:
        gradcheck.check(lambda x, y: np.sum(x * y), normal(3), normal(3), framework="numpy", every_entry=True)
    finally:
        LISTENER.reset(token)
    assert [told for told in heard if told[0] == "x"][:3] == [("x", 0, 3), ("x", 1, 3), ("x", 2, 3)]
    assert "y" in {what for what, _, _ in heard}


def test_without_a_listener_nothing_is_told():
    assert LISTENER.get() is None


class AtOnce:
    """A timer that does not wait."""

    def __init__(self, _, function):
        self.start = function

    def cancel(self):
        pass

    join = cancel


def test_the_bar_names_the_case_and_the_leaf(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress_bar.threading, "Timer", AtOnce)
    monkeypatch.setattr(progress_bar, "Console", lambda **_: Console(file=out, force_terminal=True, width=120, _environ={}))
    with progress_bar.show_progress(3) as (start, finish):
        start("mine.py:first")
        start("mine.py:\x1b[2Jsecond")
        finish()
        LISTENER.get()("params['weight']", 0, 10)
        LISTENER.get()("params['weight']", 7, 10)
    text = out.getvalue()
    assert "1/3" in text  # two have begun, and one is finished
    assert "mine.py:\\x1b[2Jsecond" in text
    assert "\x1b[2J" not in text
    assert "params['weight']" in text
    assert LISTENER.get() is None
