"""JAX's own functions, which are right, with inputs inside their domains: the cases of the study of JAX functions.

A case is a function of arrays and the kinds of the arrays, one letter each:

    n  normal (3, 4)            p  positive (3, 4)       u  in (0.05, 0.95)     s  in (-0.95, 0.95)    g  above 1.2
    v  normal (5,)              w  positive (5,)         o  in ascending order  d  sums to 1
    m  normal (4, 4)            S  positive definite     t  symmetric           L  lower triangular    a  (5, 3)
    z  complex (3, 4)           y  complex (4, 4)        h  Hermitian
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn
from jax.numpy import fft, linalg
from jax.scipy import fft as sfft
from jax.scipy import linalg as slinalg
from jax.scipy import signal, special, stats

Function = Callable[..., Any]
INPUT_KINDS: dict[str, Callable[[np.random.Generator], Any]] = {
    "n": lambda r: r.normal(size=(3, 4)),
    "p": lambda r: r.uniform(0.3, 3.0, (3, 4)),
    "u": lambda r: r.uniform(0.05, 0.95, (3, 4)),
    "s": lambda r: r.uniform(-0.95, 0.95, (3, 4)),
    "g": lambda r: r.uniform(1.2, 3.0, (3, 4)),
    "v": lambda r: r.normal(size=5),
    "w": lambda r: r.uniform(0.3, 3.0, 5),
    "o": lambda r: np.cumsum(r.uniform(0.3, 1.0, 5)),
    "d": lambda r: r.dirichlet(np.ones(5)),
    "m": lambda r: r.normal(size=(4, 4)) + 2 * np.eye(4),
    "S": lambda r: (lambda b: b @ b.T + np.eye(4))(r.normal(size=(4, 4))),
    "t": lambda r: (lambda b: b + b.T)(r.normal(size=(4, 4))) + np.diag([0.0, 3.0, 6.0, 9.0]),
    "L": lambda r: np.tril(r.normal(size=(4, 4))) + 3 * np.eye(4),
    "a": lambda r: r.normal(size=(5, 3)),
    "z": lambda r: r.normal(size=(3, 4)) + 1j * r.normal(size=(3, 4)),
    "y": lambda r: r.normal(size=(4, 4)) + 1j * r.normal(size=(4, 4)) + 2 * np.eye(4),
    "h": lambda r: (lambda b: b + b.conj().T)(r.normal(size=(4, 4)) + 1j * r.normal(size=(4, 4))) + np.diag([0, 3, 6, 9]),
}


@dataclass(frozen=True)
class Case:
    """A function and the kinds of its arrays, one letter each."""

    name: str
    function: Function
    kinds: str

    def inputs(self, dtype: str) -> list[Any]:
        """Draw the arrays, with the same numbers in every dtype."""
        rng = np.random.default_rng(sum(map(ord, self.name)))
        arrays = [INPUT_KINDS[kind](rng) for kind in self.kinds]
        wide = {"float32": np.complex64, "float64": np.complex128}[dtype]
        return [jnp.array(x, dtype=wide if np.iscomplexobj(x) else dtype) for x in arrays]


Table = dict[str, tuple[str, Function]]


def select_functions(module: Any, kinds: str, names: str, label: str = "{}") -> Table:
    """Select functions of a module that take the same kinds of arrays, by name."""
    return {label.format(name): (kinds, getattr(module, name)) for name in names.split()}


# --- jax.nn: every function that takes floating arrays


def solve_by_custom_linear_solve(a: Any, b: Any) -> Any:
    """Solve a linear system by `lax.custom_linear_solve`, whose derivative is another linear system."""

    def solve(product: Any, right: Any) -> Any:
        return jnp.linalg.solve(jax.jacobian(product)(right), right)

    return lax.custom_linear_solve(lambda x: a @ x, b, solve, solve)


def symmetrise(a: Any) -> Any:
    """Symmetrise a matrix, as eigh and cholesky do with their input."""
    return (a + a.swapaxes(-1, -2).conj()) / 2


MASK = np.array([[True, False, True, True]] * 3)
NN_FUNCTIONS: Table = {
    **select_functions(nn, "n",
           "celu elu gelu hard_sigmoid hard_silu hard_swish hard_tanh identity leaky_relu log_sigmoid log_softmax logmeanexp"
           " logsumexp mish relu relu6 selu sigmoid silu soft_sign softmax softplus sparse_plus sparse_sigmoid squareplus"
           " standardize swish tanh glu"),
    "log1mexp": ("p", nn.log1mexp),
    "gelu exact": ("n", lambda x: nn.gelu(x, approximate=False)),
    "softmax where": ("n", lambda x: nn.softmax(x, where=MASK)),
    "logsumexp axis": ("n", lambda x: nn.logsumexp(x, axis=1)),
    "standardize axis 0": ("n", lambda x: nn.standardize(x, axis=0)),
    "celu alpha": ("np", lambda x, alpha: nn.celu(x, alpha[0, 0])),
    "dot_product_attention": ("nnn", lambda q, k, v: nn.dot_product_attention(
        q.reshape(1, 3, 2, 2), k.reshape(1, 3, 2, 2), v.reshape(1, 3, 2, 2))),
    "dot_product_attention causal": ("nnn", lambda q, k, v: nn.dot_product_attention(
        q.reshape(1, 3, 2, 2), k.reshape(1, 3, 2, 2), v.reshape(1, 3, 2, 2), is_causal=True)),
    "scaled_dot_general": ("nn", lambda a, b: nn.scaled_dot_general(a, b, (((1,), (1,)), ((), ())))),
}  # fmt: skip
OMITTED_NN_FUNCTIONS = {
    "one_hot": "takes integers",
    "scaled_matmul": "takes operands quantised to blocks of float8, and has no derivative",
    "get_scaled_dot_general_config": "makes a configuration",
}


def list_omitted_nn_functions() -> dict[str, str]:
    """List the functions of `jax.nn` that are no cases, with the reason, so that new ones of JAX are noticed."""
    public = {name for name in dir(nn) if not name.startswith("_") and callable(getattr(nn, name))}
    covered = {name.split()[0] for name in NN_FUNCTIONS}
    return {name: OMITTED_NN_FUNCTIONS.get(name, "not among the cases yet") for name in sorted(public - covered)}


# --- jax.numpy: a sweep

NUMPY_NAMES = {
    "n": "abs absolute angle arctan arcsinh asinh atan amax amin around atleast_2d cbrt ceil conj copy corrcoef cos cosh cov"
         " cumprod cumsum deg2rad degrees diag diagonal diff ediff1d exp exp2 expm1 fabs fix flip fliplr flipud"
         " floor gradient i0 imag max mean median min nan_to_num nancumprod nancumsum nanmax nanmean nanmedian nanmin nanprod"
         " nanstd nansum nanvar negative positive prod ptp rad2deg radians ravel real rint rot90 round sign sin sinc sinh sort"
         " square std sum tan tanh trace transpose trapezoid tril triu trunc unwrap var",
    "p": "log log10 log1p log2 reciprocal sqrt",
    "s": "arccos arcsin arctanh acos asin atanh",
    "g": "arccosh acosh",
    "nn": "add arctan2 atan2 copysign divide dot_rows fmax fmin hypot inner kron logaddexp logaddexp2 maximum minimum mod"
          " multiply outer remainder subtract true_divide vdot vecdot fmod",
    "pn": "float_power pow power",
    "m": "matrix_transpose",
    "mm": "dot matmul",
    "vv": "convolve correlate cross3 polyadd polymul polysub",
    "z": "abs angle conj exp real imag sin square sqrt log reciprocal tanh cumprod prod",
    "zz": "multiply divide power vdot outer",
}  # fmt: skip
NUMPY_FUNCTIONS: Table = {
    "dot_rows": ("nn", lambda a, b: jnp.dot(a, b.T)),
    "cross3": ("vv", lambda a, b: jnp.cross(a[:3], b[:3])),
    "fix": ("n", jnp.trunc),
    "append": ("nn", jnp.append),
    "average": ("np", lambda x, w: jnp.average(x, weights=w)),
    "choose where": ("nn", lambda a, b: jnp.where(a > b, a * b, b)),
    "clip": ("n", lambda x: jnp.clip(x, -0.5, 0.5)),
    "concatenate": ("nn", lambda a, b: jnp.concatenate([a, b], axis=1)),
    "einsum": ("nm", lambda a, b: jnp.einsum("ij,jk->ki", a, b)),
    "interp": ("sov", lambda x, xp, fp: jnp.interp(x + 1.5, xp, fp)),
    "ldexp": ("n", lambda x: jnp.ldexp(x, 3)),
    "linspace": ("nn", lambda a, b: jnp.linspace(a, b, 3)),
    "nanquantile": ("n", lambda x: jnp.nanquantile(x, 0.3)),
    "pad reflect": ("n", lambda x: jnp.pad(x, 1, mode="reflect")),
    "partition": ("n", lambda x: jnp.partition(x, 2)),
    "percentile": ("n", lambda x: jnp.percentile(x, 40.0, axis=1)),
    "piecewise": ("n", lambda x: jnp.piecewise(x, [x < 0, x >= 0], [lambda x: x**2, lambda x: x**3])),
    "poly": ("v", jnp.poly),
    "polyder": ("v", jnp.polyder),
    "polyfit": ("ov", lambda x, y: jnp.polyfit(x, y, 2)),
    "polyval": ("vn", jnp.polyval),
    "quantile": ("nu", lambda x, q: jnp.quantile(x, q[0, 0])),
    "repeat": ("n", lambda x: jnp.repeat(x, 2, axis=0)),
    "roll": ("n", lambda x: jnp.roll(x, 2)),
    "sort descending": ("n", lambda x: jnp.sort(x, descending=True)),
    "take": ("n", lambda x: jnp.take(x, np.array([0, 0, 3, 5]))),
    "take_along_axis": ("n", lambda x: jnp.take_along_axis(x, np.array([[0], [2], [2]]), 1)),
    "at add": ("nv", lambda x, y: x.at[0].add(y[:4]).at[1, 1].mul(y[4])),
    "at max": ("nv", lambda x, y: x.at[0].max(y[:4])),
    "tensordot": ("nm", lambda a, b: jnp.tensordot(a, b, 1)),
    "vander": ("v", jnp.vander),
    "prod with a zero": ("n", lambda x: jnp.prod(x.at[0, 0].set(0.0) + 0 * x)),
    "norm of a row of zeros": ("n", lambda x: jnp.sum(jnp.sqrt(jnp.sum(x**2, axis=1) + 1e-6))),
}

# --- jax.numpy.linalg, fft, lax

LINALG_FUNCTIONS: Table = {
    **select_functions(linalg, "m", "cond det inv matrix_norm pinv slogdet svdvals trace qr norm"),
    "cholesky": ("S", linalg.cholesky),
    "cholesky complex": ("h", lambda a: linalg.cholesky(a @ a.conj().T + jnp.eye(4, dtype=a.dtype))),
    "eigh values": ("t", linalg.eigvalsh),
    "eigh projector": ("t", lambda a: (lambda v: v[:, :1] @ v[:, :1].T)(linalg.eigh(a)[1])),
    "eigh complex values": ("h", linalg.eigvalsh),
    "eigvals": ("t", lambda a: jnp.sum(linalg.eigvals(a) ** 2).real),
    "lstsq": ("av", lambda a, b: linalg.lstsq(a, b)[0]),
    "matrix_power": ("m", lambda a: linalg.matrix_power(a, 3)),
    "multi_dot": ("nmm", lambda a, b, c: linalg.multi_dot([a, b, c])),
    "pinv tall": ("a", linalg.pinv),
    "qr tall": ("a", linalg.qr),
    "solve": ("mn", lambda a, b: linalg.solve(a, b.T)),
    "solve complex": ("yz", lambda a, b: linalg.solve(a, b.T)),
    "det complex": ("y", linalg.det),
    "inv complex": ("y", linalg.inv),
    "svd reconstruction": ("a", lambda a: (lambda u, s, v: (u * s**2) @ v)(*linalg.svd(a, full_matrices=False))),
    "svd values complex": ("z", lambda a: linalg.svd(a, compute_uv=False)),
    "tensorsolve": ("mv", lambda a, b: linalg.tensorsolve(a, b[:4])),
    "vector_norm 3": ("n", lambda x: linalg.vector_norm(x, ord=3)),
    "matrix_norm nuc": ("m", lambda x: linalg.norm(x, "nuc")),
    "matrix_norm 2": ("m", lambda x: linalg.norm(x, 2)),
}
FFT_FUNCTIONS: Table = {
    **select_functions(fft, "z", "fft ifft fft2 ifftn fftshift irfft hfft"),
    **select_functions(fft, "n", "rfft rfft2 fft ihfft rfftn", "{} real"),
    "dct": ("n", sfft.dct),
    "idctn": ("n", sfft.idctn),
    "stft": ("v", lambda x: signal.stft(x, nperseg=4)[2]),
    "fftconvolve": ("vv", signal.fftconvolve),
    "convolve2d": ("nm", signal.convolve2d),
    "detrend": ("n", signal.detrend),
    "welch": ("v", lambda x: signal.welch(x, nperseg=4)[1]),
}
LAX_FUNCTIONS: Table = {
    **select_functions(lax, "n", "cumlogsumexp cummax cummin cumprod logistic erf exp2"),
    "rsqrt": ("p", lax.rsqrt),
    "integer_pow": ("n", lambda x: lax.integer_pow(x, -2)),
    "conv": ("nm", lambda x, k: lax.conv(x[None, None], k[None, None, :2, :2], (1, 1), "SAME")),
    "reduce_window": ("n", lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (1, 1), "VALID")),
    "scan": ("nv", lambda x, c: lax.scan(lambda c, r: (jnp.sin(c) * r, c), c[:4], x)),
    "cond": ("n", lambda x: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x)),
    "while_loop": ("n", lambda x: lax.while_loop(lambda c: c[1] < 3, lambda c: (jnp.sin(c[0]), c[1] + 1), (x, 0))[0]),
    "fori_loop": ("n", lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + i, x)),
    "associative_scan": ("n", lambda x: lax.associative_scan(jnp.multiply, x)),
    "custom_root": ("w", lambda a: lax.custom_root(
        lambda x: x**2 - a,
        a,
        lambda f, x: lax.fori_loop(0, 12, lambda _, x: (x + a / x) / 2, x),
        lambda g, y: y / g(jnp.ones_like(y)))),
    "top_k": ("n", lambda x: lax.top_k(x, 2)[0]),
    "sort_key_val": ("nn", lambda k, v: lax.sort_key_val(k, v)),
    "checkpoint": ("n", jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)))),
    "custom_linear_solve": ("Sv", lambda a, b: solve_by_custom_linear_solve(a, b[:4])),
}  # fmt: skip

# --- jax.scipy

SPECIAL_NAMES = {
    "n": "dawsn entr_p erf erfc erfcx expit i0 i0e i1 i1e log_ndtr log_softmax logsumexp ndtr softmax spence_p",
    "p": "digamma exp1 expi gamma gammaln loggamma",
    "u": "entr erfinv logit ndtri",
    "pp": "beta betaln gammainc gammaincc kl_div rel_entr xlog1py xlogy poch",
}
SPECIAL_FUNCTIONS: Table = {
    "entr_p": ("p", special.entr),
    "spence_p": ("p", special.spence),
    "erfinv": ("s", special.erfinv),
    "betainc": ("u", lambda x: special.betainc(2.0, 3.0, x)),
    "betainc of a, b": ("ppu", special.betainc),
    "boxcox": ("pn", special.boxcox),
    "boxcox1p": ("pn", special.boxcox1p),
    "expn": ("p", lambda x: special.expn(2, x)),
    "factorial": ("p", special.factorial),
    "bessel_jn": ("p", lambda x: special.bessel_jn(x, v=2)),
    "fresnel": ("n", special.fresnel),
    "hyp1f1": ("u", lambda x: special.hyp1f1(1.5, 2.5, x)),
    "hyp2f1": ("u", lambda x: special.hyp2f1(0.5, 1.5, 2.5, x * 0.5)),
    "multigammaln": ("g", lambda x: special.multigammaln(x + 1, 2)),
    "polygamma": ("p", lambda x: special.polygamma(2, x)),
    "sici": ("p", special.sici),
    "zeta": ("gp", special.zeta),
    "owens_t": ("nn", special.owens_t),
}
SCIPY_LINALG_FUNCTIONS: Table = {
    **select_functions(slinalg, "m", "det inv expm lu polar qr block_diag"),
    "cho_factor": ("S", lambda a: slinalg.cho_factor(a)[0]),
    "cho_solve": ("Sn", lambda a, b: slinalg.cho_solve(slinalg.cho_factor(a), b.T)),
    "cholesky": ("S", slinalg.cholesky),
    "eigh values": ("t", lambda a: slinalg.eigh(a, eigvals_only=True)),
    "expm_frechet": ("mm", lambda a, e: slinalg.expm_frechet(a, e, compute_expm=False)),
    "lu_solve": ("mn", lambda a, b: slinalg.lu_solve(slinalg.lu_factor(a), b.T)),
    "solve pos": ("Sn", lambda a, b: slinalg.solve(a, b.T, assume_a="pos")),
    "solve": ("mn", lambda a, b: slinalg.solve(a, b.T)),
    "solve_triangular": ("Ln", lambda a, b: slinalg.solve_triangular(a, b.T, lower=True)),
    "sqrtm": ("S", lambda a: slinalg.sqrtm(a).real),
    "svd values": ("a", lambda a: slinalg.svd(a, compute_uv=False)),
    "symmetric cho_factor": ("S", lambda a: slinalg.cho_factor(symmetrise(a))[0]),
    "symmetric cho_solve": ("Sn", lambda a, b: slinalg.cho_solve(slinalg.cho_factor(symmetrise(a)), b.T)),
    "symmetric cholesky": ("S", lambda a: slinalg.cholesky(symmetrise(a))),
    "symmetric solve pos": ("Sn", lambda a, b: slinalg.solve(symmetrise(a), b.T, assume_a="pos")),
    "toeplitz": ("v", slinalg.toeplitz),
    "circulant": ("v", slinalg.circulant),
}
LOCATION_SCALE_FAMILIES = ("cauchy", "gumbel_l", "gumbel_r", "laplace", "logistic", "norm")


def select_distribution_functions(name: str, kinds: str, functions: str) -> Table:
    """Select the functions that a distribution has, by name."""
    module = getattr(stats, name)
    return select_functions(module, kinds, " ".join(f for f in functions.split() if hasattr(module, f)), f"{name}.{{}}")


def call_on_interval(function: Function, x: Any) -> Any:
    """Call a function of the truncated normal distribution on the interval from -1 to 2."""
    return function(x, -1.0, 2.0)


STATS_FUNCTIONS: Table = {
    **{key: value for name in LOCATION_SCALE_FAMILIES for what in ("pdf", "logpdf", "cdf", "logcdf", "sf", "logsf")
       for key, value in select_distribution_functions(name, "nnp", what).items()},
    **{key: value for name in LOCATION_SCALE_FAMILIES for what in ("ppf", "isf")
       for key, value in select_distribution_functions(name, "unp", what).items()},
    **select_distribution_functions("beta", "upp", "pdf logpdf cdf sf"),
    **select_distribution_functions("chi2", "pp", "pdf logpdf cdf logcdf sf"),
    **select_distribution_functions("gamma", "pp", "pdf logpdf cdf logcdf sf"),
    **select_distribution_functions("expon", "p", "pdf logpdf cdf logcdf sf"),
    **select_distribution_functions("gennorm", "np", "pdf logpdf cdf"),
    **select_distribution_functions("pareto", "gp", "pdf logpdf cdf sf"),
    **select_distribution_functions("t", "npnp", "pdf logpdf"),
    **{name: (kinds, partial(call_on_interval, function))
       for name, (kinds, function)
       in select_distribution_functions("truncnorm", "u", "pdf logpdf cdf logcdf sf logsf").items()},
    **select_distribution_functions("uniform", "u", "pdf logpdf cdf ppf"),
    **select_distribution_functions("vonmises", "np", "pdf logpdf"),
    **select_distribution_functions("wrapcauchy", "pu", "pdf logpdf"),
    "bernoulli.logpmf": ("u", lambda p: stats.bernoulli.logpmf(np.ones((3, 4), int), p)),
    "binom.logpmf": ("u", lambda p: stats.binom.logpmf(3, 7, p)),
    "geom.logpmf": ("u", lambda p: stats.geom.logpmf(3, p)),
    "nbinom.logpmf": ("pu", lambda n, p: stats.nbinom.logpmf(3, n, p)),
    "betabinom.logpmf": ("pp", lambda a, b: stats.betabinom.logpmf(3, 7, a, b)),
    "poisson.logpmf": ("p", lambda mu: stats.poisson.logpmf(3, mu)),
    "poisson.cdf": ("p", lambda mu: stats.poisson.cdf(3, mu)),
    "multinomial.logpmf": ("d", lambda p: stats.multinomial.logpmf(np.array([1, 2, 0, 1, 3]), 7, p)),
    "dirichlet.logpdf": ("w", lambda a: stats.dirichlet.logpdf(np.full(5, 0.2), a)),
    "multivariate_normal.logpdf": ("nS", lambda x, c: stats.multivariate_normal.logpdf(x, np.zeros(4), symmetrise(c))),
    "gaussian_kde": ("vv", lambda data, x: stats.gaussian_kde(data)(x)),
    "sem": ("n", stats.sem),
}  # fmt: skip


def make_cases() -> Iterator[Case]:
    """Yield every case, those of `jax.nn` first."""
    yield from (Case(f"nn.{name}", function, kinds) for name, (kinds, function) in NN_FUNCTIONS.items())
    for kinds, names in NUMPY_NAMES.items():
        for name in names.split():
            case_kinds, function = NUMPY_FUNCTIONS.get(name, (kinds, getattr(jnp, name, None)))
            yield Case(f"numpy.{name}{' complex' if 'z' in case_kinds else ''}", function, case_kinds)  # type: ignore[arg-type]
    listed = {name for names in NUMPY_NAMES.values() for name in names.split()}
    yield from (
        Case(f"numpy.{name}", function, kinds) for name, (kinds, function) in NUMPY_FUNCTIONS.items() if name not in listed
    )
    for kinds, names in SPECIAL_NAMES.items():
        for name in names.split():
            case_kinds, function = SPECIAL_FUNCTIONS.get(name, (kinds, getattr(special, name, None)))
            yield Case(f"scipy.special.{name}", function, case_kinds)  # type: ignore[arg-type]
    listed = {name for names in SPECIAL_NAMES.values() for name in names.split()}
    special_functions = {name: SPECIAL_FUNCTIONS[name] for name in SPECIAL_FUNCTIONS if name not in listed}
    tables = {
        "scipy.special": special_functions,
        "numpy.linalg": LINALG_FUNCTIONS,
        "fft and signal": FFT_FUNCTIONS,
        "lax": LAX_FUNCTIONS,
        "scipy.linalg": SCIPY_LINALG_FUNCTIONS,
    }
    for module, table in {**tables, "scipy.stats": STATS_FUNCTIONS}.items():
        yield from (Case(f"{module}.{name}", function, kinds) for name, (kinds, function) in table.items())
