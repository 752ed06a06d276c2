import os
import threading

import pytest

from gradcheck.errors import UsageError
from gradcheck.report import files


def test_a_report_is_written_whole_and_leaves_nothing_beside_it(tmp_path):
    place = tmp_path / "run.json"
    place.write_text("old")
    files.write(str(place), "new ü")
    assert place.read_text(encoding="utf-8") == "new ü"
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_that_does_not_exist_is_one_clear_error(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write .*nowhere.*folder that exists"):
        files.write(str(tmp_path / "nowhere" / "run.json"), "{}")


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    place = tmp_path / "run.json"
    place.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        files.write(str(place), "\ud800")
    assert place.read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    place, heard = tmp_path / "pipe", []
    os.mkfifo(place)
    reader = threading.Thread(target=lambda: heard.append(place.read_text()))
    reader.start()
    files.write(str(place), "text")
    reader.join()
    assert heard == ["text"]
    assert place.is_fifo()


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run.json")
    files.write(str(tmp_path / "link"), "text")
    assert (tmp_path / "run.json").read_text() == "text"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere/run.json", "No such file"),
        (".", "Is a directory"),
        ("run.txt/run.json", "Not a directory"),
        ("", "Is a directory"),
    ],
)
def test_what_cannot_be_written_is_known_before(tmp_path, monkeypatch, path, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.txt").write_text("old")
    with pytest.raises(UsageError, match=f"cannot write {path}: {said}"):
        files.ensure_writable(path)


def test_trying_whether_a_report_can_be_written_leaves_everything_as_it_is(tmp_path):
    (tmp_path / "run.json").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    for name in ("run.json", "new.json", "pipe"):
        files.ensure_writable(str(tmp_path / name))
    assert {place.name for place in tmp_path.iterdir()} == {"run.json", "pipe"}
    assert (tmp_path / "run.json").read_text() == "old"


def test_one_process_at_a_time_changes_a_locked_file(tmp_path):
    place = tmp_path / "known.json"
    place.write_text("0")

    def count():
        for _ in range(20):
            with files.locked(place):
                files.write(str(place), str(int(place.read_text()) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.read_text() == "80"
    assert list(tmp_path.iterdir()) == [place]
