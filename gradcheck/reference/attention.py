"""Scaled dot-product attention with one head, without and with a causal mask.

Source: A. Vaswani et al., Attention Is All You Need (2017), section 3.2.1, equation 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import normal

F64 = NDArray[np.float64]
Tensor = torch.Tensor


def _weights(Q: F64, K: F64) -> F64:
    """A = softmax(S) row by row, S = Q Kᵀ / √d."""
    E = np.exp(Q @ K.T / Q.shape[1] ** 0.5)
    return np.asarray(E / np.sum(E, axis=1, keepdims=True))


def _causal_weights(Q: F64, K: F64) -> F64:
    """A = softmax(S) row by row, with S = Q Kᵀ / √d if the key is not after the query, else -∞."""
    E = np.tril(np.exp(Q @ K.T / Q.shape[1] ** 0.5))
    return np.asarray(E / np.sum(E, axis=1, keepdims=True))


def _vjp(dY: F64, A: F64, Q: F64, K: F64, V: F64) -> dict[str, F64]:
    """DV = Aᵀ dY, dQ = dS K / √d, dK = dSᵀ Q / √d, with dA = dY Vᵀ and dS = A ⊙ (dA - rowsum(A ⊙ dA))."""
    dA = dY @ V.T
    dS = A * (dA - np.sum(A * dA, axis=1, keepdims=True))
    root = Q.shape[1] ** 0.5
    return {"Q": dS @ K / root, "K": dS.T @ Q / root, "V": A.T @ dY}


def attention_vjp(dY: F64, Q: F64, K: F64, V: F64) -> dict[str, F64]:
    """DV = Aᵀ dY, dQ = dS K / √d, dK = dSᵀ Q / √d, with dA = dY Vᵀ and dS = A ⊙ (dA - rowsum(A ⊙ dA)).

    dY has the shape of the output, (L, 2); each derivative has the shape of its input.
    """
    return _vjp(dY, _weights(Q, K), Q, K, V)


@case(
    Q=normal("L", 3),
    K=normal("M", 3),
    V=normal("M", 2),
    vjp=attention_vjp,
    wrt=("Q", "K", "V"),
    options={"dims": {"L": (3, 5), "M": (4, 6)}},
)
def attention(Q: F64, K: F64, V: F64) -> Any:
    """Y = softmax(Q Kᵀ / √d) V, with queries Q (L, d), keys K (M, d) and values V (M, e)."""
    return _weights(Q, K) @ V


@twin_of(attention)
def torch_attention(Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
    """Y = softmax(Q Kᵀ / √d) V."""
    return functional.scaled_dot_product_attention(Q, K, V)


def causal_attention_vjp(dY: F64, Q: F64, K: F64, V: F64) -> dict[str, F64]:
    """Compute the derivatives as without the mask, with the causal A: dS = 0 where A = 0."""
    return _vjp(dY, _causal_weights(Q, K), Q, K, V)


@case(
    Q=normal("L", 3),
    K=normal("L", 3),
    V=normal("L", 2),
    vjp=causal_attention_vjp,
    wrt=("Q", "K", "V"),
    options={"dims": {"L": (4, 6)}},
)
def causal_attention(Q: F64, K: F64, V: F64) -> Any:
    """Y = softmax(Q Kᵀ / √d + mask) V: query i attends to the keys 1 to i."""
    return _causal_weights(Q, K) @ V


@twin_of(causal_attention)
def torch_causal_attention(Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
    """Y = softmax(Q Kᵀ / √d + mask) V."""
    return functional.scaled_dot_product_attention(Q, K, V, is_causal=True)
