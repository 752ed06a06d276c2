"""Further cases of the study of modules from third-party packages, by the name of the package."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from package_cases import Case, normal, positive, spd

Tensor = torch.Tensor


def monai() -> Iterator[Case]:
    """Yield functions of medical imaging."""
    from monai import losses
    from monai.networks.blocks import activation
    from monai.networks.layers import simplelayers

    yield Case("SwishImplementation", activation.SwishImplementation.apply, (normal(3, 4),))
    labels = torch.randint(2, (2, 2, 4, 4)).double()
    for name in ("DiceLoss", "DiceCELoss", "FocalLoss", "TverskyLoss", "GeneralizedDiceLoss"):
        yield Case(name, getattr(losses, name)(), (normal(2, 2, 4, 4), labels), options={"wrt": "input"})
    image = torch.rand(1, 1, 5, 5, 5, dtype=torch.float64)
    yield Case(
        "LocalNormalizedCrossCorrelationLoss",
        losses.LocalNormalizedCrossCorrelationLoss(kernel_size=3),
        (image, torch.rand_like(image)),
    )
    yield Case("GlobalMutualInformationLoss", losses.GlobalMutualInformationLoss(num_bins=5), (image, torch.rand_like(image)))
    yield Case("BendingEnergyLoss", losses.BendingEnergyLoss(), (normal(1, 3, 5, 5, 5),))
    yield Case(
        "SSIMLoss",
        losses.SSIMLoss(spatial_dims=2, win_size=3),
        (torch.rand(1, 1, 6, 6).double(), torch.rand(1, 1, 6, 6).double()),
    )
    yield Case("GaussianFilter", simplelayers.GaussianFilter(2, 1.0, requires_grad=True).double(), (normal(1, 1, 5, 5),))
    yield Case("SavitzkyGolayFilter", simplelayers.SavitzkyGolayFilter(3, 1), (normal(1, 1, 8),))
    yield Case("HilbertTransform", simplelayers.HilbertTransform(axis=2), (normal(1, 1, 8),))
    yield Case("MedianFilter", simplelayers.MedianFilter(1), (normal(1, 1, 4, 4, 4),))


def timm() -> Iterator[Case]:
    """Yield the activations that save memory, loaded from their own file because the package itself needs torchvision."""
    package_spec = importlib.util.find_spec("timm")
    if package_spec is None or package_spec.origin is None:
        raise ImportError("No module named 'timm'")
    spec = importlib.util.spec_from_file_location(
        "activations_me", Path(package_spec.origin).parent / "layers" / "activations_me.py"
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    points = torch.tensor([-4.1, -3.0, -2.0, -1.3, -0.2, 0.0, 0.7, 2.0, 2.9, 3.0, 3.5], dtype=torch.float64)
    for name in ("Swish", "Mish", "HardSigmoid", "HardSwish", "HardMish"):
        yield Case(f"{name}Me", getattr(package, f"{name}Me")(), (points,))


def roma() -> Iterator[Case]:
    """Yield functions of rotations."""
    import roma as package

    m = normal(2, 3, 3)
    yield Case("procrustes", package.procrustes, (normal(2, 4, 4),))
    yield Case("special_procrustes", package.special_procrustes, (m,))
    yield Case(
        "special_procrustes, singular values", lambda m: package.special_procrustes(m, return_singular_values=True), (m,)
    )
    yield Case("procrustes, regularization", lambda m: package.procrustes(m, regularization=0.1), (normal(2, 4, 4),))
    yield Case("special_gramschmidt", package.special_gramschmidt, (m,))
    yield Case("symmatrixvec_to_unitquat", package.symmatrixvec_to_unitquat, (normal(2, 10),))
    yield Case("rotvec_to_rotmat", package.rotvec_to_rotmat, (normal(2, 3),))
    yield Case("rotvec_to_rotmat at 0", package.rotvec_to_rotmat, (torch.zeros(1, 3, dtype=torch.float64),))
    yield Case("rotvec_to_unitquat beside 0", package.rotvec_to_unitquat, (1e-4 * normal(2, 3),))
    rotation = package.rotvec_to_rotmat(normal(2, 3))
    yield Case("rotmat_to_rotvec", package.rotmat_to_rotvec, (rotation,))
    yield Case(
        "unitquat_slerp",
        package.unitquat_slerp,
        (package.random_unitquat(2).double(), package.random_unitquat(2).double(), positive(3)),
    )


def pypose() -> Iterator[Case]:
    """Yield Lie groups, whose gradients are by design in the tangent space and not with respect to the stored numbers."""
    from pypose.lietensor import operation

    quaternion = torch.nn.functional.normalize(normal(2, 4), dim=-1)
    for name in ("so3", "se3", "rxso3", "sim3"):
        width = {"so3": 3, "se3": 6, "rxso3": 4, "sim3": 7}[name]
        function = getattr(operation, f"{name}_Exp")
        yield Case(f"{name}_Exp", function.apply, (normal(2, width),))
    yield Case("SO3_Log", operation.SO3_Log.apply, (quaternion,))
    yield Case("SO3_Act", operation.SO3_Act.apply, (quaternion, normal(2, 3)))
    yield Case("SO3_Mul", operation.SO3_Mul.apply, (quaternion, quaternion.flip(0)))


def torchlie() -> Iterator[Case]:
    """Yield Lie groups with a hand-written derivative of each operation."""
    from torchlie.functional import SE3, SO3

    for name, group, width in (("SO3", SO3, 3), ("SE3", SE3, 6)):
        x, g = normal(2, width), group.exp(normal(2, width))
        yield Case(f"{name}.exp", group.exp, (x,))
        yield Case(f"{name}.exp beside 0", group.exp, (1e-4 * normal(2, width),))
        yield Case(f"{name}.log after exp", lambda x, group=group: group.log(group.exp(x)), (x,))
        yield Case(f"{name}.log", group.log, (g,))
        yield Case(f"{name}.inv", group.inv, (g,))
        yield Case(f"{name}.adj", group.adj, (g,))
        yield Case(f"{name}.compose", group.compose, (g, g.flip(0)))
        yield Case(f"{name}.transform", group.transform, (g, normal(2, 3)))
        yield Case(f"{name}.untransform", group.untransform, (g, normal(2, 3)))
        yield Case(f"{name}.hat", group.hat, (x,))
        yield Case(f"{name}.vee", lambda x, group=group: group.vee(group.hat(x)), (x,))
    yield Case("SO3.quaternion_to_rotation", SO3.quaternion_to_rotation, (torch.nn.functional.normalize(normal(2, 4), dim=-1),))


def xitorch() -> Iterator[Case]:
    """Yield solutions of equations and integrals with implicit derivatives."""
    import xitorch as package
    from xitorch import integrate, interpolate, linalg, optimize

    def symmetric(a: Tensor) -> Any:
        return package.LinearOperator.m((a + a.mT) / 2, is_hermitian=True)

    a, b = spd(4), normal(4, 2)
    yield Case(
        "linalg.solve",
        lambda a, b: linalg.solve(package.LinearOperator.m(a), b),
        (normal(4, 4) + 4 * torch.eye(4, dtype=torch.float64), b),
    )
    yield Case("linalg.symeig, values", lambda a: linalg.symeig(symmetric(a), neig=2)[0], (a,))
    yield Case("linalg.symeig, projector", lambda a: (lambda v: v @ v.mT)(linalg.symeig(symmetric(a), neig=2)[1]), (a,))
    yield Case("linalg.svd, values", lambda a: linalg.svd(package.LinearOperator.m(a), k=2)[1], (normal(4, 3),))
    yield Case(
        "optimize.rootfinder",
        lambda a, y: optimize.rootfinder(lambda y, a: torch.tanh(a @ y + 0.1) + y / 2, y, params=(a,), f_tol=1e-13),
        (0.2 * a, torch.zeros(4, 1, dtype=torch.float64)),
        options={"wrt": "a", "rtol": 1e-6},
    )
    yield Case(
        "integrate.quad",
        lambda lo, hi, w: integrate.quad(lambda t, w: torch.sin(w * t), lo, hi, params=(w,)),
        (positive()[None], 2 + positive()[None], positive(2)),
    )
    times = torch.linspace(0, 1, 4, dtype=torch.float64)
    yield Case(
        "integrate.solve_ivp",
        lambda y, w: integrate.solve_ivp(lambda t, y, w: torch.tanh(w @ y), times, y, params=(w,), rtol=1e-9, atol=1e-10),
        (normal(3), normal(3, 3)),
        options={"rtol": 1e-5},
    )
    knots = torch.linspace(0, 1, 6, dtype=torch.float64)
    yield Case(
        "interpolate.Interp1D cspline",
        lambda y, x: interpolate.Interp1D(knots, y, method="cspline", bc_type="natural")(x),
        (normal(6), torch.rand(4, dtype=torch.float64)),
    )


def torchlpc() -> Iterator[Case]:
    """Yield filters that vary in time."""
    from torchlpc import sample_wise_lpc
    from torchlpc.recurrence import Recurrence

    yield Case(
        "sample_wise_lpc", lambda x, a, zi: sample_wise_lpc(x, a, zi), (normal(2, 6), 0.3 * normal(2, 6, 2), normal(2, 2))
    )
    yield Case("Recurrence", Recurrence.apply, (torch.rand(2, 5, dtype=torch.float64), normal(2, 5), normal(2)))


def torchcomp() -> Iterator[Case]:
    """Yield functions of dynamic range compression."""
    import torchcomp as package

    gain = lambda x, at, rt: package.compexp_gain(x, -30.0, 3.0, -60.0, 0.5, at, rt)  # noqa: E731 - the arguments that are looked at
    yield Case("compexp_gain", gain, (torch.rand(2, 8, dtype=torch.float64), 0.3 * positive(2), 0.3 * positive(2)))
    from torchcomp.core import compressor_core

    yield Case(
        "compressor_core",
        compressor_core,
        (torch.rand(2, 8, dtype=torch.float64), positive(2), 0.3 * positive(2), 0.2 * positive(2)),
    )


def pytorch_wavelets() -> Iterator[Case]:
    """Yield wavelet transforms and scattering."""
    import pytorch_wavelets as package

    x = normal(1, 1, 8, 8)
    for mode in ("zero", "symmetric", "periodization", "reflect"):
        yield Case(f"DWTForward {mode}", package.DWTForward(J=2, wave="db2", mode=mode).double(), (x,))
        yield Case(f"DWT1DForward {mode}", package.DWT1DForward(J=2, wave="db2", mode=mode).double(), (normal(1, 1, 16),))
    for mode in ("zero", "periodization"):
        low, high = package.DWTForward(J=1, wave="db2", mode=mode).double()(x)
        inverse = package.DWTInverse(wave="db2", mode=mode).double()
        yield Case(f"DWTInverse {mode}", lambda low, high, f=inverse: f((low, [high])), (low, high[0]))
    yield Case("DTCWTForward", package.DTCWTForward(J=2).double(), (x,))
    yield Case("ScatLayer", package.ScatLayer().double(), (x,))
    yield Case("ScatLayerj2", package.ScatLayerj2().double(), (normal(1, 1, 8, 8),), options={"mode": "probe"})
    from pytorch_wavelets.scatternet.lowlevel import SmoothMagFn

    yield Case("SmoothMagFn", lambda x, y: SmoothMagFn.apply(x, y, 0.1), (normal(3), normal(3)))


def torchkbnufft() -> Iterator[Case]:
    """Yield Fourier transforms at irregular places."""
    import torchkbnufft as package

    image, places = torch.randn(1, 1, 4, 4, dtype=torch.complex128), 2 * torch.rand(2, 5, dtype=torch.float64) - 1
    forward = package.KbNufft(im_size=(4, 4), numpoints=3, dtype=torch.complex128)
    adjoint = package.KbNufftAdjoint(im_size=(4, 4), numpoints=3, dtype=torch.complex128)
    yield Case("KbNufft", forward, (image, places), options={"wrt": "image"})
    yield Case("KbNufftAdjoint", adjoint, (torch.randn(1, 1, 5, dtype=torch.complex128), places), options={"wrt": "data"})


def mambapy() -> Iterator[Case]:
    """Yield state space models by a parallel scan."""
    from mambapy.pscan import pscan

    for length in (1, 2, 3, 4, 5, 8):
        yield Case(f"pscan {length}", pscan, (torch.rand(1, length, 2, 3, dtype=torch.float64), normal(1, length, 2, 3)))


def koopman() -> Iterator[Case]:
    """Yield powers of a matrix."""
    from koopman.torch.linear_powers import LinearPowersSequence

    yield Case("LinearPowersSequence", LinearPowersSequence(4), (normal(3, 3), normal(3)))


def torch_betainc() -> Iterator[Case]:
    """Yield the incomplete beta function."""
    from torch_betainc import betainc

    yield Case(
        "betainc", betainc, (2 * positive(4), 3 * positive(4), torch.tensor([0.2, 0.45, 0.6, 0.83], dtype=torch.float64))
    )
    yield Case(
        "betainc of large parameters",
        betainc,
        (60 * positive(2), 90 * positive(2), torch.tensor([0.3, 0.5], dtype=torch.float64)),
    )
    yield Case("betainc broadcast", betainc, (positive(1), positive(3), torch.rand(3, dtype=torch.float64)))


def make_halves() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Make two small networks for the halves of a reversible block."""
    return tuple(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh()).double() for _ in range(2))  # type: ignore[return-value]


def memcnn() -> Iterator[Case]:
    """Yield reversible blocks that recompute their inputs from their outputs."""
    import memcnn as package

    for coupling in ("additive", "affine"):
        for keep in (True, False):
            block = package.create_coupling(*make_halves(), coupling=coupling)
            yield Case(
                f"{coupling}, keep_input={keep}", package.InvertibleModuleWrapper(block, keep_input=keep), (normal(2, 6),)
            )
        for version in (0, 1):
            block = package.create_coupling(
                *make_halves(), coupling=coupling, implementation_fwd=version, implementation_bwd=version
            )
            yield Case(f"{coupling}, implementation {version}", block, (normal(2, 6),))


def revtorch() -> Iterator[Case]:
    """Yield reversible blocks of another package."""
    import revtorch as package

    blocks = torch.nn.ModuleList([package.ReversibleBlock(*make_halves(), split_along_dim=1) for _ in range(2)])
    yield Case("ReversibleSequence", package.ReversibleSequence(blocks), (normal(2, 6),))


def brevitas() -> Iterator[Case]:
    """Yield quantisers with straight-through estimators, declared as such."""
    from brevitas.ops import autograd_ste_ops as ops

    x = torch.tensor([-1.7, -0.6, 0.3, 0.9, 1.4], dtype=torch.float64)
    declared = {"straight_through": True}
    for name in (
        "round_ste_impl",
        "floor_ste_impl",
        "ceil_ste_impl",
        "binary_sign_ste_impl",
        "ternary_sign_ste_impl",
        "round_to_zero_ste_impl",
    ):
        yield Case(name, getattr(ops, name), (x,), options=declared)
    yield Case("scalar_clamp_ste_impl", lambda x: ops.scalar_clamp_ste_impl(x, -1.0, 1.0), (x,), options=declared)
    yield Case("abs_binary_sign_grad_impl", lambda x: ops.abs_binary_sign_grad_impl(x), (x,))


def snntorch() -> Iterator[Case]:
    """Yield spiking neurons: steps with a smooth gradient, declared as straight-through estimators."""
    from snntorch import surrogate

    for name in ("fast_sigmoid", "atan", "sigmoid", "triangular", "straight_through_estimator", "heaviside"):
        yield Case(name, getattr(surrogate, name)(), (normal(5),), options={"straight_through": True})


def pyro() -> Iterator[Case]:
    """Yield densities and reparametrised samples, some of whose gradients are right on average only."""
    from pyro import distributions as dist
    from pyro.ops import special

    lower = torch.linalg.cholesky(spd(3))
    yield Case("safe_log", special.safe_log, (positive(4),))
    yield Case("log_I1", lambda x: special.log_I1(3, x), (2 * positive(3),))
    yield Case(
        "Stable.log_prob",
        lambda a, b, x: dist.Stable(a, b).log_prob(x),
        (0.8 + positive(2) / 2, torch.rand(2).double() / 2, normal(2)),
    )
    yield Case(
        "OMTMultivariateNormal", lambda m, tril: dist.OMTMultivariateNormal(m, torch.tril(tril)).rsample(), (normal(3), lower)
    )
    yield Case(
        "AVFMultivariateNormal",
        lambda m, tril, c: dist.AVFMultivariateNormal(m, torch.tril(tril), c).rsample(),
        (normal(3), lower, normal(2, 2, 3)),
    )
    yield Case(
        "MixtureOfDiagNormals",
        lambda m, s, w: dist.MixtureOfDiagNormals(m, s, w).rsample(),
        (normal(2, 3), positive(2, 3), normal(2)),
    )
    yield Case(
        "RelaxedBernoulliStraightThrough",
        lambda p: dist.RelaxedBernoulliStraightThrough(torch.tensor(0.5).double(), p).rsample(),
        (torch.rand(3).double(),),
    )
    yield Case("ProjectedNormal.log_prob", lambda m, x: dist.ProjectedNormal(m).log_prob(x / x.norm()), (normal(3), normal(3)))
    yield Case(
        "SineBivariateVonMises.log_prob",
        lambda a, b, c: dist.SineBivariateVonMises(0.1, 0.2, a, b, c).log_prob(torch.tensor([0.3, 0.4]).double()),
        (positive(), positive(), 0.2 * positive()),
    )


def geoopt() -> Iterator[Case]:
    """Yield functions of manifolds."""
    import geoopt as package

    ball, sphere = package.PoincareBall(c=1.1), package.Sphere()
    x, y, v = (0.2 * normal(2, 3) for _ in range(3))
    yield Case("PoincareBall.expmap", lambda x, v: ball.expmap(x, v), (x, v))
    yield Case("PoincareBall.logmap", lambda x, y: ball.logmap(x, y), (x, y))
    yield Case("PoincareBall.dist", lambda x, y: ball.dist(x, y), (x, y))
    yield Case("PoincareBall.mobius_matvec", lambda m, x: ball.mobius_matvec(m, x), (normal(3, 3), x))
    yield Case("Sphere.dist", lambda x, y: sphere.dist(sphere.projx(x), sphere.projx(y)), (normal(2, 3), normal(2, 3)))
    curved = package.Stereographic(k=torch.tensor(0.3).double(), learnable=False)
    yield Case("Stereographic.dist", lambda x, y: curved.dist(x, y), (x, y))
    yield Case(
        "Stereographic.dist beside k = 0",
        lambda k, x, y: package.manifolds.stereographic.math.dist(x, y, k=k),
        (torch.tensor(1e-4).double(), x, y),
    )
