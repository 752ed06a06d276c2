"""A run says when it was made, from which commit and by which command."""

import subprocess

import pytest

from gradcheck.run import provenance


@pytest.fixture
def repository(tmp_path):
    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    (tmp_path / "layer.py").write_text("one = 1\n")
    git("init", "--quiet")
    git("add", "layer.py")
    git("commit", "--quiet", "-m", "first")
    git("tag", "v1")
    return tmp_path, git("rev-parse", "HEAD")


def test_the_commit_is_named_in_full_and_changes_are_said(repository):
    folder, commit = repository
    assert provenance.read_commit(str(folder)) == commit
    (folder / "layer.py").write_text("one = 2\n")
    assert provenance.read_commit(str(folder)) == f"{commit}-dirty"


def test_no_commit_is_named_without_a_repository_or_git(repository, tmp_path_factory, monkeypatch):
    assert provenance.read_commit(str(tmp_path_factory.mktemp("plain"))) == ""
    monkeypatch.setenv("PATH", "")
    assert provenance.read_commit(str(repository[0])) == ""


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/venv/bin/gradcheck", "run", "a b.py", "-k", "[x]"], "gradcheck run 'a b.py' -k '[x]'"),
        (["/src/gradcheck/__main__.py", "run"], "gradcheck run"),
        (["/venv/bin/pytest", "tests"], "pytest tests"),
    ],
)
def test_the_command_can_be_pasted(arguments, command):
    assert provenance.format_command(arguments) == command


def test_the_start_is_a_date_in_utc(tmp_path):
    start = provenance.describe_start(str(tmp_path), 0.0)
    assert (start["started"], start["commit"]) == ("1970-01-01T00:00:00+00:00", "")
