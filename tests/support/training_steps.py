"""Training steps: right ones, and for each law faults modelled on public ones. Each function returns the pieces of a step."""

import random

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

IGNORED = -100


class Block(nn.Module):
    def __init__(self, width=8, *, fault=""):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout, self.fault, self.calls, self.cache = nn.Dropout(0.1), fault, 0, None

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        if self.fault == "leak":
            k = k - k.mean(0)  # over the batch
        if self.fault == "view":
            v = v.reshape(-1, *v.shape[:1], v.shape[2]).transpose(0, 1)  # mixes samples and positions
        attended = self.out(functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        if self.fault == "detach":
            attended = attended.detach()
        if self.fault == "first":
            attended = attended + x[0]  # that of the first sample, for all
        if self.fault == "kept-cast":
            if torch.is_autocast_enabled("cpu"):
                self.cache = self.out.weight.bfloat16() if self.cache is None else self.cache
            attended = attended + functional.linear(attended, self.out.weight if self.cache is None else self.cache)
        if self.fault == "counter":
            self.calls += 1
            attended = attended * self.calls
        if self.fault == "generator":
            attended = attended * (1 + random.random())
        if self.fault == "in-place":
            x.data.mul_(2.0)
        x = x + self.dropout(attended)
        return x + self.mlp(x)


class GPT(nn.Module):
    """A tiny GPT with tied weights."""

    def __init__(self, fault="", *, width=8, words=16, length=6, layers=2):
        super().__init__()
        self.token, self.position = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, fault=fault if i == layers - 1 else "") for i in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.head.weight = self.token.weight
        self.fault = fault
        if fault == "not-called":
            self.adapter = nn.Linear(width, width)

    def forward(self, ids):
        x = self.token(ids) + self.position.weight[: ids.shape[1]]
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=True) if self.fault == "reentrant" else block(x)
        return self.head(self.norm(x))


def token_loss(model, batch):
    return functional.cross_entropy(model(batch["ids"]).flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED)


def by_tokens(model, loss, batches):
    total = sum(int((b["labels"] != IGNORED).sum()) for b in batches)
    for b in batches:
        (loss(model, b) * (int((b["labels"] != IGNORED).sum()) / total)).backward()


def by_parts(model, loss, batches):
    for b in batches:
        (loss(model, b) / len(batches)).backward()


def by_samples(model, loss, batches):
    total = sum(len(b["ids"]) for b in batches)
    for b in batches:
        (loss(model, b) * len(b["ids"]) / total).backward()


def without_division(model, loss, batches):
    total = sum(int((b["labels"] != IGNORED).sum()) for b in batches)
    for b in batches:
        (loss(model, b) * (int((b["labels"] != IGNORED).sum()) / total) * len(batches)).backward()


def last_part_only(model, loss, batches):
    for b in batches:
        model.zero_grad()
        loss(model, b).backward()


def gpt(seed=0, fault="", **pieces):
    torch.manual_seed(seed)
    model, ids = GPT(fault), torch.randint(0, 16, (5, 7))
    batch = {"ids": ids[:, :-1], "labels": ids[:, 1:].contiguous()}
    return {"model": model, "loss": token_loss, "batch": batch, "optimizer": torch.optim.AdamW, **pieces}


class LoRA(nn.Module):
    def __init__(self, linear, rank=2):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(rank, linear.in_features) / rank)
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + x @ self.lora_A.T @ self.lora_B.T


def lora(seed=0, fault=""):
    pieces = gpt(seed, fault)
    model = pieces["model"].requires_grad_(False)
    for block in model.blocks:
        block.qkv = LoRA(block.qkv)
    return pieces


def supervised(seed, model, *shape, optimizer=torch.optim.Adam):
    generator = torch.Generator().manual_seed(seed)
    batch = {"x": torch.randn(6, *shape, generator=generator), "y": torch.randint(0, 3, (6,), generator=generator)}
    return {
        "model": model,
        "loss": lambda m, b: functional.cross_entropy(m(b["x"]), b["y"]),
        "batch": batch,
        "optimizer": optimizer,
    }


def conv_net(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    return supervised(seed, model, 2, 6, 6, optimizer=lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def lstm(seed=0):
    torch.manual_seed(seed)
    return supervised(seed, Recurrent(), 5, 4)


def mlp(seed=0, optimizer=torch.optim.Adam, **pieces):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))
    return {**supervised(seed, model, 4, optimizer=optimizer), **pieces}


def lbfgs(seed=0):
    return mlp(seed, lambda p: torch.optim.LBFGS(p, max_iter=3))


def diffusion(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.SiLU(), nn.Linear(8, 4))

    def loss(m, b):
        noisy = b["t"].cos() * b["x"] + b["t"].sin() * b["noise"]
        return functional.mse_loss(m(torch.cat([noisy, b["t"]], 1)), b["noise"])

    batch = {"x": torch.randn(6, 4), "noise": torch.randn(6, 4), "t": torch.rand(6, 1)}
    return {"model": model, "loss": loss, "batch": batch, "optimizer": torch.optim.Adam}


def contrastive(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))

    def loss(m, b):
        similarity = functional.normalize(m(b["a"]), dim=1) @ functional.normalize(m(b["b"]), dim=1).T
        return functional.cross_entropy(similarity / 0.5, torch.arange(len(b["a"])))

    return {"model": model, "loss": loss, "batch": {"a": torch.randn(6, 4), "b": torch.randn(6, 4)}}


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.router, self.experts, self.head = (
            nn.Linear(4, 3),
            nn.ModuleList(nn.Linear(4, 4) for _ in range(3)),
            nn.Linear(4, 3),
        )

    def forward(self, x):
        weights, chosen = self.router(x).softmax(-1).topk(2, dim=-1)
        mixed = torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            rows, slots = (chosen == k).nonzero(as_tuple=True)
            mixed = mixed.index_add(0, rows, weights[rows, slots, None] * torch.tanh(expert(x[rows])))
        return self.head(x + mixed)


def moe(seed=0):
    torch.manual_seed(seed)
    return supervised(seed, Experts(), 4)


class HardExperts(nn.Module):
    """Experts of which each sample takes one; many samples are close to two."""

    def __init__(self, fault=""):
        super().__init__()
        self.first, self.router, self.head = nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(4))
        self.fault, self.cache = fault, None

    def forward(self, x):
        h = torch.tanh(self.first(x))
        weight, chosen = self.router(h).softmax(-1).max(-1, keepdim=True)
        mixed = sum(expert(h) * (chosen == k) * weight for k, expert in enumerate(self.experts))
        if not self.fault:
            return self.head(h + mixed)
        if torch.is_autocast_enabled("cpu"):
            self.cache = self.head.weight.detach().bfloat16()  # without its gradient
        return functional.linear(h + mixed, self.head.weight if self.cache is None else self.cache)


def hard_experts(seed=0, fault="", size=96):
    torch.manual_seed(seed)
    model = HardExperts(fault)
    for bias in (model.first.bias, model.router.bias):
        nn.init.zeros_(bias)
    nn.init.orthogonal_(model.router.weight, 0.1)  # so that every expert is taken by some samples
    return {**supervised(seed, model, 4), "batch": {"x": torch.randn(size, 4), "y": torch.arange(size) % 3}}


class Adversaries(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.critic = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def critic_loss(model, batch):
    fake = model.generator(batch["z"]).detach()
    return functional.softplus(-model.critic(batch["x"])).mean() + functional.softplus(model.critic(fake)).mean()


def adversarial_step(model, batch, optimizers):
    for optimizer, sign in zip(optimizers, (1, -1), strict=True):
        optimizer.zero_grad()
        loss = critic_loss(model, batch) if sign > 0 else -model.critic(model.generator(batch["z"])).mean()
        loss.backward()
        optimizer.step()


def critic(seed=0, *, both=False):
    """The step of a GAN's critic beside a frozen generator, or that of critic and generator with an optimiser each."""
    torch.manual_seed(seed)
    model = Adversaries()
    optimizers = [torch.optim.Adam(part.parameters()) for part in (model.critic, model.generator)]
    model.generator.requires_grad_(both)
    pieces = {"model": model, "loss": critic_loss, "batch": {"x": torch.randn(6, 4), "z": torch.randn(6, 3)}}
    return (
        {**pieces, "optimizer": optimizers, "training_step": adversarial_step}
        if both
        else {**pieces, "optimizer": optimizers[0]}
    )


def clipped_by_value(model, batch, optimizer, scaler):
    optimizer.zero_grad()
    scaler.scale(functional.cross_entropy(model(batch["x"]).float(), batch["y"])).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_value_(model.parameters(), 0.01)
    scaler.step(optimizer)
    scaler.update()


def clipped_by_parameter(model, batch, optimizer):
    optimizer.zero_grad()
    functional.cross_entropy(model(batch["x"]), batch["y"]).backward()
    for parameter in model.parameters():
        nn.utils.clip_grad_norm_(parameter, 0.02)
    optimizer.step()


def clipped_by_value_before_unscaling(model, batch, optimizer, scaler):
    optimizer.zero_grad()
    scaler.scale(functional.cross_entropy(model(batch["x"]), batch["y"])).backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.01)
    scaler.step(optimizer)
    scaler.update()


def scaled_by_hand(model, batch, optimizer):
    optimizer.zero_grad()
    (1024 * functional.cross_entropy(model(batch["x"]), batch["y"])).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    for parameter in model.parameters():
        parameter.grad /= 1024
    optimizer.step()


def clipped(model, batch, optimizer, scaler):
    optimizer.zero_grad()
    scaler.scale(10 * functional.cross_entropy(model(batch["x"]), batch["y"])).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    scaler.step(optimizer)
    scaler.update()


def clipped_before_unscaling(model, batch, optimizer, scaler):
    optimizer.zero_grad()
    scaler.scale(functional.cross_entropy(model(batch["x"]), batch["y"])).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    scaler.step(optimizer)
    scaler.update()


def scaled_twice(model, batch, optimizer, scaler):
    optimizer.zero_grad()
    scaler.scale(scaler.scale(functional.cross_entropy(model(batch["x"]), batch["y"]))).backward()
    scaler.step(optimizer)
    scaler.update()


def clipped_in_part(model, batch, optimizer):
    optimizer.zero_grad()
    functional.cross_entropy(model(batch["x"]), batch["y"]).backward()
    nn.utils.clip_grad_norm_(model[0].parameters(), 0.1)
    optimizer.step()


class Ignoring(torch.autograd.Function):
    """A loss whose backward ignores the gradient that it receives."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x**2).mean()

    @staticmethod
    def backward(ctx, _grad):
        (x,) = ctx.saved_tensors
        return 2 * x / x.numel()


class HalfGradient(torch.autograd.Function):
    """A product whose backward forgets a factor."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


class Stateful(nn.Module):
    """A model with a state that no `state_dict` holds."""

    def __init__(self, kind):
        super().__init__()
        self.inner, self.kind, self.average = nn.Linear(4, 3), kind, torch.zeros(3)
        self.register_buffer("running", torch.zeros(3), persistent=False)
        self.count = 0

    def forward(self, x):
        y = self.inner(x)
        if self.kind == "buffer":
            self.running = (0.9 * self.running + 0.1 * y.detach().mean(0)).detach()
            return y + self.running
        if self.kind == "attribute":
            self.average = 0.9 * self.average.to(y) + 0.1 * y.detach().mean(0)
            return y * (1 + self.average)
        self.count += 1
        return y * (1 + 0.1 * self.count)


class Rescaled(nn.Module):
    """A model that computes with bfloat16 where a plain implementation would not, by the kind of fault."""

    def __init__(self, kind):
        super().__init__()
        self.inner, self.kind = nn.Linear(4, 3), kind

    def forward(self, x):
        y = self.inner(x)
        is_low = y.dtype is torch.bfloat16
        if self.kind == "positions" and is_low:
            return y * torch.cos(torch.arange(300, 303).to(y.dtype) * 0.7)
        if self.kind == "positions":
            return y * torch.cos(torch.arange(300, 303).to(x.dtype) * 0.7).to(y.dtype)
        if self.kind == "sum":
            total = y.new_zeros(())
            for _ in range(400):
                total = total + y.pow(2).mean() / 400
            return y * total
        return (y + 100) - 100 if is_low else y


class Branching(nn.Module):
    """A model with a faster branch for torch.compile, which is not the same."""

    def __init__(self, compiled):
        super().__init__()
        self.first, self.last, self.compiled = nn.Linear(4, 4), nn.Linear(4, 3), compiled

    def forward(self, x):
        y = torch.tanh(self.first(x))
        return self.last(self.compiled(y) if torch.compiler.is_compiling() else y)


def stateful(kind):
    torch.manual_seed(0)
    return supervised(0, Stateful(kind), 4)


def with_loss(loss, **pieces):
    return {**mlp(0), "loss": loss, **pieces}


def missing_from_optimizer(seed=0):
    return mlp(seed, lambda params: torch.optim.Adam(list(params)[:-1]))


def frozen_that_moves():
    pieces = mlp(0)
    pieces["model"][0].weight.requires_grad_(False)

    class Decaying(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data.mul_(0.99)
            return super().step(closure)

    return {**pieces, "optimizer": lambda p: Decaying(p, 0.1)}


RIGHT = {
    "tiny GPT, tied weights": lambda s: gpt(s, accumulate=by_tokens),
    "LoRA": lora,
    "conv net with batch norm": conv_net,
    "LSTM": lstm,
    "diffusion loss": diffusion,
    "contrastive loss": contrastive,
    "MoE router": moe,
    "MoE router, close choices": hard_experts,
    "GAN critic": critic,
    "GAN, two optimisers": lambda s: critic(s, both=True),
    "LBFGS": lbfgs,
    "clipping after unscaling": lambda s: mlp(s, training_step=clipped),
    "clipping by value": lambda s: mlp(s, training_step=clipped_by_value),
    "clipping each parameter": lambda s: mlp(s, training_step=clipped_by_parameter),
    "GPT with its own checkpointing": lambda s: gpt(s, "reentrant"),
}
FAULTS = {
    "micro-batches": {
        "unequal parts averaged": lambda: gpt(accumulate=by_parts),
        "weighted by samples, not labels": lambda: gpt(accumulate=by_samples),
        "factor of the number of parts": lambda: gpt(accumulate=without_division),
        "zero_grad inside the loop": lambda: gpt(accumulate=last_part_only),
    },
    "receives": {
        "detach in the middle": lambda: gpt(fault="detach"),
        "adapter never called": lambda: gpt(fault="not-called"),
        "LoRA under reentrant checkpointing": lambda: lora(fault="reentrant"),
        "missing from the optimiser": missing_from_optimizer,
        "frozen that moves": frozen_that_moves,
    },
    "permuted": {
        "view() for transpose()": lambda: gpt(fault="view"),
        "first sample for all": lambda: gpt(fault="first"),
        "labels of the next sample": lambda: with_loss(
            lambda m, b: (m(b["x"])[:-1] * functional.one_hot(b["y"][1:], 3)).mean()
        ),
    },
    "per-sample": {
        "mean over axis 0": lambda: gpt(fault="leak"),
        "view() for transpose()": lambda: gpt(fault="view"),
        "first sample for all": lambda: gpt(fault="first"),
    },
    "scaling": {
        "clipped before unscaling": lambda: mlp(training_step=clipped_before_unscaling),
        "clipped by value before unscaling": lambda: mlp(training_step=clipped_by_value_before_unscaling),
        "clipped while scaled by hand": lambda: mlp(training_step=scaled_by_hand),
        "scaled twice": lambda: mlp(training_step=scaled_twice),
        "part of the model clipped": lambda: mlp(training_step=clipped_in_part),
        "backward ignores its gradient": lambda: with_loss(lambda m, b: Ignoring.apply(m(b["x"]))),
    },
    "directional": {
        "detach in the middle": lambda: gpt(fault="detach"),
        "factor missing in a backward": lambda: with_loss(lambda m, b: HalfGradient.apply(m(b["x"])).mean()),
        "optimiser goes uphill": lambda: mlp(0, lambda p: torch.optim.SGD(p, 0.1, maximize=True)),
    },
    "resumed": {
        "buffer with persistent=False": lambda: stateful("buffer"),
        "moving average as attribute": lambda: stateful("attribute"),
        "counter of steps as attribute": lambda: stateful("counter"),
    },
    "checkpointed": {
        "counter in the forward": lambda: gpt(fault="counter"),
        "Python's random numbers": lambda: gpt(fault="generator"),
        "input changed in place": lambda: gpt(fault="in-place"),
    },
    "autocast": {
        "positions in bfloat16": lambda: supervised(0, Rescaled("positions"), 4),
        "large offset in bfloat16": lambda: supervised(0, Rescaled("offset"), 4),
        "cast kept from before training": lambda: gpt(fault="kept-cast"),
        "cast without gradient behind a router": lambda: hard_experts(fault="cache"),
    },
    "compiled": {
        "detached under compilation": lambda: supervised(0, Branching(lambda y: y.detach()), 4),
        "factor under compilation": lambda: supervised(0, Branching(lambda y: 1.1 * y), 4),
        "another activation under compilation": lambda: supervised(0, Branching(lambda y: y.relu()), 4),
    },
}
