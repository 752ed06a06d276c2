"""Cases of the study of modules from third-party packages: functions with hand-written derivatives that run on a CPU.

Each generator has the name of the package, by which the study lists its cases.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Tensor = torch.Tensor


@dataclass(frozen=True)
class Case:
    """One function or module on small inputs.

    Attributes:
        options: further arguments of `gradcheck.check`.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw standard normal numbers; the study seeds the generator anew for every package."""
    return torch.randn(*shape, dtype=dtype)


def positive(*shape: int) -> Tensor:
    """Draw numbers between 0.5 and 1.5."""
    return 0.5 + torch.rand(shape, dtype=torch.float64)


def classes(rows: int, count: int) -> Tensor:
    """Draw a label for each row."""
    return torch.randint(count, (rows,))


def spd(n: int) -> Tensor:
    """Draw a symmetric positive definite matrix."""
    a = normal(n, n)
    return a @ a.T + n * torch.eye(n, dtype=torch.float64)


def entmax() -> Iterator[Case]:
    """Yield sparse softmaxes with hand-written gradients, some of which differentiate the solution of a bisection."""
    import entmax as package

    for name in ("sparsemax", "entmax15", "sparsemax_bisect", "entmax_bisect", "normmax_bisect", "budget_bisect"):
        f = getattr(package, name)
        yield Case(name, f, (normal(3, 5),))
        yield Case(f"{name} dim=0", f, (normal(3, 5),), {"dim": 0})
    yield Case("entmax_bisect, alpha", lambda x, alpha: package.entmax_bisect(x, alpha), (normal(3, 5), 1 + positive(3, 1)))
    for name in ("sparsemax_loss", "entmax15_loss", "sparsemax_bisect_loss", "entmax_bisect_loss", "normmax_bisect_loss"):
        yield Case(name, getattr(package, name), (normal(3, 5), classes(3, 5)))


def sparsemax() -> Iterator[Case]:
    """Yield the original sparsemax."""
    from sparsemax import Sparsemax

    yield Case("Sparsemax", Sparsemax(dim=-1), (normal(3, 5),))
    yield Case("Sparsemax dim=0", Sparsemax(dim=0), (normal(3, 5),))


class Field(torch.nn.Module):
    """The right-hand side of a differential equation."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """Compute dy/dt."""
        return self.net(y) * torch.cos(t)


class Solved(torch.nn.Module):
    """The solution of a differential equation, as a module of its initial state."""

    def __init__(self, solve: Callable[..., Tensor], field: torch.nn.Module) -> None:
        super().__init__()
        self.solve, self.field = solve, field

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        """Compute the states at some times."""
        return self.solve(self.field, y, t)


def torchdiffeq() -> Iterator[Case]:
    """Yield solvers of differential equations; the adjoint ones give the gradient of the exact solution, not of the steps."""
    from torchdiffeq import odeint, odeint_adjoint, odeint_event

    times = torch.linspace(0, 1, 3, dtype=torch.float64)
    for name, solve in (("odeint", odeint), ("odeint_adjoint", odeint_adjoint)):
        for method in ("dopri5", "rk4"):
            chosen = functools.partial(solve, method=method)
            yield Case(f"{name} {method}", Solved(chosen, Field()), (normal(1, 2), times), options={"wrt": "y"})

    def fallen(height: Tensor, speed: Tensor) -> Tensor:
        state = torch.stack([height, speed])
        start = torch.zeros((), dtype=torch.float64)
        time, _ = odeint_event(
            lambda t, y: torch.stack([y[1], -torch.ones_like(y[1])]),
            state,
            start,
            event_fn=lambda t, y: y[0],
            atol=1e-10,
            rtol=1e-10,
        )
        return time

    yield Case("odeint_event, rtol=1e-6", fallen, (positive(), positive()), options={"rtol": 1e-6})


class Diffusion(torch.nn.Module):
    """A stochastic differential equation."""

    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self) -> None:
        super().__init__()
        self.drift, self.spread = torch.nn.Linear(2, 2).double(), torch.nn.Linear(2, 2).double()

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        """Compute the drift."""
        return torch.tanh(self.drift(y))

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        """Compute the diffusion."""
        return 0.3 * torch.sigmoid(self.spread(y))


def torchsde() -> Iterator[Case]:
    """Yield stochastic differential equations along a path that is drawn once."""
    import torchsde as package

    times = torch.linspace(0, 0.3, 3, dtype=torch.float64)
    path = package.BrownianInterval(t0=0.0, t1=0.3, size=(2, 2), dtype=torch.float64, entropy=1)
    solve = functools.partial(package.sdeint, bm=path, dt=0.1, method="midpoint")
    yield Case("sdeint", Solved(solve, Diffusion()), (normal(2, 2), times), options={"wrt": "y"})
    adjoint = functools.partial(
        package.sdeint_adjoint, bm=path, dt=0.1, method="reversible_heun", adjoint_method="adjoint_reversible_heun"
    )
    yield Case("sdeint_adjoint reversible_heun", Solved(adjoint, Diffusion()), (normal(2, 2), times), options={"wrt": "y"})


def gpytorch() -> Iterator[Case]:
    """Yield parts of Gaussian processes: covariances, the normal distribution function, variational families."""
    from gpytorch.functions import MaternCovariance, RBFCovariance, log_normal_cdf
    from gpytorch.kernels.kernel import dist
    from gpytorch.variational import large_batch_variational_strategy as large
    from gpytorch.variational import natural_variational_distribution as natural
    from gpytorch.variational import tril_natural_variational_distribution as triangular

    x, y = normal(4, 2), normal(3, 2)
    for nu in (0.5, 1.5, 2.5):
        yield Case(
            f"MaternCovariance {nu}", lambda scale, nu=nu: MaternCovariance.apply(x, y, scale, nu, dist), (positive(1, 1),)
        )
    squared = lambda a, b: dist(a, b) ** 2  # noqa: E731 - as the kernel passes it
    yield Case("RBFCovariance", lambda scale: RBFCovariance.apply(x, y, scale, squared), (positive(1, 1),))
    yield Case("log_normal_cdf", log_normal_cdf, (torch.linspace(-3.2, 3.1, 10, dtype=torch.float64),))
    yield Case("log_normal_cdf below -10", log_normal_cdf, (torch.tensor([-12.3, -20.1, -31.7], dtype=torch.float64),))
    yield Case("log_normal_cdf beside 0", log_normal_cdf, (torch.tensor([-0.15, -0.1, 0.1, 0.15], dtype=torch.float64),))
    yield Case("QuadFormDiagonal", large.QuadFormDiagonal.apply, (spd(3), normal(3, 4)))
    yield Case("QuadFormDiagonal, not symmetric", large.QuadFormDiagonal.apply, (normal(3, 3), normal(3, 4)))
    yield Case("NaturalToMuVarSqrt", natural._NaturalToMuVarSqrt.apply, (normal(3), -spd(3)))
    lower = torch.tril(normal(3, 3)) + 3 * torch.eye(3, dtype=torch.float64)
    yield Case("TrilNaturalToMuVarSqrt", triangular._TrilNaturalToMuVarSqrt.apply, (normal(3), lower))


def linear_operator() -> Iterator[Case]:
    """Yield solves, determinants and roots of matrices, by Cholesky decomposition and by iteration."""
    from linear_operator import settings
    from linear_operator.operators import DenseLinearOperator as Dense

    def symmetric(f: Callable[[Any, Tensor], Any], iterative: bool = False) -> Callable[..., Any]:
        def function(a: Tensor, b: Tensor) -> Any:
            matrix = Dense((a + a.mT) / 2)
            if not iterative:
                return f(matrix, b)
            with settings.fast_computations(True, True, True), settings.max_cholesky_size(1), settings.cg_tolerance(1e-12):
                return f(matrix, b)

        return function

    a, b = spd(4), normal(4, 2)
    for iterative in (False, True):
        end = " by iteration" if iterative else ""
        yield Case(f"solve{end}", symmetric(lambda m, b: m.solve(b), iterative), (a, b))
        yield Case(f"sqrt_inv_matmul{end}", symmetric(lambda m, b: m.sqrt_inv_matmul(b), iterative), (a, b))
        yield Case(f"inv_quad{end}", symmetric(lambda m, b: m.inv_quad(b), iterative), (a, b))
        yield Case(f"inv_quad_logdet{end}", symmetric(lambda m, b: m.inv_quad_logdet(b, logdet=True), iterative), (a, b))
        yield Case(
            f"root{end}", symmetric(lambda m, b: m.root_decomposition().to_dense(), iterative), (a, b), options={"wrt": "a"}
        )
    yield Case("diagonalization", symmetric(lambda m, b: m.diagonalization()[0]), (a, b), options={"wrt": "a"})
    yield Case("pivoted_cholesky", symmetric(lambda m, b: m.pivoted_cholesky(rank=3)), (a, b), options={"wrt": "a"})


def e3nn() -> Iterator[Case]:
    """Yield layers that are equivariant to rotations of their inputs."""
    from e3nn import math, o3
    from e3nn.nn import BatchNorm, Gate, NormActivation, S2Activation

    yield Case("soft_unit_step", math.soft_unit_step, (torch.tensor([-0.7, 0.2, 0.9, 2.1], dtype=torch.float64),))
    yield Case("soft_unit_step at 0", math.soft_unit_step, (torch.tensor([0.0, 0.9], dtype=torch.float64),))
    for basis in ("gaussian", "cosine", "smooth_finite", "fourier", "bessel"):
        f = functools.partial(math.soft_one_hot_linspace, start=0.0, end=2.0, number=3, basis=basis, cutoff=True)
        yield Case(f"soft_one_hot_linspace {basis}", f, (0.2 + positive(4),))
    for normalize in (False, True):
        f = functools.partial(o3.spherical_harmonics, [0, 1, 2, 3], normalize=normalize)
        yield Case(f"spherical_harmonics normalize={normalize}", lambda x, f=f: f(x), (normal(3, 3),))
    torch.set_default_dtype(torch.float64)
    a, b = o3.Irreps("2x0e + 1x1o"), o3.Irreps("1x0e + 1x1o + 1x2e")
    yield Case("FullyConnectedTensorProduct", o3.FullyConnectedTensorProduct(a, a, b), (normal(2, a.dim), normal(2, a.dim)))
    yield Case("Linear", o3.Linear(b, b), (normal(2, b.dim),))
    yield Case("BatchNorm", BatchNorm(b), (normal(4, b.dim),))
    yield Case("NormActivation", NormActivation(b, torch.sigmoid), (normal(2, b.dim),))
    gate = Gate("2x0e", [torch.tanh], "1x0e", [torch.sigmoid], "1x1o")
    yield Case("Gate", gate, (normal(2, gate.irreps_in.dim),))
    sphere = S2Activation("0e + 1o", torch.tanh, 6)
    yield Case("S2Activation", sphere, (normal(2, 4),))
    turned = functools.partial(o3.wigner_D, 2)
    yield Case("wigner_D", lambda a, b, c: turned(a, b, c), (positive(2), positive(2), positive(2)))
    torch.set_default_dtype(torch.float32)


def kornia() -> Iterator[Case]:
    """Yield functions of computer vision: losses, geometry, filters."""
    import kornia as package
    from kornia.geometry import conversions, epipolar

    K = package
    image = torch.rand(1, 2, 6, 6, dtype=torch.float64)
    yield Case("focal_loss", functools.partial(K.losses.focal_loss, alpha=0.5, reduction="mean"), (normal(3, 5), classes(3, 5)))
    yield Case("dice_loss", K.losses.dice_loss, (normal(2, 3, 4, 4), torch.randint(3, (2, 4, 4))))
    yield Case("lovasz_softmax_loss", K.losses.lovasz_softmax_loss, (normal(2, 3, 3, 3), torch.randint(3, (2, 3, 3))))
    yield Case("ssim_loss", functools.partial(K.losses.ssim_loss, window_size=3), (image, torch.rand_like(image)))
    yield Case("total_variation", K.losses.total_variation, (image,))
    rotation = conversions.axis_angle_to_rotation_matrix(normal(2, 3))
    yield Case("axis_angle_to_rotation_matrix", conversions.axis_angle_to_rotation_matrix, (normal(2, 3),))
    yield Case("rotation_matrix_to_quaternion", conversions.rotation_matrix_to_quaternion, (rotation,))
    yield Case("quaternion_to_axis_angle", conversions.quaternion_to_axis_angle, (normal(2, 4),))
    eight = normal(1, 8, 2)
    yield Case("find_fundamental", epipolar.find_fundamental, (eight, normal(1, 8, 2), positive(1, 8)))
    yield Case("find_essential", epipolar.find_essential, (0.3 * normal(1, 5, 2), 0.3 * normal(1, 5, 2)))
    yield Case("find_homography_dlt", K.geometry.find_homography_dlt, (normal(1, 6, 2), normal(1, 6, 2)))
    yield Case(
        "warp_perspective",
        lambda x, m: K.geometry.warp_perspective(x, m, (5, 5)),
        (image, torch.eye(3, dtype=torch.float64)[None] + 0.05 * normal(1, 3, 3)),
    )
    yield Case("gaussian_blur2d", lambda x: K.filters.gaussian_blur2d(x, (3, 3), (1.1, 0.9)), (image,))
    yield Case("bilateral_blur", lambda x: K.filters.bilateral_blur(x, (3, 3), 0.2, (1.0, 1.0)), (image,))
    yield Case("median_blur", lambda x: K.filters.median_blur(x, (3, 3)), (image,))
    yield Case("canny", lambda x: K.filters.canny(x)[0], (torch.rand(1, 1, 6, 6, dtype=torch.float64),))
    rgb = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    for name in ("rgb_to_hsv", "rgb_to_hls", "rgb_to_lab", "rgb_to_luv", "rgb_to_ycbcr", "rgb_to_xyz", "rgb_to_linear_rgb"):
        yield Case(name, getattr(K.color, name), (rgb,))
    yield Case("dilation", lambda x: K.morphology.dilation(x, torch.ones(3, 3, dtype=torch.float64)), (image,))
    yield Case(
        "histogram",
        lambda x: K.enhance.histogram(x, torch.linspace(0, 1, 5, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)),
        (torch.rand(1, 10, dtype=torch.float64),),
    )
    yield Case(
        "equalize_clahe",
        lambda x: K.enhance.equalize_clahe(x, grid_size=(2, 2)),
        (torch.rand(1, 1, 8, 8, dtype=torch.float64),),
    )
    yield Case(
        "jpeg_codec_differentiable",
        lambda x, q: K.enhance.jpeg_codec_differentiable(x, q),
        (torch.rand(1, 3, 16, 16, dtype=torch.float64), 30 * positive(1)),
        options={"mode": "probe"},
    )
    yield Case("spatial_soft_argmax2d", K.geometry.subpix.spatial_soft_argmax2d, (normal(1, 2, 4, 4),))
    yield Case("ConvSoftArgmax2d", K.geometry.subpix.ConvSoftArgmax2d((3, 3)), (normal(1, 1, 5, 5),))
