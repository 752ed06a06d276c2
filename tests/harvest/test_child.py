import os
import sys
from types import ModuleType

import torch
from watched_layers import Swish

import gradcheck
from gradcheck.harvest.child import leave_part, restore_file
from gradcheck.harvest.draft import choose_target_text
from gradcheck.harvest.record import Harvest


def test_the_file_of_a_program_is_put_back_only_where_python_has_removed_it():
    removed, present, unknown = (ModuleType("__main__") for _ in range(3))
    present.__file__ = "worker.py"
    restore_file(removed, "train.py")
    restore_file(present, "train.py")
    restore_file(unknown, None)
    assert (removed.__file__, present.__file__) == ("train.py", "worker.py")
    assert not hasattr(unknown, "__file__")


def test_a_spawned_worker_has_the_program_under_the_same_name(tmp_path, monkeypatch):
    program = ModuleType("__main__")
    program.__file__ = str(tmp_path / "train.py")
    (tmp_path / "train.py").write_text("if __name__ == '__main__': pass")
    program.__spec__ = None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", program)
    monkeypatch.setitem(sys.modules, "__mp_main__", program)
    own = type("Own", (Swish,), {"__module__": "__mp_main__"})
    with gradcheck.watch() as watched:
        own.apply(torch.ones(2, requires_grad=True))
    (record,) = watched.harvest.records
    assert record.name == "__main__:Own"
    assert choose_target_text(record) == ("train.py:Own", "")


def test_each_process_notes_that_there_is_something_to_check(monkeypatch):
    harvest, noted = Harvest(), []
    harvest.on_first_record = lambda: noted.append(os.getpid())
    for pid in (1, 1, 2):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        harvest.note_first()
    assert noted == [1, 2]


def test_a_process_that_outlives_the_command_is_silent(tmp_path):
    leave_part({"loaded": []}, {"folder": str(tmp_path / "gone")})
    leave_part({"loaded": []}, {"folder": str(tmp_path)})
    assert (tmp_path / f"{os.getpid()}.json").read_text() == '{"loaded": []}'
