from dataclasses import replace

import pytest

from gradcheck.report import locations
from gradcheck.results import CheckResult, Reason, RunResult, Verdict

RESULT = CheckResult("c", "t", Verdict.FAIL, Reason.DISAGREES)


def place(root, *files):
    claim, file = (*files, None, None)[:2]
    result = replace(RESULT, claim_file=claim, claim_line=3, file=file, line=7)
    return locations.locate(RunResult("0", {}, 0, {}, (result,), root=root), result)


@pytest.mark.parametrize(
    ("root", "file", "told", "inside"),
    [
        ("/home/me/repo", "/home/me/repo/a b/c.py", "a b/c.py:3", True),
        ("/home/me/repo", "/home/me/repository/c.py", "/home/me/repository/c.py:3", False),
        ("C:\\repo", "C:\\repo\\sub\\c.py", "sub/c.py:3", True),
        ("C:\\repo", "c:\\Repo\\sub\\c.py", "sub/c.py:3", True),
        ("C:\\repo", "D:\\other\\c.py", "D:/other/c.py:3", False),
        ("", "/home/me/c.py", "/home/me/c.py:3", False),
    ],
)
def test_files_are_named_from_the_root(root, file, told, inside):
    assert str(place(root, file)) == told
    assert place(root, file).inside is inside


@pytest.mark.parametrize("root", ["/home/me/repo", "C:\\repo"])
def test_a_cell_is_named_with_its_notebook_and_tools_are_sent_to_the_first_line(root):
    separator = "\\" if "\\" in root else "/"
    found = place(root, f"{root}{separator}sub{separator}fit.ipynb cell 4")
    assert str(found) == "sub/fit.ipynb cell 4, line 3"
    assert (found.path, found.line, found.file_line, found.inside) == ("sub/fit.ipynb", 3, 1, True)
    assert place(root, "/lib/c.py").file_line == 3


def test_a_place_inside_goes_before_one_outside():
    assert str(place("/repo", "/lib/scipy.py", "/repo/mine.py")) == "mine.py:7"
    assert str(place("/repo", "/lib/scipy.py", "/lib/other.py")) == "/lib/scipy.py:3"
    assert place("/repo") is None


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("a b/c#d%.py", "a%20b/c%23d%25.py"),
        ("/repo/ü.py", "file:///repo/%C3%BC.py"),
        ("C:\\repo", "file:///C:/repo"),
    ],
)
def test_a_path_is_written_as_a_uri(path, uri):
    assert locations.to_uri(path) == uri
