"""Random generators whose stream depends on its purpose, not on when it is drawn from."""

from __future__ import annotations

import hashlib

import numpy as np

# The labels that callers pass are stable, because renaming one changes every draw from its stream. Some use older words.


def make_generator(seed: int, *labels: object) -> np.random.Generator:
    """Make the random generator for one purpose, which `labels` name (case, trial, leaf path ...).

    The stream depends on the seed and the labels alone: a further leaf does not change the others, and every machine draws
    the same numbers.
    """
    text = "\x1f".join([str(seed), *map(str, labels)])
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
