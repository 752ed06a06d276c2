# ruff: noqa: D102 - PyTorch says what the methods of modules and Functions do
"""Programs of several ranks for the study: right ones, and wrong ones that are modelled on public mistakes."""

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as collectives
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module


def all_reduce(x: Tensor) -> Tensor:
    """Return the sum over the ranks, by PyTorch's differentiable collective."""
    return collectives.all_reduce(torch.tanh(x))


def all_gather(x: Tensor) -> Tensor:
    """Return what all ranks hold, by PyTorch's differentiable collective."""
    return torch.stack(collectives.all_gather(x)).tanh()


def reduce_scatter(x: Tensor) -> Tensor:
    """Return this rank's part of the sum over the ranks."""
    parts = list(torch.sin(x).chunk(dist.get_world_size()))
    return collectives.reduce_scatter(torch.empty_like(parts[0]), parts)


def all_to_all(x: Tensor) -> Tensor:
    """Exchange parts with every other rank, as experts do with tokens; hand-written."""
    return AllToAll.apply(x).tanh()


class AllToAll(torch.autograd.Function):
    """Part i of rank j becomes part j of rank i; so do the cotangents."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        dist.all_to_all_single(y, x.contiguous())
        return y

    @staticmethod
    def backward(_ctx: Any, g: Tensor) -> Tensor:
        return AllToAll.apply(g)


class Gather(torch.autograd.Function):
    """All-gather with its adjoint: every rank returns the cotangents of its own slice, and they are summed."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(_ctx: Any, g: Tensor) -> Tensor:
        g = g.contiguous().clone()
        dist.all_reduce(g)
        return g[dist.get_rank()]


class OwnSliceGather(Gather):
    """The mistake of many contrastive losses: the cotangents that other ranks have for this rank's slice are lost."""

    @staticmethod
    def backward(_ctx: Any, g: Tensor) -> Tensor:
        return g[dist.get_rank()]


def contrastive(x: Tensor, y: Tensor, gather: type[Gather] = Gather) -> Tensor:
    """Return this rank's contrastive loss, against the pairs of all ranks."""
    keys = gather.apply(y).flatten(0, 1)
    labels = torch.arange(len(x)) + dist.get_rank() * len(x)
    return nn.functional.cross_entropy(x @ keys.T, labels)


def contrastive_own_slice(x: Tensor, y: Tensor) -> Tensor:
    """Lose the gradient of this rank's keys in the other ranks' losses."""
    return contrastive(x, y, OwnSliceGather)


def rotate(x: Tensor) -> Tensor:
    """Send a tensor to the next rank, and return the previous rank's."""
    rank, world = dist.get_rank(), dist.get_world_size()
    if world == 1:
        return x
    received = torch.empty_like(x)
    send, receive = dist.isend(x.contiguous(), (rank + 1) % world), dist.irecv(received, (rank - 1) % world)
    send.wait()
    receive.wait()
    return received


class RingAttention(torch.autograd.Function):
    """Attention over the keys and values of all ranks, which travel around a ring (Liu et al. 2023)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores, values, key, value = [], [], k, v
        for _ in range(dist.get_world_size()):
            scores.append(q @ key.mT / q.shape[-1] ** 0.5)
            values.append(value)
            key, value = rotate(key), rotate(value)
        joined = torch.cat(scores, -1)
        out = joined.softmax(-1) @ torch.cat(values, -2)
        ctx.save_for_backward(q, k, v, out, joined.logsumexp(-1, keepdim=True))
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor, stale: bool = False) -> tuple[Tensor, ...]:
        q, k, v, out, normaliser = ctx.saved_tensors
        scale, along = q.shape[-1] ** -0.5, (g * out).sum(-1, keepdim=True)
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for _ in range(dist.get_world_size()):
            p = torch.exp(q @ k.mT * scale - normaliser)
            ds = p * (g @ v.mT - along) * scale
            dq, dk, dv = dq + ds @ k, dk + ds.mT @ q, dv + p.mT @ g
            dk, dv = rotate(dk), rotate(dv)
            if not stale:
                k, v = rotate(k), rotate(v)
        return dq, dk, dv


class StaleRingAttention(RingAttention):
    """The backward keeps the keys and values of its own rank at every step."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        return RingAttention.backward(ctx, g, stale=True)


def ring_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend around the ring."""
    return RingAttention.apply(q, k, v)


def ring_attention_stale(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend around the ring, with a wrong backward."""
    return StaleRingAttention.apply(q, k, v)


class Copy(torch.autograd.Function):
    """Megatron's f: the identity, whose backward sums over the ranks."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_ctx: Any, g: Tensor) -> Tensor:
        g = g.clone()
        dist.all_reduce(g)
        return g


class Reduce(torch.autograd.Function):
    """Megatron's g: a sum over the ranks, whose backward is the identity."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(_ctx: Any, g: Tensor) -> Tensor:
        return g


class ParallelMLP(nn.Module):
    """A column-parallel layer before a row-parallel one, as in Megatron-LM."""

    def __init__(self) -> None:
        super().__init__()
        self.column, self.row = nn.Linear(3, 2), nn.Linear(2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return Reduce.apply(self.row(torch.tanh(self.column(Copy.apply(x)))))


class SummedParallelMLP(ParallelMLP):
    """The row-parallel layer sums again in its backward: N times the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return collectives.all_reduce(self.row(torch.tanh(self.column(Copy.apply(x)))))


class PartialParallelMLP(ParallelMLP):
    """The input of the column-parallel layer keeps this rank's part of its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return Reduce.apply(self.row(torch.tanh(self.column(x))))


def make_mlp() -> nn.Sequential:
    """Make a small network."""
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))


def dtensor_mlp() -> nn.Module:
    """Make the network tensor-parallel by PyTorch's DTensor."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return parallelize_module(make_mlp(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def ddp() -> nn.Module:
    """Make the network data-parallel."""
    return nn.parallel.DistributedDataParallel(make_mlp())


def fsdp() -> nn.Module:
    """Make the network data-parallel, with sharded parameters."""
    model = make_mlp()
    fully_shard(model[0])
    fully_shard(model[2])
    fully_shard(model)
    return model


class HookedMLP(nn.Module):
    """Data parallelism by hand: hooks reduce the gradients."""

    def __init__(self, average: bool = True, last: bool = True) -> None:
        super().__init__()
        self.net = make_mlp()
        for name, parameter in self.net.named_parameters():
            if last or not name.startswith("2"):
                parameter.register_hook(self.average if average else self.sum)

    def sum(self, g: Tensor) -> Tensor:
        g = g.clone()
        dist.all_reduce(g)
        return g

    def average(self, g: Tensor) -> Tensor:
        return self.sum(g) / dist.get_world_size()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def hooked() -> nn.Module:
    """Make the network data-parallel by hand."""
    return HookedMLP()


def hooked_without_average() -> nn.Module:
    """Sum where data parallelism averages."""
    return HookedMLP(average=False)


def hooked_without_last() -> nn.Module:
    """Forget a layer, whose gradient stays that of this rank."""
    return HookedMLP(last=False)
