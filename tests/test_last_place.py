"""The place where a case was when its time ran out."""

import time
from pathlib import Path

from gradcheck.last_place import MARGIN, Watch, read_place, watching
from gradcheck.run.workers.worker import timeout_outcome


def check_named_case(watch):
    """Wait as a worker does that checks a case, until its place is recorded."""
    with watching(watch):
        end = time.monotonic() + 10
        while time.monotonic() < end and not Path(watch.path).read_text().endswith("\n"):
            pass


def test_the_place_is_recorded_shortly_before_the_deadline(tmp_path):
    watch = Watch(str(tmp_path / "place"), time.monotonic() + MARGIN + 0.01)
    check_named_case(watch)
    assert read_place(watch).startswith("test_last_place.py:")
    assert (
        timeout_outcome(3, "slow.py:4 in wait").message
        == "it took longer than 3 s, imports included; it was stopped at slow.py:4 in wait"
    )


def test_without_a_record_there_is_no_place(tmp_path):
    assert read_place(None) == read_place(Watch(str(tmp_path / "missing"), 0.0)) == ""
    with watching(Watch(str(tmp_path / "late"), time.monotonic())):
        assert not (tmp_path / "late").exists()
