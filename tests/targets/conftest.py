import sys
from textwrap import dedent

import pytest


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write files into the working directory, which is on the path; no module of it outlives the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def written(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(dedent(text))

    before = set(sys.modules)
    yield written
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]
