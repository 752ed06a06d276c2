import gc
import os
import sys
from textwrap import dedent

import pytest

# Two workers on two cores: threads of one would wait for those of the other. Set before PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("GITHUB_ACTIONS", None)  # there a run annotates on stderr, which tests read


def pytest_collection_modifyitems(items):
    asking = [item for item in items if item.get_closest_marker("gpu")]
    if not asking:
        return
    import torch

    if not torch.cuda.is_available():
        for item in asking:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_collection_finish():
    """Leave out of every collection of garbage what lives as long as the session: the tests, PyTorch and JAX."""
    gc.collect()
    gc.freeze()


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
