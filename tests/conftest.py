import os

# Two workers on two cores: threads of one would wait for those of the other. Set before PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("GITHUB_ACTIONS", None)  # there a run annotates on stderr, which tests read
