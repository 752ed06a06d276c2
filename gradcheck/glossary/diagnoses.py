"""The diagnoses: kinds of wrong gradients, each with its usual fix and a small example."""

from __future__ import annotations

from enum import Enum


class Diagnosis(Enum):
    """A kind of fault: its code, what it means, the usual fix and a small example."""

    ZERO = (
        "zero",
        "the claim is zero where the derivative is not",
        "look for .detach(), no_grad(), stop_gradient, a missing return value, or a gradient buffer that is never written",
        "backward: return torch.zeros_like(x)",
    )
    DETACHED = (
        "detached",
        "a part of the function is cut off from automatic differentiation",
        "let the gradient through; if it is cut off on purpose, make the detached value an input of its own, outside wrt=",
        "return (x.detach() * w).sum() + (x**2).sum()",
    )
    SIGN = (
        "sign",
        "the claim has the wrong sign",
        "look for a residual taken the wrong way round, y - f instead of f - y",
        "r = y - X @ w; gradient = 2 * X.T @ r / N",
    )
    CONJUGATED = (
        "conjugated",
        "the claim is the complex conjugate of the expected gradient",
        "in PyTorch (dL/da + i dL/db), conjugate the local derivative, not the cotangent; in JAX (dL/da - i dL/db), conjugate"
        " nothing",
        "backward of z*z: return g * 2 * z instead of g * (2 * z).conj()",
    )
    FACTOR = (
        "factor",
        "the claim is a constant times the derivative",
        "look for a mean in the forward and a sum in the backward, or for a forgotten factor 2 of a square",
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
        "the gradient of a correlation needs the flipped kernel, that of a convolution does not",
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
        "the claim has the right numbers in the wrong places",
        "look for a sort, a permutation or a reshape that the backward does not undo",
        "y = x[order]; backward: return g[order] instead of g[inverse]",
    )
    SUMMED = (
        "summed",
        "the claim is the sum of the derivative over an axis, repeated along it",
        "sum over the axes that were broadcast, and over no others",
        "return np.broadcast_to(g.sum(0), x.shape)",
    )
    SYMMETRISED = (
        "symmetrised",
        "the claim is the mean of the derivative and its transpose",
        "the function reads only one triangle of its input: pass it (a + a.T) / 2, or keep only that triangle of the claim",
        "torch.linalg.cholesky(a): the derivative with respect to the upper triangle is 0",
    )
    TERM = (
        "missing-term",
        "a term is missing or superfluous",
        "differentiate every occurrence of the input: a penalty, a skip connection, a normaliser",
        "loss = mse + lam * w @ w, gradient without 2 * lam * w",
    )
    SPECIAL = (
        "special-values",
        "the claim is wrong only at special values",
        "check comparisons, clamps, masks and borders in the backward",
        "relu: return g * (x >= 0) instead of g * (x > 0)",
    )
    SLICE = (
        "slice",
        "the claim is wrong in only one slice",
        "check how the backward handles the first and the last index, and its padding",
        "for t in range(T - 1, 0, -1): ... (t = 0 is missing)",
    )
    OUTPUTS = (
        "outputs",
        "the claim is zero for some of the outputs",
        "every output contributes: sum over the batch, and use every entry of the cotangent",
        "return g[0] * x instead of (g * x).sum(0)",
    )
    RANKS = (
        "ranks",
        "the claim lacks or repeats what other ranks contribute",
        "sum or average the gradient over the ranks as the forward pass demands, or choose the ranks= that the code means",
        "all-gather; backward: return g[rank] instead of the sum over the ranks of g[rank]",
    )
    FORMULA = (
        "formula",
        "the claim has another factor or another operation than the derivative",
        "compare the formulas: is the input used where the output belongs, or a factor lost?",
        "y = tanh(x); backward: return g * (1 - x**2) instead of g * (1 - y**2)",
    )
    FUNCTION = (
        "function",
        "an autograd Function inside the target has a wrong derivative",
        "correct that method, or check the Function alone",
        "return Scale.apply(x).sum(), where Scale.backward returns g instead of 2 * g",
    )
    COTANGENT = (
        "cotangent",
        "the claim is the derivative for another cotangent than the one that it is given",
        "multiply by the cotangent that the backward receives, entry by entry: it is seldom all ones",
        "y = sin(x); backward: return cos(x) instead of g * cos(x)",
    )
    UNKNOWN = (
        "unknown",
        "no simple correction makes the claim right",
        "compare its formula with the function term by term, starting from the wrong entries and their values",
        "y = x**3 - x; backward: return g * (3 * x**2 - x)",
    )

    def __new__(cls, code: str, message: str, fix: str, example: str) -> Diagnosis:
        """Make the code the member's value."""
        member = object.__new__(cls)
        member._value_ = code
        return member

    def __init__(self, code: str, message: str, fix: str, example: str) -> None:
        self.code = code
        self.message = message
        self.fix = fix
        self.example = example
