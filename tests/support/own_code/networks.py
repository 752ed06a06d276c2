"""Networks as classes: parameters in a dictionary, in attributes, or in nested lists of layers."""

from collections import OrderedDict

import numpy as np

from tests.support.own_code.layers import affine_backward, affine_forward, relu_backward, relu_forward, softmax_loss


class TwoLayerNet:
    """`loss(X, y)` returns the loss and a dictionary of gradients with the keys of `self.params`."""

    def __init__(self, inputs=6, hidden=5, classes=3, reg=0.1, seed=0):
        rng = np.random.default_rng(seed)
        self.reg = reg
        self.params = {
            "W1": 0.5 * rng.standard_normal((inputs, hidden)),
            "b1": np.zeros(hidden),
            "W2": 0.5 * rng.standard_normal((hidden, classes)),
            "b2": np.zeros(classes),
        }

    def loss(self, X, y=None):
        W1, b1, W2, b2 = (self.params[k] for k in ("W1", "b1", "W2", "b2"))
        a, cache1 = affine_forward(X, W1, b1)
        h, cache2 = relu_forward(a)
        scores, cache3 = affine_forward(h, W2, b2)
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y)
        loss += 0.5 * self.reg * ((W1**2).sum() + (W2**2).sum())
        grads = {}
        dh, grads["W2"], grads["b2"] = affine_backward(dscores, cache3)
        _, grads["W1"], grads["b1"] = affine_backward(relu_backward(dh, cache2), cache1)
        grads["W1"] += self.reg * W1
        grads["W2"] += self.reg * W2
        return loss, grads


class Affine:
    """A layer that keeps its parameters, its input and its gradients in attributes."""

    def __init__(self, W, b):
        self.W, self.b = W, b
        self.x = self.dW = self.db = None

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW = self.x.T @ dout
        self.db = dout.sum(axis=0)
        return dout @ self.W.T


class Relu:
    def forward(self, x):
        self.mask = x <= 0
        return np.where(self.mask, 0, x)

    def backward(self, dout):
        return np.where(self.mask, 0, dout)


class SoftmaxWithLoss:
    def forward(self, x, t):
        self.t = t
        self.loss, self.dx = softmax_loss(x, t)
        return self.loss

    def backward(self, dout=1):
        return dout * self.dx


class LayerNet:
    """The parameters are in `params` and, as the same arrays, in the layers; `gradient(x, t)` returns a dictionary."""

    affine = Affine

    def __init__(self, inputs=6, hidden=5, classes=3, seed=0):
        rng = np.random.default_rng(seed)
        self.params = {"W1": 0.5 * rng.standard_normal((inputs, hidden)), "b1": np.zeros(hidden)}
        self.params |= {"W2": 0.5 * rng.standard_normal((hidden, classes)), "b2": np.zeros(classes)}
        self.layers = OrderedDict(
            Affine1=self.affine(self.params["W1"], self.params["b1"]),
            Relu1=Relu(),
            Affine2=self.affine(self.params["W2"], self.params["b2"]),
        )
        self.last = SoftmaxWithLoss()

    def predict(self, x):
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def loss(self, x, t):
        return self.last.forward(self.predict(x), t)

    def gradient(self, x, t):
        self.loss(x, t)
        dout = self.last.backward(1)
        for layer in reversed(list(self.layers.values())):
            dout = layer.backward(dout)
        layers = self.layers
        return {
            "W1": layers["Affine1"].dW, "b1": layers["Affine1"].db, "W2": layers["Affine2"].dW, "b2": layers["Affine2"].db,
        }  # fmt: skip


class Sequential:
    """A list of layers with `forward(x)` and `backward(dout)`; the gradients stay in the layers."""

    def __init__(self, *layers):
        self.layers = list(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dout):
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return dout
