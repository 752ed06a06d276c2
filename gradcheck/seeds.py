"""Random numbers that depend on what they are for, not on when they are drawn."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *labels: object) -> np.random.Generator:
    """Return the generator for one purpose, named by `labels` (case, trial, leaf path ...).

    The stream depends on the labels alone: adding a leaf does not re-roll the others, and every machine draws the same.
    """
    text = "\x1f".join([str(seed), *map(str, labels)])
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
