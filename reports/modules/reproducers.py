"""Wrong derivatives that the study of modules found in third-party packages, each with a reproducer that needs no gradcheck.

python reports/modules/reproducers.py            # runs every reproducer whose package is installed
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A wrong derivative.

    Attributes:
        package: the package that must be installed, by the name it is imported under.
        title: the finding in a sentence.
        where: the file in the package, and the mistake in it.
        code: the reproducer, whose output the page shows.
        start: the beginnings of the names of the cases that the finding explains.
    """

    package: str
    title: str
    where: str
    code: str
    start: tuple[str, ...]


CENTRAL = """
def slope(f, x, u, h=1e-6):
    return float((f(x + h * u) - f(x - h * u)).sum() / (2 * h))
"""
TWICE = """
def twice(f, x, u, h=1e-5):  # second derivative of f(x)^2 + |x|^2 along u: by autograd, by differences
    def g(x):
        x = x.detach().requires_grad_()
        return x, torch.autograd.grad(f(x).square() + x.square().sum(), x, create_graph=True)[0]
    at, first = g(x)
    again = float((torch.autograd.grad((first * u).sum(), at)[0] * u).sum())
    return again, float(((g(x + h * u)[1] - g(x - h * u)[1]) * u).sum() / (2 * h))
"""

FINDINGS = (
    Finding(
        "torch",
        "linear_cross_entropy in chunks: second derivatives are wrong, without an error",
        "`torch.nn.functional.linear_cross_entropy`, `nn.LinearCrossEntropyLoss`: the gradient is computed along with the "
        "loss, and counts as a constant",
        TWICE
        + """
import torch
from torch.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions
torch.manual_seed(0)
x, u, w = torch.randn(6, 4).double(), torch.randn(6, 4).double(), torch.randn(5, 4).double()
y, options = torch.tensor([0, 3, 1, 4, 2, 2]), LinearCrossEntropyOptions(batch_chunk_size=2, allow_retain_graph=True)
fused = lambda x: torch.nn.functional.linear_cross_entropy(x, w, y, options=options)
plain = lambda x: torch.nn.functional.cross_entropy(torch.nn.functional.linear(x, w), y)
for f in (fused, plain):
    print("differentiated again %.6g, differences %.6g" % twice(f, x, u))
""",
        ("module_db float64 nn.LinearCrossEntropyLoss", "module_db float32 nn.LinearCrossEntropyLoss"),
    ),
    Finding(
        "gpytorch",
        "log_normal_cdf: from -1 downwards value and gradient are off by up to 2e-3, and do not fit each other",
        "`gpytorch/functions/_log_normal_cdf.py`: a rational approximation used beyond where it holds, "
        "which the backward differentiates as if it were exact",
        """
import torch, mpmath
from gpytorch.functions import log_normal_cdf
z = torch.tensor([-1.01, -1.1, -2.0], dtype=torch.float64, requires_grad=True)
log_normal_cdf(z).sum().backward()
print("claimed          ", z.grad.tolist())
print("the value's slope", [float(log_normal_cdf(t + 1e-6) - log_normal_cdf(t - 1e-6)) / 2e-6 for t in z.detach()])
print("right            ", [float(mpmath.npdf(t) / mpmath.ncdf(t)) for t in z.tolist()])
""",
        ("gpytorch log_normal_cdf",),
    ),
    Finding(
        "torch_betainc",
        "betainc: derivatives by its parameters are off by up to 4e-4",
        "`torch_betainc/betainc.py`: the recurrence for the derivative is stopped by the convergence of another quantity",
        """
import torch, mpmath
from torch_betainc import betainc
a, b, x = (torch.tensor(v, dtype=torch.float64, requires_grad=r) for v, r in ((2.41564, True), (3.87344, True), (0.45, False)))
betainc(a, b, x).backward()
exact = lambda a, b: mpmath.betainc(a, b, 0, 0.45, regularized=True)
right = lambda i: float(mpmath.diff(exact, (2.41564, 3.87344), (1 - i, i)))
print("claimed by a", float(a.grad), "right", right(0))
print("claimed by b", float(b.grad), "right", right(1))
""",
        ("torch_betainc ",),
    ),
    Finding(
        "pytorch_wavelets",
        "DWTForward and DWT1DForward, modes symmetric and reflect: the border's share is missing",
        "`pytorch_wavelets/dwt/lowlevel.py`, AFB2D and AFB1D: the backward is the inverse transform, cropped: "
        "right for zero padding alone",
        CENTRAL
        + """
import torch
from pytorch_wavelets import DWT1DForward
torch.manual_seed(0)
for mode in ("zero", "symmetric", "reflect"):
    f = DWT1DForward(J=1, wave="db2", mode=mode).double()
    weights = [torch.randn_like(f(torch.zeros(1, 1, 16).double())[0]) for _ in range(2)]
    loss = lambda x: (f(x)[0] * weights[0]).sum() + (f(x)[1][0] * weights[1]).sum()
    x, u = torch.randn(1, 1, 16).double().requires_grad_(), torch.zeros(1, 1, 16).double()
    u[0, 0, 1] = 1
    loss(x).backward()
    print(mode, "claimed", float(x.grad[0, 0, 1]), "differences", slope(loss, x.detach(), u))
""",
        ("pytorch_wavelets DWTForward", "pytorch_wavelets DWT1DForward"),
    ),
    Finding(
        "pytorch_wavelets",
        "DWTInverse: where the low pass wants no gradient, the high passes get none",
        "`pytorch_wavelets/dwt/lowlevel.py`, SFB2D: the backward asks `ctx.needs_input_grad[0]` for both inputs",
        """
import torch
from pytorch_wavelets import DWTForward, DWTInverse
torch.manual_seed(0)
low, (high,) = DWTForward(J=1, wave="db2").double()(torch.randn(1, 1, 8, 8).double())
inverse = DWTInverse(wave="db2").double()
for wants in (True, False):
    a, b = low.clone().requires_grad_(wants), high.clone().requires_grad_()
    inverse((a, [b])).square().sum().backward()
    print("low.requires_grad", wants, "|gradient of high|", 0.0 if b.grad is None else float(b.grad.norm()))
""",
        ("pytorch_wavelets DWTInverse",),
    ),
    Finding(
        "pytorch_wavelets",
        "SmoothMagFn: raises where the second input alone wants a gradient",
        "`pytorch_wavelets/scatternet/lowlevel.py`: `dy` is only set where the first wants one",
        """
import torch
from pytorch_wavelets.scatternet.lowlevel import SmoothMagFn
x, y = torch.randn(3), torch.randn(3, requires_grad=True)
try:
    SmoothMagFn.apply(x, y, 0.1).sum().backward()
except Exception as error:
    print(type(error).__name__, error)
""",
        ("pytorch_wavelets SmoothMagFn",),
    ),
    Finding(
        "memcnn",
        "AffineCoupling, implementation 1: a wrong gradient",
        "`memcnn/models/affine.py`, AffineBlockFunction2: `x2_grad = dd[1] + y2_grad` is that of an additive block; "
        "`y2_grad` wants the factor `G_z11`",
        CENTRAL
        + """
import torch, memcnn
for version in (0, 1):
    torch.manual_seed(0)
    half = [torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh()).double() for _ in range(2)]
    f = memcnn.create_coupling(*half, coupling="affine", implementation_fwd=version, implementation_bwd=version)
    x, u, w = torch.randn(2, 6).double().requires_grad_(), torch.randn(2, 6).double(), torch.randn(2, 6).double()
    (f(x.clone()) * w).sum().backward()
    right = slope(lambda x: f(x) * w, x.detach(), u)
    print("implementation", version, "claimed", float((x.grad * u).sum()), "differences", right)
""",
        ("memcnn affine, implementation 1",),
    ),
    Finding(
        "xitorch",
        "integrate.quad: the backward raises where a limit wants a gradient and no parameter does",
        "`xitorch/integrate/quad.py`",
        """
import torch
from xitorch.integrate import quad
for wants in (True, False):
    low = torch.tensor([0.5]).double().requires_grad_()
    w = torch.tensor([1.0, 2.0]).double().requires_grad_(wants)
    try:
        quad(lambda t, w: torch.sin(w * t), low, torch.tensor([2.0]).double(), params=(w,)).sum().backward()
        print("w.requires_grad", wants, "gradient of the lower limit", low.grad.tolist())
    except Exception as error:
        print("w.requires_grad", wants, type(error).__name__, error)
""",
        ("xitorch integrate.quad",),
    ),
    Finding(
        "torchinterp1d",
        "interp1d: the backward calls itself and never ends",
        "`torchinterp1d/interp1d.py`: the saved output comes back with the graph of the Function itself; not among the cases, "
        "as nothing ends it but its process",
        """
import subprocess, sys
code = "; ".join([
    "import torch, torchinterp1d",
    "y = torch.randn(1, 6, requires_grad=True)",
    "torchinterp1d.interp1d(torch.linspace(0, 1, 6)[None], y, torch.tensor([[0.13, 0.47]])).sum().backward()",
    "print(y.grad)",
])
try:
    print(subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True))
except subprocess.TimeoutExpired:
    print("still running after 30 s")
""",
        ("torchinterp1d ",),
    ),
    Finding(
        "torchlie",
        "SE3.exp near the identity: small derivatives are off by up to 6e-4",
        "`torchlie/functional/se3_impl.py`: below a threshold a series of too few terms",
        """
import torch, mpmath
from torchlie.functional import SE3
torch.manual_seed(3)
x = (1e-4 * torch.randn(1, 6).double()).requires_grad_()
claimed = [torch.autograd.grad(SE3.exp(x)[0, k, 3], x)[0][0, i].item() for k, i in ((0, 2), (2, 0), (1, 2))]
mpmath.mp.dps = 40
def moved(k, i, e):
    a, b, c, p, q, r = (mpmath.mpf(t) + (e if j == i else 0) for j, t in enumerate(x[0].tolist()))
    return mpmath.expm(mpmath.matrix([[0, -r, q, a], [r, 0, -p, b], [-q, p, 0, c], [0, 0, 0, 0]]))[k, 3]
e = mpmath.mpf("1e-15")
print("claimed", claimed)
print("right  ", [float((moved(k, i, e) - moved(k, i, -e)) / (2 * e)) for k, i in ((0, 2), (2, 0), (1, 2))])
""",
        ("torchlie SE3.exp beside 0",),
    ),
    Finding(
        "torchkbnufft",
        "KbNufftAdjoint: raises under torch.utils.checkpoint",
        "`torchkbnufft/_autograd/interp.py`, KbTableInterpAdjoint: tensors are kept on ctx rather than by save_for_backward",
        """
import torch, torchkbnufft
from torch.utils.checkpoint import checkpoint
f = torchkbnufft.KbNufftAdjoint(im_size=(4, 4), numpoints=3, dtype=torch.complex128)
x, places = torch.randn(1, 1, 5, dtype=torch.complex128, requires_grad=True), 2 * torch.rand(2, 5).double() - 1
try:
    checkpoint(f, x, places, use_reentrant=False).abs().sum().backward()
    print("|gradient|", float(x.grad.norm()))
except Exception as error:
    print(type(error).__name__, str(error).splitlines()[0])
""",
        ("torchkbnufft KbNufftAdjoint",),
    ),
    Finding(
        "torchsde",
        "sdeint_adjoint, reversible_heun: off where a time that is asked for lies between two steps, without an error",
        "`torchsde/_core/adjoint.py`: states between two steps are interpolated, which the backward takes for steps; "
        "documented as exact",
        """
import torch, torchsde
class Diffusion(torch.nn.Module):
    noise_type, sde_type = "diagonal", "stratonovich"
    f = lambda self, t, y: torch.tanh(y)
    g = lambda self, t, y: 0.3 * torch.sigmoid(y)
torch.manual_seed(0)
y = torch.randn(2, 2).double()
for times, dt in (([0.0, 0.25, 0.5], 0.25), ([0.0, 0.15, 0.3], 0.1)):
    path = torchsde.BrownianInterval(t0=0.0, t1=times[-1], size=(2, 2), dtype=torch.float64, entropy=1)
    gradients = []
    for solve, adjoint in ((torchsde.sdeint, {}), (torchsde.sdeint_adjoint, {"adjoint_method": "adjoint_reversible_heun"})):
        x = y.clone().requires_grad_()
        out = solve(Diffusion(), x, torch.tensor(times).double(), bm=path, dt=dt, method="reversible_heun", **adjoint)
        gradients.append(torch.autograd.grad(out.sin().sum(), x)[0])
    print("times", times, "dt", dt, "largest difference of the two gradients %.2g" % (gradients[0] - gradients[1]).abs().max())
""",
        ("torchsde sdeint_adjoint",),
    ),
    Finding(
        "torchdiffeq",
        "odeint_adjoint: second derivatives are wrong, without an error",
        "`torchdiffeq/_impl/adjoint.py`: the backward runs under no_grad, and is not marked once_differentiable",
        TWICE
        + """
import torch
from torchdiffeq import odeint, odeint_adjoint
class Field(torch.nn.Module):
    def forward(self, t, y):
        return torch.sin(y)
torch.manual_seed(0)
x, u = torch.randn(3).double(), torch.randn(3).double()
for solve in (odeint, odeint_adjoint):
    times, options = torch.tensor([0.0, 1.0]).double(), {"step_size": 0.05}
    f = lambda y: solve(Field(), y, times, method="rk4", options=options)[-1].square().sum()
    print(solve.__name__, "differentiated again %.6g, differences %.6g" % twice(f, x, u))
""",
        ("torchdiffeq odeint_adjoint",),
    ),
    Finding(
        "gpytorch",
        "RBFCovariance and MaternCovariance: second derivatives by the lengthscale are wrong, without an error",
        "`gpytorch/functions/rbf_covariance.py`, `matern_covariance.py`: the saved derivative counts as a constant",
        TWICE
        + """
import torch
from gpytorch.functions import RBFCovariance
from gpytorch.kernels.kernel import dist
torch.manual_seed(0)
a, b = torch.randn(4, 2).double(), torch.randn(3, 2).double()
f = lambda l: RBFCovariance.apply(a, b, l, lambda p, q: dist(p, q) ** 2).sum()
print("differentiated again %.6g, differences %.6g" % twice(f, torch.ones(1, 1).double(), torch.ones(1, 1).double()))
""",
        ("gpytorch RBFCovariance", "gpytorch MaternCovariance"),
    ),
    Finding(
        "roma",
        "procrustes: a wrong second derivative, without an error",
        "`roma/mappings.py`, _ProcrustesManualDerivatives: U and V are outputs marked as not differentiable, "
        "and so constants in the backward",
        TWICE
        + """
import torch, roma
torch.manual_seed(0)
w, x, u = (torch.randn(1, 4, 4).double() for _ in range(3))
for f in (roma.procrustes, roma.procrustes_naive):
    print(f.__name__, "differentiated again %.6g, differences %.6g" % twice(lambda m: (f(m) * w).sum(), x, u))
""",
        ("roma procrustes", "roma special_procrustes"),
    ),
    Finding(
        "entmax",
        "entmax15_loss and entmax_bisect_loss: second derivatives are wrong, without an error",
        "`entmax/losses.py`, _GenericLossFunction: the saved p_star counts as a constant",
        TWICE
        + """
import torch
from entmax import entmax15_loss
torch.manual_seed(0)
x, u, y = torch.randn(3, 5).double(), torch.randn(3, 5).double(), torch.tensor([0, 3, 1])
print("differentiated again %.6g, differences %.6g" % twice(lambda x: entmax15_loss(x, y).sum(), x, u))
""",
        ("entmax entmax15_loss", "entmax entmax_bisect_loss"),
    ),
)


def run_reproducer(finding: Finding) -> str:
    """Run a reproducer and return its output, with the exception if it raises one."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(compile(finding.code, finding.title, "exec"), {"torch": __import__("torch")})
        except Exception as error:
            out.write(f"the reproducer stops: {type(error).__name__}: {error}\n")
    return out.getvalue().rstrip()


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def find_explanation(name: str) -> Finding | None:
    """Return the finding that explains the outcome of a case, or None."""
    return next((f for f in FINDINGS if name.startswith(f.start)), None)


def make_chapter(findings: Sequence[Finding] = FINDINGS) -> list[str]:
    """Format the findings as Markdown: title, place, reproducer and its output."""
    lines: list[str] = []
    for number, finding in enumerate((f for f in findings if is_installed(f.package)), 1):
        lines += [f"### {number}. {finding.package}: {finding.title}", "", f"{finding.where}.", ""]
        lines += ["```python", finding.code.strip(), "```", "", "prints", "", "```text", run_reproducer(finding), "```", ""]
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(make_chapter()) + "\n")
