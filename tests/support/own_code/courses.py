"""Exercises of courses and fits with SciPy: functions that return their value with its gradient."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def nn_cost(theta, input_size, hidden_size, labels, X, y, reg):
    """Return (J, grad) of a network whose parameters are one unrolled vector."""
    split = hidden_size * (input_size + 1)
    theta1 = theta[:split].reshape(hidden_size, input_size + 1)
    theta2 = theta[split:].reshape(labels, hidden_size + 1)
    m = X.shape[0]
    a1 = np.hstack([np.ones((m, 1)), X])
    z2 = a1 @ theta1.T
    a2 = np.hstack([np.ones((m, 1)), sigmoid(z2)])
    h = sigmoid(a2 @ theta2.T)
    target = np.eye(labels)[y]
    J = -np.sum(target * np.log(h) + (1 - target) * np.log(1 - h)) / m
    J += reg / (2 * m) * (np.sum(theta1[:, 1:] ** 2) + np.sum(theta2[:, 1:] ** 2))
    d3 = h - target
    d2 = (d3 @ theta2)[:, 1:] * sigmoid(z2) * (1 - sigmoid(z2))
    grad1, grad2 = d2.T @ a1 / m, d3.T @ a2 / m
    grad1[:, 1:] += reg / m * theta1[:, 1:]
    grad2[:, 1:] += reg / m * theta2[:, 1:]
    return J, np.concatenate([grad1.ravel(), grad2.ravel()])


def cost_function(X, y, theta):
    """Return (J, grad) with the parameters as the last argument."""
    h = sigmoid(X @ theta)
    m = len(y)
    J = -(y @ np.log(h) + (1 - y) @ np.log(1 - h)) / m
    return J, X.T @ (h - y) / m


def logistic(w, X, y):
    """Return (f, g) for `scipy.optimize.minimize(logistic, w0, args=(X, y), jac=True)`."""
    z = X @ w
    f = np.mean(np.log1p(np.exp(z)) - y * z)
    return f, X.T @ (sigmoid(z) - y) / len(y)


def propagate(w, b, X, Y):
    """Return (grads, cost), in this order."""
    m = X.shape[1]
    A = sigmoid(w.T @ X + b)
    cost = -np.sum(Y * np.log(A) + (1 - Y) * np.log(1 - A)) / m
    return {"dw": X @ (A - Y).T / m, "db": np.sum(A - Y) / m}, cost


def model_loss(parameters, X, Y):
    """Return the cost and a dictionary with the gradients of parameters and of intermediate values."""
    m = X.shape[1]
    Z1 = parameters["W1"] @ X + parameters["b1"]
    A1 = np.tanh(Z1)
    A2 = sigmoid(parameters["W2"] @ A1 + parameters["b2"])
    cost = -np.sum(Y * np.log(A2) + (1 - Y) * np.log(1 - A2)) / m
    dZ2 = A2 - Y
    dA1 = parameters["W2"].T @ dZ2 / m
    dZ1 = dA1 * (1 - A1**2)
    grads = {
        "dZ2": dZ2, "dW2": dZ2 @ A1.T / m, "db2": dZ2.sum(axis=1, keepdims=True) / m,
        "dA1": dA1, "dZ1": dZ1, "dW1": dZ1 @ X.T, "db1": dZ1.sum(axis=1, keepdims=True),
    }  # fmt: skip
    return cost, grads
