import os

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
