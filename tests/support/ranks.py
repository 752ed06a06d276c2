"""Programs of several ranks of `torch.distributed`, right and wrong."""

import os

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as collectives
from torch import nn


class Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx, g):
        g = g.contiguous().clone()
        dist.all_reduce(g)
        return g[dist.get_rank()]


class OwnSliceGather(Gather):
    @staticmethod
    def backward(ctx, g):
        return g[dist.get_rank()]


def gather(x):
    return Gather.apply(x).tanh().sum(-1)


def gather_own_slice(x):
    return OwnSliceGather.apply(x).tanh().sum(-1)


def reduce(x):
    return collectives.all_reduce(torch.tanh(x).sum())


class SharedScale(nn.Module):
    """A module that every rank returns the same from: the scale and the input are shared, the weight is the rank's own."""

    def __init__(self):
        super().__init__()
        self.scale, self.weight = nn.Parameter(torch.rand(2)), nn.Parameter(torch.rand(2))

    def forward(self, x):
        return Reduce.apply(torch.tanh(Copy.apply(x * self.scale) * self.weight))


class Copy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        g = g.clone()
        dist.all_reduce(g)
        return g


class Reduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g


def ddp():
    return nn.parallel.DistributedDataParallel(nn.Linear(2, 1))


class Summed(nn.Module):
    """Data parallelism by hand that forgets to divide by the number of ranks."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(2))
        self.weight.register_hook(self.sum)

    def sum(self, g):
        g = g.clone()
        dist.all_reduce(g)
        return g

    def forward(self, x):
        return torch.tanh(x * self.weight)


class Unreduced(nn.Module):
    """Data parallelism by hand that forgets to sum over the ranks."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(2))

    def forward(self, x):
        return torch.tanh(x * self.weight)


class ScaledGather(Gather):
    """A gather whose backward scales what other ranks have for this one."""

    @staticmethod
    def backward(ctx, g):
        total = Gather.backward(ctx, g)
        return total + 0.3 * (total - g[dist.get_rank()])


def gather_scaled(x):
    return ScaledGather.apply(x).tanh().sum()


def negative(x):
    return -x


def raises_on_one_rank(x):
    if dist.get_rank() == 1:
        raise ValueError("only here")
    return collectives.all_reduce(x)


def raises_below_one(x):
    """Raise, on one rank alone, as soon as the input moves down."""
    if dist.get_rank() == 1 and x.min() < 1:
        raise ValueError("below one")
    return collectives.all_reduce(x).sqrt()


def dies_on_one_rank(x):
    if dist.get_rank() == 1:
        os._exit(3)
    return collectives.all_reduce(x)


def hangs(x):
    return collectives.all_reduce(x) if dist.get_rank() == 0 else x.clone()


def returns_its_rank(x):
    return torch.tanh(x)[: dist.get_rank() + 1]


def dropout(x):
    return collectives.all_reduce(nn.functional.dropout(x, 0.5))
