"""The samples of PyTorch's operator database, each as a function of its inputs.

The database ships with PyTorch (`torch.testing._internal.common_methods_invocations.op_db`; it needs `expecttest`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

LARGEST = 100  # samples whose tensors hold more entries than this are left out
CHOSEN = 2  # samples of an operator, spread over those there are, that go through PyTorch's checkers too


@dataclasses.dataclass(frozen=True)
class Sample:
    """One operator on one sample.

    Attributes:
        index: the sample's place among those of its operator.
        chosen: whether the sample goes through PyTorch's checkers too.
        framework: that the operator belongs to.
    """

    name: str
    index: int
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    chosen: bool
    framework: str = "torch"


def load_samples(dtype: torch.dtype) -> list[Sample]:
    """Load the samples of every operator that has a derivative in a dtype on the CPU."""
    loaded = []
    for op in op_db:
        if not op.supports_autograd or dtype not in op.supported_backward_dtypes("cpu"):
            continue
        small = [sample for sample in op.sample_inputs("cpu", dtype, requires_grad=True) if count_entries(sample) <= LARGEST]
        chosen = {round(i * (len(small) - 1) / max(CHOSEN - 1, 1)) for i in range(CHOSEN)}
        loaded += [make_sample(op, sample, i, chosen=i in chosen) for i, sample in enumerate(small)]
    return loaded


def count_entries(sample: Any) -> int:
    """Count the entries of all tensors of a sample."""
    leaves = torch.utils._pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    return sum(leaf.numel() for leaf in leaves if isinstance(leaf, torch.Tensor))


def make_sample(op: Any, sample: Any, index: int, *, chosen: bool) -> Sample:
    """Make an operator a function of a sample's inputs, wrapped as PyTorch's own tests wrap it."""

    def function(*args: Any, **kwargs: Any) -> Any:
        return sample.output_process_fn_grad(op.gradcheck_wrapper(op.op, *args, **kwargs))

    name = f"{op.name} {op.variant_test_name}".strip()
    return Sample(name, index, function, (sample.input, *sample.args), sample.kwargs, chosen)
