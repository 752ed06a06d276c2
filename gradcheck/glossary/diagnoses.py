"""What a wrong gradient looks like, by name."""

from __future__ import annotations

from enum import Enum


class Diagnosis(Enum):
    """A kind of fault: a code, what it means, the usual mend, and a small example of it."""

    ZERO = (
        "zero",
        "the claim is zero where the derivative is not",
        "look for .detach(), no_grad(), stop_gradient, a forgotten return value, or a gradient buffer that is never written",
        "backward: return torch.zeros_like(x)",
    )
    SIGN = (
        "sign",
        "the sign is turned",
        "look for a residual taken the wrong way round, y - f in place of f - y",
        "r = y - X @ w; gradient = 2 * X.T @ r / N",
    )
    CONJUGATED = (
        "conjugated",
        "the claim is the conjugate of what it should be",
        "PyTorch's convention is dL/da + i dL/db: conjugate the local derivative, not the cotangent; JAX's is dL/da - i dL/db,"
        " and nothing is conjugated",
        "backward of z*z: return g * 2 * z, where g * (2 * z).conj() is meant",
    )
    FACTOR = (
        "factor",
        "the claim is a constant times the derivative",
        "look for a mean in the forward and a sum in the backward, or a square's 2",
        "loss = mean(r**2), gradient = 2 * X.T @ r",
    )
    TRANSPOSED = (
        "transposed",
        "the claim is transposed",
        "swap the factors of the outer product, or their axes",
        "y = x @ W.T with W of shape (3, 3); backward: return np.outer(x, g)",
    )
    FLIPPED = (
        "flipped",
        "the claim's entries are in reverse order along an axis",
        "a correlation's gradient needs the flipped kernel, a convolution's does not",
        "return g[::-1]",
    )
    ROLLED = (
        "rolled",
        "the claim's entries are shifted along an axis",
        "look for an index that is off by one",
        "y = x[1:] - x[:-1]; backward: return np.append(g, 0) - np.append(g[1:], [0, 0])",
    )
    PERMUTED = (
        "permuted",
        "the claim holds the right numbers in other places",
        "look for a sort, a permutation or a reshape that the backward does not undo",
        "y = x[order]; backward: return g[order], where g[inverse] is meant",
    )
    SUMMED = (
        "summed",
        "the claim is the sum of the derivative over an axis, repeated along it",
        "sum over the axes that were broadcast, and over no other",
        "return np.broadcast_to(g.sum(0), x.shape)",
    )
    SYMMETRISED = (
        "symmetrised",
        "the claim is the mean of the derivative and its transpose",
        "the function reads one triangle of its input alone: give it (a + a.T) / 2, or keep that triangle's part of the claim",
        "torch.linalg.cholesky(a): the derivative with respect to the upper triangle is 0",
    )
    TERM = (
        "missing-term",
        "a term is missing, or one too many",
        "differentiate every place where the input occurs: a penalty, a skip connection, a normaliser",
        "loss = mse + lam * w @ w, gradient without 2 * lam * w",
    )
    SPECIAL = (
        "special-values",
        "the claim is wrong at special values only",
        "look at comparisons, clamps, masks and borders in the backward",
        "relu: return g * (x >= 0), where x > 0 is meant",
    )
    SLICE = (
        "slice",
        "the claim is wrong in one slice only",
        "look at what the backward does with the first or last index, and at its padding",
        "for t in range(T - 1, 0, -1): ..., where t = 0 is forgotten",
    )
    OUTPUTS = (
        "outputs",
        "the claim is zero for some of the outputs",
        "each output adds its share: sum over the batch, and use every cotangent",
        "return g[0] * x, where (g * x).sum(0) is meant",
    )
    UNKNOWN = (
        "unknown",
        "no simple repair makes the claim right",
        "hold its formula against the function term by term, with the wrong entries and their values beside it",
        "y = tanh(x); backward: return g * (1 - x**2), where 1 - y**2 is meant",
    )

    def __new__(cls, code: str, message: str, mend: str, example: str) -> Diagnosis:
        """Make the code the member's value."""
        member = object.__new__(cls)
        member._value_ = code
        return member

    def __init__(self, code: str, message: str, mend: str, example: str) -> None:
        self.code = code
        self.message = message
        self.mend = mend
        self.example = example
