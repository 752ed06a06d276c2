"""Cases of the study of modules: parts of torch.nn that PyTorch's databases do not cover, and networks with many kinks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import product

import torch
from package_cases import Case, normal
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune, rnn

Tensor = torch.Tensor
SEEDS = 10


class Tied(nn.Module):
    """An embedding that shares its weight with the last layer, whose bias is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.last = nn.Embedding(5, 3), nn.Linear(3, 5)
        self.last.weight = self.embed.weight
        self.last.bias.requires_grad_(False)

    def forward(self, words: Tensor) -> Tensor:
        """Compute the scores of the next word."""
        return torch.log_softmax(self.last(self.embed(words).tanh()), -1)


class Packed(nn.Module):
    """A recurrent layer on sequences of different lengths."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Compute the padded outputs."""
        packed = rnn.pack_padded_sequence(x, torch.tensor([4, 2]), batch_first=True)
        return rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]


class Residual(nn.Module):
    """A small residual network with batch normalisation and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.second, self.norm2 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Compute two scores for each picture."""
        x = functional.relu(self.norm1(self.first(x)))
        x = functional.relu(x + self.norm2(self.second(x)))
        return self.last(functional.max_pool2d(x, 2).mean((2, 3)))


def make_spectral_norm(layer: nn.Module) -> nn.Module:
    """Add a spectral norm that no longer iterates to a layer."""
    return parametrizations.spectral_norm(layer).eval()


def make_other_cases() -> Iterator[Case]:
    """Yield parametrisations, tied and frozen parameters, torch.nn.utils, and functions without a sample elsewhere."""
    x, y = normal(3, 4), normal(3, 4)
    for name, layer in {
        "weight_norm": parametrizations.weight_norm(nn.Linear(4, 3)),
        "spectral_norm": make_spectral_norm(nn.Linear(4, 3)),
        "orthogonal": parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="matrix_exp"),
        "orthogonal cayley": parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="cayley"),
        "orthogonal householder": parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="householder"),
        "prune": prune.l1_unstructured(nn.Linear(4, 3), "weight", 5),
        "Bilinear of itself": nn.Sequential(nn.Linear(4, 3), nn.Softplus(), nn.Linear(3, 2), nn.LogSigmoid()),
        "MultiheadAttention in a layer": nn.TransformerEncoderLayer(4, 2, 5, 0.0, activation="gelu", norm_first=True),
        "TransformerEncoder": nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 5, 0.0), 2, enable_nested_tensor=False),
        "RNNCell": nn.RNNCell(4, 3),
        "GRUCell": nn.GRUCell(4, 3),
        "LSTMCell": nn.LSTMCell(4, 3),
        "fuse_conv_bn": nn.utils.fusion.fuse_linear_bn_eval(nn.Linear(4, 3).eval(), nn.BatchNorm1d(3).eval()),
    }.items():
        yield Case(name, layer.double(), (x,))
    shared = nn.Linear(4, 4)
    yield Case("one layer twice", nn.Sequential(shared, nn.Tanh(), shared).double(), (x,))
    partly_frozen = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    partly_frozen[0].requires_grad_(False)
    yield Case("frozen layer", partly_frozen, (x,))
    yield Case("tied and frozen", Tied().double(), (torch.tensor([[0, 2, 1], [4, 4, 3]]),))
    for layer in (nn.LSTM(3, 2, batch_first=True), nn.GRU(3, 2, 2, batch_first=True, bidirectional=True)):
        yield Case(f"packed {type(layer).__name__}", Packed(layer).double(), (normal(2, 4, 3),))
    doubled = nn.Linear(4, 3).double()
    parametrize.register_parametrization(doubled, "weight", Symmetric())
    yield Case("parametrised by hand", doubled, (x,))
    yield Case(
        "AdaptiveLogSoftmax", nn.AdaptiveLogSoftmaxWithLoss(4, 6, [2, 4], div_value=1.0).double(), (x, torch.tensor([0, 3, 5]))
    )
    yield Case("clip_grad_norm", lambda a: a * torch.clamp(1.0 / (nn.utils.get_total_norm([a]) + 1e-6), max=1.0), (x,))
    yield Case("parameters_to_vector", lambda a, b: nn.utils.parameters_to_vector([a, b]).cos(), (x, y))
    yield Case(
        "stateless",
        lambda w, b: torch.func.functional_call(nn.Linear(4, 3).double(), {"weight": w, "bias": b}, (x,)),
        (normal(3, 4), normal(3)),
    )
    queries = normal(1, 2, 3, 4)
    yield Case(
        "scaled_dot_product_attention, causal",
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        (queries, normal(1, 2, 3, 4), normal(1, 2, 3, 4)),
    )
    for mode in ("bilinear", "bicubic", "nearest"):
        for padding in ("zeros", "border", "reflection"):
            yield Case(
                f"grid_sample {mode} {padding}",
                lambda a, g, m=mode, p=padding: functional.grid_sample(a, g, m, p, align_corners=False),
                (normal(1, 1, 4, 4), normal(1, 3, 2, 2)),
            )
    yield Case("affine_grid", lambda t: functional.affine_grid(t, [1, 1, 3, 3], align_corners=True), (normal(1, 2, 3),))
    yield Case("gumbel_softmax", lambda a: functional.gumbel_softmax(a, 0.7), (x,))
    yield Case("fold and unfold", lambda a: functional.fold(functional.unfold(a, 2).sin(), (4, 4), 2), (normal(1, 2, 4, 4),))
    yield Case("triplet_margin_with_distance", nn.TripletMarginWithDistanceLoss(margin=3.0), (x, y, normal(3, 4)))
    yield Case("lp_pool with negative numbers", lambda a: functional.lp_pool2d(a, 2.0, 2), (normal(1, 1, 4, 4),))
    yield Case(
        "ctc_loss of what is no log_softmax",
        lambda a: functional.ctc_loss(a, torch.tensor([[1, 2], [3, 3]]), (5, 4), (2, 2)),
        (normal(5, 2, 4),),
    )
    for reduction, zero in product(("mean", "sum", "none"), (False, True)):
        scores = torch.log_softmax(normal(5, 2, 4), -1)
        yield Case(
            f"ctc_loss {reduction}, of log_softmax",
            lambda a, r=reduction, z=zero: functional.ctc_loss(
                a.log_softmax(-1), torch.tensor([[1, 2], [3, 3]]), (5, 4), (2, 2), reduction=r, zero_infinity=z
            ),
            (scores,),
        )


class Symmetric(nn.Module):
    """A custom parametrisation, which scales each row of a weight by its norm."""

    def forward(self, w: Tensor) -> Tensor:
        """Compute the weight."""
        return w * w.norm(dim=1, keepdim=True)


def make_perceptron(activation: type[nn.Module]) -> nn.Module:
    """Make a perceptron of three layers with kinks."""
    return nn.Sequential(nn.Linear(5, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 2))


def make_kink_cases() -> Iterator[Case]:
    """Yield networks with many kinks, in both modes and dtypes."""
    networks = {
        "ReLU": lambda: (make_perceptron(nn.ReLU), (6, 5)),
        "LeakyReLU": lambda: (make_perceptron(nn.LeakyReLU), (6, 5)),
        "Hardtanh": lambda: (make_perceptron(nn.Hardtanh), (6, 5)),
        "max pooling": lambda: (
            nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 2)),
            (3, 1, 6, 6),
        ),
        "residual": lambda: (Residual(), (3, 1, 4, 4)),
    }
    for (name, build), seed in product(networks.items(), range(SEEDS)):
        torch.manual_seed(seed)
        network, shape = build()
        x = torch.randn(shape)
        for dtype, mode in product((torch.float64, torch.float32), ("full", "probe")):
            network_copy = copy.deepcopy(network).to(dtype)
            yield Case(f"{name} {str(dtype)[6:]} {mode} {seed}", network_copy, (x.to(dtype),), options={"mode": mode})
