"""Fused Triton kernels with hand-written backwards: softmax, RMSNorm and cross-entropy, and a planted fault for each.

Without a GPU they run in Triton's interpreter, which has to be chosen before the kernels are made.
"""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import triton
import triton.language as tl


@triton.jit
def read(pointers, n, other, BLOCK: tl.constexpr, KIND: tl.constexpr):
    return tl.load(pointers + tl.arange(0, BLOCK), mask=tl.arange(0, BLOCK) < n, other=other).to(KIND)


@triton.jit
def softmax_forward(x, y, n, BLOCK: tl.constexpr, KIND: tl.constexpr):
    row, at = tl.program_id(0) * n, tl.arange(0, BLOCK)
    values = read(x + row, n, -float("inf"), BLOCK, KIND)
    e = tl.exp(values - tl.max(values, axis=0))
    tl.store(y + row + at, e / tl.sum(e, axis=0), mask=at < n)


@triton.jit
def softmax_backward(y, g, gx, n, BLOCK: tl.constexpr, KIND: tl.constexpr, CENTRED: tl.constexpr):
    row, at = tl.program_id(0) * n, tl.arange(0, BLOCK)
    p = read(y + row, n, 0.0, BLOCK, KIND)
    v = read(g + row, n, 0.0, BLOCK, KIND)
    mean = tl.sum(p * v, axis=0) if CENTRED else 0.0
    tl.store(gx + row + at, p * (v - mean), mask=at < n)


@triton.jit
def rms_forward(x, w, y, scale, n, eps, BLOCK: tl.constexpr, KIND: tl.constexpr):
    row, at = tl.program_id(0) * n, tl.arange(0, BLOCK)
    values = read(x + row, n, 0.0, BLOCK, KIND)
    r = 1 / tl.sqrt(tl.sum(values * values, axis=0) / n + eps)
    tl.store(y + row + at, values * r * read(w, n, 0.0, BLOCK, KIND), mask=at < n)
    tl.store(scale + tl.program_id(0), r)


@triton.jit
def rms_backward(x, w, scale, g, gx, gw, n, BLOCK: tl.constexpr, KIND: tl.constexpr, CENTRED: tl.constexpr):
    row, at = tl.program_id(0) * n, tl.arange(0, BLOCK)
    values = read(x + row, n, 0.0, BLOCK, KIND)
    v = read(g + row, n, 0.0, BLOCK, KIND)
    r = tl.load(scale + tl.program_id(0)).to(KIND)
    u = v * read(w, n, 0.0, BLOCK, KIND)
    along = tl.sum(u * values, axis=0) / n * r * r if CENTRED else 0.0
    tl.store(gx + row + at, r * (u - values * along), mask=at < n)
    tl.store(gw + row + at, v * values * r, mask=at < n)


@triton.jit
def entropy_forward(x, labels, loss, p, n, BLOCK: tl.constexpr, KIND: tl.constexpr):
    row, at = tl.program_id(0) * n, tl.arange(0, BLOCK)
    values = read(x + row, n, -float("inf"), BLOCK, KIND)
    most = tl.max(values, axis=0)
    total = tl.sum(tl.exp(values - most), axis=0)
    label = tl.load(labels + tl.program_id(0))
    tl.store(p + row + at, tl.exp(values - most) / total, mask=at < n)
    tl.store(loss + tl.program_id(0), most + tl.log(total) - tl.load(x + row + label).to(KIND))


@triton.jit
def entropy_backward(p, labels, g, gx, n, BLOCK: tl.constexpr, KIND: tl.constexpr, FIRST: tl.constexpr):
    row, at = tl.program_id(0) * n, tl.arange(0, BLOCK)
    label = tl.load(labels + tl.program_id(0)) + FIRST
    hot = tl.where(at == label, 1.0, 0.0)
    share = read(p + row, n, 0.0, BLOCK, KIND) - hot
    tl.store(gx + row + at, share * tl.load(g + tl.program_id(0)).to(KIND), mask=at < n)


def sizes(x):
    """Return the block size for a whole row, and the type to compute in: float64 for float64, else float32."""
    kind = tl.float64 if x.dtype is torch.float64 else tl.float32
    return {"BLOCK": triton.next_power_of_2(x.shape[1]), "KIND": kind}


def softmax_of(*, centred):
    """Make a softmax of each row of a matrix; if not centred, its backward forgets the sum over the row."""

    class Softmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x = x.contiguous()
            y = torch.empty_like(x)
            if x.numel():
                softmax_forward[(len(x),)](x, y, x.shape[1], **sizes(x))
            ctx.save_for_backward(y)
            return y

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            g, gx = g.contiguous(), torch.empty_like(y)
            if y.numel():
                softmax_backward[(len(y),)](y, g, gx, y.shape[1], **sizes(y), CENTRED=centred)
            return gx

    return Softmax


def rms_norm_of(*, centred):
    """x / sqrt(mean(x²) + eps) w, of each row of a matrix; with the root taken for a constant where it is not centred."""

    class RMSNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            x, w = x.contiguous(), w.contiguous()
            y, scale = torch.empty_like(x), x.new_empty(len(x))
            if x.numel():
                rms_forward[(len(x),)](x, w, y, scale, x.shape[1], 1e-6, **sizes(x))
            ctx.save_for_backward(x, w, scale)
            return y

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            x, w, scale = ctx.saved_tensors
            g, gx, gw = g.contiguous(), torch.empty_like(x), torch.empty_like(x)
            if x.numel():
                rms_backward[(len(x),)](x, w, scale, g, gx, gw, x.shape[1], **sizes(x), CENTRED=centred)
            return gx, gw.sum(0)

    return RMSNorm


def cross_entropy_of(*, first):
    """-log softmax(x)[label], of each row of a matrix; the backward adds `first` to the labels, which count from 0."""

    class CrossEntropy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, labels):
            x = x.contiguous()
            loss, p = x.new_empty(len(x)), torch.empty_like(x)
            if x.numel():
                entropy_forward[(len(x),)](x, labels, loss, p, x.shape[1], **sizes(x))
            ctx.save_for_backward(p, labels)
            return loss

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            p, labels = ctx.saved_tensors
            g, gx = g.contiguous(), torch.empty_like(p)
            if p.numel():
                entropy_backward[(len(p),)](p, labels, g, gx, p.shape[1], **sizes(p), FIRST=first)
            return gx, None

    return CrossEntropy


Softmax, UncentredSoftmax = softmax_of(centred=True), softmax_of(centred=False)
RMSNorm, RMSNormOfConstantScale = rms_norm_of(centred=True), rms_norm_of(centred=False)
CrossEntropy, CrossEntropyFromOne = cross_entropy_of(first=0), cross_entropy_of(first=-1)
