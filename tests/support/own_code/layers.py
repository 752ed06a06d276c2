"""Layers as pairs of functions: the forward returns `(out, cache)`, the backward takes `(dout, cache)`."""

import numpy as np


def affine_forward(x, w, b):
    out = x.reshape(x.shape[0], -1) @ w + b
    cache = (x, w, b)
    return out, cache


def affine_backward(dout, cache):
    x, w, _ = cache
    dx = (dout @ w.T).reshape(x.shape)
    dw = x.reshape(x.shape[0], -1).T @ dout
    db = dout.sum(axis=0)
    return dx, dw, db


def relu_forward(x):
    out = np.maximum(0, x)
    return out, x


def relu_backward(dout, cache):
    return dout * (cache > 0)


def conv_forward(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    n, _, height, width = x.shape
    filters, _, hh, ww = w.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows, columns = 1 + (height + 2 * pad - hh) // stride, 1 + (width + 2 * pad - ww) // stride
    out = np.zeros((n, filters, rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = padded[:, :, i * stride : i * stride + hh, j * stride : j * stride + ww]
            out[:, :, i, j] = np.tensordot(window, w, axes=([1, 2, 3], [1, 2, 3])) + b
    return out, (x, w, b, conv_param)


def conv_backward(dout, cache):
    x, w, _, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    _, _, hh, ww = w.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            rows, columns = slice(i * stride, i * stride + hh), slice(j * stride, j * stride + ww)
            dw += np.tensordot(dout[:, :, i, j], padded[:, :, rows, columns], axes=([0], [0]))
            dpadded[:, :, rows, columns] += np.tensordot(dout[:, :, i, j], w, axes=([1], [0]))
    dx = dpadded[:, :, pad : dpadded.shape[2] - pad, pad : dpadded.shape[3] - pad]
    return dx, dw, dout.sum(axis=(0, 2, 3))


def max_pool_forward(x, pool_param):
    height, width, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    rows, columns = 1 + (x.shape[2] - height) // stride, 1 + (x.shape[3] - width) // stride
    out = np.zeros((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            out[:, :, i, j] = x[:, :, i * stride : i * stride + height, j * stride : j * stride + width].max(axis=(2, 3))
    return out, (x, pool_param)


def max_pool_backward(dout, cache):
    x, pool_param = cache
    height, width, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            rows, columns = slice(i * stride, i * stride + height), slice(j * stride, j * stride + width)
            window = x[:, :, rows, columns]
            mask = window == window.max(axis=(2, 3), keepdims=True)
            dx[:, :, rows, columns] += mask * dout[:, :, i, j][:, :, None, None]
    return dx


def batchnorm_forward(x, gamma, beta, bn_param):
    mode, eps, momentum = bn_param["mode"], bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
    running_mean = bn_param.get("running_mean", np.zeros(x.shape[1]))
    running_var = bn_param.get("running_var", np.zeros(x.shape[1]))
    if mode == "train":
        mean, var = x.mean(axis=0), x.var(axis=0)
        std = np.sqrt(var + eps)
        normalised = (x - mean) / std
        running_mean = momentum * running_mean + (1 - momentum) * mean
        running_var = momentum * running_var + (1 - momentum) * var
        cache = (normalised, std, gamma)
    else:
        normalised = (x - running_mean) / np.sqrt(running_var + eps)
        cache = None
    bn_param["running_mean"] = running_mean
    bn_param["running_var"] = running_var
    return gamma * normalised + beta, cache


def batchnorm_backward(dout, cache):
    normalised, std, gamma = cache
    dgamma, dbeta = (dout * normalised).sum(axis=0), dout.sum(axis=0)
    dnormalised = dout * gamma
    dx = (dnormalised - dnormalised.mean(axis=0) - normalised * (dnormalised * normalised).mean(axis=0)) / std
    return dx, dgamma, dbeta


def layernorm_forward(x, gamma, beta, ln_param):
    mean, std = x.mean(axis=1, keepdims=True), np.sqrt(x.var(axis=1, keepdims=True) + ln_param.get("eps", 1e-5))
    normalised = (x - mean) / std
    return gamma * normalised + beta, (normalised, std, gamma)


def layernorm_backward(dout, cache):
    normalised, std, gamma = cache
    d = dout * gamma
    dx = (d - d.mean(axis=1, keepdims=True) - normalised * (d * normalised).mean(axis=1, keepdims=True)) / std
    return dx, (dout * normalised).sum(axis=0), dout.sum(axis=0)


def dropout_forward(x, dropout_param):
    p, mode = dropout_param["p"], dropout_param["mode"]
    mask = (np.random.rand(*x.shape) < p) / p if mode == "train" else None
    out = x * mask if mode == "train" else x
    return out, (dropout_param, mask)


def dropout_backward(dout, cache):
    dropout_param, mask = cache
    return dout * mask if dropout_param["mode"] == "train" else dout


def softmax_loss(x, y):
    shifted = x - x.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    n = x.shape[0]
    loss = -log_probs[np.arange(n), y].sum() / n
    dx = np.exp(log_probs)
    dx[np.arange(n), y] -= 1
    return loss, dx / n


def rnn_step_forward(x, prev_h, Wx, Wh, b):
    next_h = np.tanh(x @ Wx + prev_h @ Wh + b)
    return next_h, (x, prev_h, Wx, Wh, next_h)


def rnn_step_backward(dnext_h, cache):
    x, prev_h, Wx, Wh, next_h = cache
    da = dnext_h * (1 - next_h**2)
    return da @ Wx.T, da @ Wh.T, x.T @ da, prev_h.T @ da, da.sum(axis=0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    size = prev_h.shape[1]
    a = x @ Wx + prev_h @ Wh + b
    i, f, o = (sigmoid(a[:, k * size : (k + 1) * size]) for k in range(3))
    g = np.tanh(a[:, 3 * size :])
    next_c = f * prev_c + i * g
    next_h = o * np.tanh(next_c)
    return next_h, next_c, (x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c)


def lstm_step_backward(dnext_h, dnext_c, cache):
    x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c = cache
    squashed = np.tanh(next_c)
    dc = dnext_c + dnext_h * o * (1 - squashed**2)
    di, df, do, dg = dc * g, dc * prev_c, dnext_h * squashed, dc * i
    da = np.hstack([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)])
    return da @ Wx.T, da @ Wh.T, dc * f, x.T @ da, prev_h.T @ da, da.sum(axis=0)


def lstm_forward(x, h0, Wx, Wh, b):
    h, c, caches, out = h0, np.zeros_like(h0), [], []
    for t in range(x.shape[1]):
        h, c, cache = lstm_step_forward(x[:, t], h, c, Wx, Wh, b)
        caches.append(cache)
        out.append(h)
    return np.stack(out, axis=1), caches


def lstm_backward(dh, cache):
    x, prev_h, _, Wx, Wh = cache[0][:5]
    dx = np.zeros((*dh.shape[:2], x.shape[1]))
    dprev_h, dprev_c = np.zeros_like(prev_h), np.zeros_like(prev_h)
    dWx, dWh, db = np.zeros_like(Wx), np.zeros_like(Wh), np.zeros(Wx.shape[1])
    for t in reversed(range(dh.shape[1])):
        dx[:, t], dprev_h, dprev_c, gx, gh, gb = lstm_step_backward(dh[:, t] + dprev_h, dprev_c, cache[t])
        dWx, dWh, db = dWx + gx, dWh + gh, db + gb
    return dx, dprev_h, dWx, dWh, db
