"""PyTorch's checkers, answered by gradcheck: `gradcheck` and `gradgradcheck` with the signatures of `torch.autograd`.

`gradcheck.compat.torch.common_utils` has those of `torch.testing._internal.common_utils`. `GradcheckError` is the class of
PyTorch itself.
"""

from typing import Any

from gradcheck.compat.torch.drop_ins import CHECKERS, gradcheck, gradgradcheck

__all__ = ["CHECKERS", "GradcheckError", "gradcheck", "gradgradcheck"]


def __getattr__(name: str) -> Any:
    """Load PyTorch's exception at first use."""
    if name == "GradcheckError":
        from torch.autograd.gradcheck import GradcheckError

        return GradcheckError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
