"""Networks: multilayer perceptrons, convolution, a recurrent cell through time, embedding.

Gradients follow from the last layer back to the first; δ is the derivative of the loss with respect to a layer's activation
before its nonlinearity, dY that with respect to an output Y. Weights have shape (out, in), as in PyTorch.

Sources: C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 5.3 (backpropagation).
I. Goodfellow, Y. Bengio, A. Courville, Deep Learning (2016), sections 6.5 (backpropagation), 9.5 (convolution) and 10.2.2
(backpropagation through time).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gradcheck.reference.twin import twin_of
from gradcheck.targets.case import case
from gradcheck.targets.specs.spec import integers, normal, one_hot

F64 = NDArray[np.float64]
Tensor = torch.Tensor
OPTIONS = {"dims": {"N": (5, 8)}}


def mlp_gradient(X: F64, T: F64, W1: F64, b1: F64, W2: F64, b2: F64, W3: F64, b3: F64) -> dict[str, F64]:
    """dL/dW_l = δ_lᵀ Z_{l-1}, dL/db_l = Σₙ δ_l.

    δ_3 = 2/N (Y - T), δ_2 = (1 - Z_2²) ⊙ δ_3 W_3, δ_1 = (1 - Z_1²) ⊙ δ_2 W_2.
    """
    Z1 = np.tanh(X @ W1.T + b1)
    Z2 = np.tanh(Z1 @ W2.T + b2)
    delta3 = 2 / len(X) * (Z2 @ W3.T + b3 - T)
    delta2 = (1 - Z2**2) * (delta3 @ W3)
    delta1 = (1 - Z1**2) * (delta2 @ W2)
    weights = {"W1": delta1.T @ X, "W2": delta2.T @ Z1, "W3": delta3.T @ Z2}
    return weights | {"b1": delta1.sum(0), "b2": delta2.sum(0), "b3": delta3.sum(0)}


@case(
    X=normal("N", 2),
    T=normal("N", 2),
    W1=normal(3, 2),
    b1=normal(3),
    W2=normal(3, 3),
    b2=normal(3),
    W3=normal(2, 3),
    b3=normal(2),
    gradient=mlp_gradient,
    wrt=("W1", "b1", "W2", "b2", "W3", "b3"),
    options=OPTIONS,
)
def mlp(X: F64, T: F64, W1: F64, b1: F64, W2: F64, b2: F64, W3: F64, b3: F64) -> Any:
    """L = 1/N Σ (Y - T)², Y = Z_2 W_3ᵀ + b_3, Z_2 = tanh(Z_1 W_2ᵀ + b_2), Z_1 = tanh(X W_1ᵀ + b_1)."""
    Z1 = np.tanh(X @ W1.T + b1)
    Z2 = np.tanh(Z1 @ W2.T + b2)
    return np.sum((Z2 @ W3.T + b3 - T) ** 2) / len(X)


@twin_of(mlp)
def torch_mlp(X: Tensor, T: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor, W3: Tensor, b3: Tensor) -> Tensor:
    """L = 1/N Σ (Y - T)²."""
    Z1 = torch.tanh(functional.linear(X, W1, b1))
    Z2 = torch.tanh(functional.linear(Z1, W2, b2))
    return functional.mse_loss(functional.linear(Z2, W3, b3), T, reduction="sum") / len(X)


def mlp_classifier_gradient(X: F64, T: F64, W1: F64, b1: F64, W2: F64, b2: F64) -> dict[str, F64]:
    """dL/dW_l = δ_lᵀ Z_{l-1}, dL/db_l = Σₙ δ_l, with δ_2 = 1/N (softmax(A) - T), δ_1 = (1 - Z²) ⊙ δ_2 W_2."""
    Z = np.tanh(X @ W1.T + b1)
    E = np.exp(Z @ W2.T + b2)
    delta2 = (E / E.sum(1, keepdims=True) - T) / len(X)
    delta1 = (1 - Z**2) * (delta2 @ W2)
    return {"W1": delta1.T @ X, "b1": delta1.sum(0), "W2": delta2.T @ Z, "b2": delta2.sum(0)}


@case(
    X=normal("N", 2),
    T=one_hot("N", 3),
    W1=normal(4, 2),
    b1=normal(4),
    W2=normal(3, 4),
    b2=normal(3),
    gradient=mlp_classifier_gradient,
    wrt=("W1", "b1", "W2", "b2"),
    options=OPTIONS,
)
def mlp_classifier(X: F64, T: F64, W1: F64, b1: F64, W2: F64, b2: F64) -> Any:
    """L = -1/N ΣΣ T ⊙ log softmax(A) = 1/N Σₙ (log Σₖ exp Aₙₖ - Σₖ Tₙₖ Aₙₖ), A = Z W_2ᵀ + b_2, Z = tanh(X W_1ᵀ + b_1)."""
    A = np.tanh(X @ W1.T + b1) @ W2.T + b2
    return np.mean(np.log(np.sum(np.exp(A), axis=1)) - np.sum(T * A, axis=1))


@twin_of(mlp_classifier)
def torch_mlp_classifier(X: Tensor, T: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor) -> Tensor:
    """L = -1/N ΣΣ T ⊙ log softmax(A)."""
    return functional.cross_entropy(functional.linear(torch.tanh(functional.linear(X, W1, b1)), W2, b2), T)


def _correlate(X: F64, K: F64) -> F64:
    """Y[n,o,i,j] = Σ_{c,u,v} K[o,c,u,v] X[n,c,i+u,j+v], for every place at which the kernel lies inside the image."""
    height, width = X.shape[2] - K.shape[2] + 1, X.shape[3] - K.shape[3] + 1
    terms = [
        np.einsum("oc,nchw->nohw", K[:, :, u, v], X[:, :, u : u + height, v : v + width])
        for u in range(K.shape[2])
        for v in range(K.shape[3])
    ]
    total: F64 = sum(terms[1:], terms[0])
    return total


def convolution_vjp(dY: F64, X: F64, K: F64, b: F64) -> dict[str, F64]:
    """Compute the derivatives, which are correlations too, dX with the kernel flipped.

    dX[n,c,i,j] = Σ_{o,u,v} dY[n,o,i-u,j-v] K[o,c,u,v], where dY is 0 outside: its full correlation with the flipped kernel,
    dK[o,c,u,v] = Σ_{n,i,j} dY[n,o,i,j] X[n,c,i+u,j+v],
    db[o] = Σ_{n,i,j} dY[n,o,i,j].
    """
    rows, columns = K.shape[2] - 1, K.shape[3] - 1
    padded = np.pad(dY, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
    flipped = K[:, :, ::-1, ::-1].swapaxes(0, 1)
    dK = _correlate(X.swapaxes(0, 1), dY.swapaxes(0, 1)).swapaxes(0, 1)
    return {"X": _correlate(padded, flipped), "K": dK, "b": dY.sum((0, 2, 3))}


@case(
    X=normal("N", 2, 3, 4),
    K=normal(3, 2, 2, 2),
    b=normal(3),
    vjp=convolution_vjp,
    wrt=("X", "K", "b"),
    options={"dims": {"N": (2, 3)}},
)
def convolution(X: F64, K: F64, b: F64) -> Any:
    """Y[n,o,i,j] = b[o] + Σ_{c,u,v} K[o,c,u,v] X[n,c,i+u,j+v]: stride 1, no padding."""
    return _correlate(X, K) + b[:, None, None]


@twin_of(convolution)
def torch_convolution(X: Tensor, K: Tensor, b: Tensor) -> Tensor:
    """Y[n,o,i,j] = b[o] + Σ_{c,u,v} K[o,c,u,v] X[n,c,i+u,j+v]."""
    return functional.conv2d(X, K, b)


def _states(X: F64, h0: F64, W: F64, U: F64, b: F64) -> list[F64]:
    """The hidden states h_0, …, h_T, with h_t = tanh(W x_t + U h_{t-1} + b)."""
    h = [h0]
    for t in range(X.shape[1]):
        h.append(np.tanh(X[:, t] @ W.T + h[-1] @ U.T + b))
    return h


def rnn_gradient(X: F64, y: F64, h0: F64, W: F64, U: F64, b: F64, v: F64) -> dict[str, F64]:
    """dL/dW = Σₜ δ_tᵀ x_t, dL/dU = Σₜ δ_tᵀ h_{t-1}, dL/db = ΣₜΣₙ δ_t, dL/dv = 2/N h_Tᵀ r, dL/dh_0 = δ_1 U.

    δ_t = (1 - h_t²) ⊙ dL/dh_t, dL/dh_T = 2/N r vᵀ, dL/dh_{t-1} = δ_t U, with r = h_T v - y. x_t is `X[:, t - 1]`.
    """
    h = _states(X, h0, W, U, b)
    r = h[-1] @ v - y
    dW, dU, db, dh = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b), 2 / len(y) * np.outer(r, v)
    for t in range(X.shape[1], 0, -1):
        delta = (1 - h[t] ** 2) * dh
        dW += delta.T @ X[:, t - 1]
        dU += delta.T @ h[t - 1]
        db += delta.sum(0)
        dh = delta @ U
    return {"h0": dh, "W": dW, "U": dU, "b": db, "v": 2 / len(y) * h[-1].T @ r}


@case(
    X=normal("N", 3, 2),
    y=normal("N"),
    h0=normal("N", 3),
    W=normal(3, 2),
    U=normal(3, 3),
    b=normal(3),
    v=normal(3),
    gradient=rnn_gradient,
    wrt=("h0", "W", "U", "b", "v"),
    options={"dims": {"N": (3, 5)}},
)
def rnn(X: F64, y: F64, h0: F64, W: F64, U: F64, b: F64, v: F64) -> Any:
    """L = 1/N Σ (v·h_T - y)², with h_t = tanh(W x_t + U h_{t-1} + b)."""
    return np.mean((_states(X, h0, W, U, b)[-1] @ v - y) ** 2)


@twin_of(rnn)
def torch_rnn(X: Tensor, y: Tensor, h0: Tensor, W: Tensor, U: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """L = 1/N Σ (v·h_T - y)²."""
    h = h0
    for x in X.unbind(1):
        h = torch.tanh(functional.linear(x, W, b) + functional.linear(h, U))
    return functional.mse_loss(h @ v, y)


def embedding_vjp(dY: F64, table: F64, ids: NDArray[np.int64]) -> dict[str, F64]:
    """dE[k] = the sum of dY over the places where row k was looked up; 0 for rows that were not looked up."""
    dE = np.zeros_like(table)
    np.add.at(dE, ids, dY)
    return {"table": dE}


# With few ids and many places, some row is always looked up twice, and most rows never.
@case(table=normal(9, 3), ids=integers(0, 4, "N", 2), vjp=embedding_vjp, wrt="table", options=OPTIONS)
def embedding(table: F64, ids: NDArray[np.int64]) -> Any:
    """Y[n,s] = E[ids[n,s]]: rows of a table E."""
    return table[ids]


@twin_of(embedding)
def torch_embedding(table: Tensor, ids: Tensor) -> Tensor:
    """Y[n,s] = E[ids[n,s]], its gradient a sparse tensor."""
    return functional.embedding(ids, table, sparse=True)
