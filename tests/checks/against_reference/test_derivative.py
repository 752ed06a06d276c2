"""A second implementation compared with the target: values, derivatives, and which of them stands alone."""

import ctypes
import ctypes.util
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import gradcheck
from gradcheck import Reason, Verdict, normal, positive
from gradcheck.cli import app
from gradcheck.report.findings import describe_outlier
from gradcheck.report.phrases import group_by_leaf


def layer(x, w):
    return torch.tanh(x @ w)


def in_numpy(x, w):
    return np.tanh(x @ w)


def sine(backward_off=1.0, forward_off=0.0):
    """Make a sine with its own backward, either of them wrong by the amount given."""

    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(x) + forward_off * x

        @staticmethod
        def backward(ctx, g):
            return g * (torch.cos(ctx.saved_tensors[0]) + forward_off) * backward_off

    return Sine


def against_reference(result, order=1):
    return [c for c in result.comparisons if c.against == "reference" and c.order == order]


def alone(result):
    return [message for message in map(describe_outlier, group_by_leaf(result.comparisons)) if message]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("reference", [in_numpy, lambda a, b: torch.tanh(torch.einsum("ij,jk->ik", a, b))])
def test_a_right_function_agrees_with_its_reference_in_either_framework(reference, dtype):
    result = gradcheck.check(layer, normal(4, 3), normal(3, 2), reference=reference, dtype=dtype)
    assert result.verdict is Verdict.PASS, str(result)
    (value,) = against_reference(result, order=0)
    assert (value.method, value.wrt, value.verdict) == ("primal", "output", Verdict.PASS)
    assert value.resolution < {"float64": 1e-10, "float32": 1e-3}[dtype]
    lines = against_reference(result)
    assert {(c.wrt, c.method) for c in lines} == {(x, m) for x in "xw" for m in ("reverse", "forward")}
    assert all(c.verdict is Verdict.PASS for c in lines)


@pytest.mark.parametrize("size", [5, 20_000])
@pytest.mark.parametrize("reference", [np.sin, torch.sin])
def test_a_wrong_backward_fails_by_slopes_and_reference_alike(reference, size):
    assert gradcheck.check(sine(), normal(size), reference=reference, contracts=False).ok
    result = gradcheck.check(sine(backward_off=1.01), normal(size), reference=reference, contracts=False)
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.DISAGREES)
    assert {c.against for c in result.comparisons if c.verdict is Verdict.FAIL} == {"numeric", "reference"}
    if size == 5:
        assert alone(result) == ["reverse stands alone: numeric, reference agree with each other"]


@pytest.mark.parametrize("size", [5, 20_000])
@pytest.mark.parametrize("reference", [np.sin, torch.sin])
def test_a_wrong_forward_with_its_own_right_backward_is_named_as_the_forward(reference, size):
    result = gradcheck.check(sine(forward_off=1e-5), normal(size), reference=reference, contracts=False)
    assert (result.verdict, result.reason) == (Verdict.FAIL, Reason.VALUE_DIFFERS)
    assert [c.wrt for c in result.comparisons if c.verdict is Verdict.FAIL] == ["output"]
    assert {c.reason for c in against_reference(result)} == {Reason.REFERENCE_DIFFERS}
    assert "returns a different value from its reference" in str(result)


def test_a_reference_whose_derivative_is_wrong_stands_alone_and_decides_nothing():
    result = gradcheck.check(layer, normal(4, 3), normal(3, 2), reference=lambda x, w: torch.tanh(x @ w.detach()))
    assert result.verdict is Verdict.PASS
    assert [c.wrt for c in against_reference(result) if c.reason is Reason.REFERENCE_DIFFERS] == ["w", "w"]
    assert alone(result) == ["reference stands alone: forward, numeric, reverse agree with each other"]


def test_if_the_slopes_are_too_coarse_the_reference_decides():
    def cube(x):
        return np.round(x**3, 6)

    def smooth(x):
        return x**3 + (torch.round(x**3, decimals=6) - x**3).detach()

    def checked(factor, **options):
        return gradcheck.check(cube, positive(4), vjp=lambda g, x: g * factor * 3 * x**2, **options)

    assert checked(1 + 3e-7).verdict is not Verdict.FAIL
    assert checked(1.0, reference=smooth).verdict is Verdict.PASS
    wrong = checked(1 + 3e-7, reference=smooth)
    assert wrong.verdict is Verdict.FAIL
    assert [c.against for c in wrong.comparisons if c.verdict is Verdict.FAIL] == ["reference"]


def test_at_a_kink_the_reference_may_have_another_convention():
    x = torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64)
    result = gradcheck.check(torch.relu, x, reference=lambda x: torch.maximum(x, torch.zeros_like(x)), framework="torch")
    assert result.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (lambda x, w: (x @ w)[0], r"returns output float64 \(2,\), the target output float64 \(4, 2\)"),
        (lambda x, w: (x @ w, x), r"returns output\[0\] float64 .*, the target output float64"),
        (lambda x, w: x @ w.T, "it raised RuntimeError.*given x"),
        (lambda x: x, "takes 1 positional argument but 2"),
        (lambda x, w: None, "is a return missing"),
    ],
)
def test_a_reference_of_another_form_is_one_clear_error(reference, message):
    result = gradcheck.check(layer, normal(4, 3), normal(3, 2), reference=reference, framework="torch")
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.BAD_REFERENCE)
    assert re.search(message, result.message), result.message


def test_what_cannot_be_called_is_refused():
    with pytest.raises(gradcheck.UsageError, match="reference=3: expected a second implementation"):
        gradcheck.check(layer, normal(4, 3), normal(3, 2), reference=3)


def of_linear(input, params):
    return input @ params["weight"].T + params["bias"]


@pytest.mark.parametrize("reference", [torch.nn.Linear(3, 2), of_linear, lambda x, params: np.asarray(of_linear(x, params))])
def test_the_reference_of_a_module_takes_its_parameters(reference):
    before = {name: t.clone() for name, t in getattr(reference, "state_dict", dict)().items()}
    result = gradcheck.check(torch.nn.Linear(3, 2), normal(4, 3), reference=reference)
    assert result.verdict is Verdict.PASS, str(result)
    assert {c.wrt for c in against_reference(result)} >= {"params['weight']", "params['bias']"}
    assert all(torch.equal(t, reference.state_dict()[name]) for name, t in before.items())


def test_a_reference_module_with_other_parameters_is_refused():
    result = gradcheck.check(torch.nn.Linear(3, 2), normal(4, 3), reference=torch.nn.Linear(3, 5))
    assert result.reason is Reason.BAD_REFERENCE
    assert "size mismatch for weight" in result.message


def test_outputs_that_the_target_detaches_are_left_out_and_both_draw_the_same():
    def dropped(x):
        return {"a": torch.nn.functional.dropout(x), "b": (2 * x).detach()}

    def again(x):
        return {"a": torch.nn.functional.dropout(x), "b": 2 * x}

    result = gradcheck.check(dropped, normal(30), reference=again, framework="torch")
    assert result.verdict is Verdict.PASS, str(result)
    assert [c.wrt for c in against_reference(result, order=0)] == ["output['a']"]


def test_a_numpy_function_has_a_torch_reference():
    assert gradcheck.check(in_numpy, normal(4, 3), normal(3, 2), reference=layer).ok
    assert gradcheck.check(in_numpy, normal(4, 3), normal(3, 2), reference=lambda x, w: layer(x, 2 * w)).verdict is Verdict.FAIL


def test_jax_functions_have_torch_and_numpy_references():
    jnp = pytest.importorskip("jax.numpy")

    def in_jax(x, w):
        return jnp.tanh(x @ w)

    given = (normal(4, 3), normal(3, 2))
    assert gradcheck.check(layer, *given, reference=in_jax, dtype="float32").ok
    assert gradcheck.check(in_jax, *given, reference=layer).ok
    assert gradcheck.check(in_jax, *given, reference=in_numpy).ok
    wrong = gradcheck.check(in_jax, *given, reference=lambda x, w: torch.tanh(x @ w) * 1.001)
    assert wrong.reason is Reason.VALUE_DIFFERS


def test_integers_cross_between_frameworks():
    def picked(x, k):
        return torch.gather(x, 1, k[:, None])[:, 0]

    k = torch.tensor([2, 0, 1])
    x = torch.arange(9.0, dtype=torch.float64).reshape(3, 3).sin()
    assert gradcheck.check(picked, x, k, reference=lambda x, k: x[np.arange(3), k]).ok


# --- references of other libraries


def test_a_sympy_expression_is_a_reference():
    sympy = pytest.importorskip("sympy")
    x, y = sympy.symbols("x y")

    def product(x, y):
        return torch.sin(x) * y**2

    assert gradcheck.check(product, normal(4), normal(4), reference=sympy.sin(x) * y**2, framework="torch").ok
    assert gradcheck.check(product, normal(4), normal(4), reference=sympy.lambdify((x, y), sympy.sin(x) * y**2)).ok
    wrong = gradcheck.check(product, normal(4), normal(4), reference=sympy.sin(x) * y**3, framework="torch")
    assert wrong.reason is Reason.VALUE_DIFFERS
    missing = gradcheck.check(product, normal(4), normal(4), reference=x + sympy.Symbol("z"), framework="torch")
    assert "symbol z, and the inputs are x, y" in missing.message


def test_a_c_function_is_a_reference():
    library = ctypes.util.find_library("m")
    if library is None:
        pytest.skip("there is no C library of mathematics here")
    erf = ctypes.CDLL(library).erf
    erf.argtypes, erf.restype = [ctypes.c_double], ctypes.c_double
    reference = np.vectorize(erf)
    assert gradcheck.check(torch.erf, normal(4), reference=reference, framework="torch").ok
    assert gradcheck.check(torch.erfc, normal(4), reference=reference, framework="torch").reason is Reason.VALUE_DIFFERS


def test_numba_and_hips_autograd_and_casadi_functions_are_references():
    found = []
    for name, make in (("numba", by_numba), ("autograd", by_autograd), ("casadi", by_casadi)):
        try:
            found.append(make(__import__(name)))
        except ModuleNotFoundError:
            continue
    if not found:
        pytest.skip("none of Numba, HIPS autograd and CasADi is installed")
    assert all(gradcheck.check(torch.sinh, normal(4), reference=reference, framework="torch").ok for reference in found)


def by_numba(numba):
    return numba.njit(lambda x: (np.exp(x) - np.exp(-x)) / 2)


def by_autograd(autograd):
    import autograd.numpy as anp

    return lambda x: anp.sinh(x)


def by_casadi(casadi):
    x = casadi.SX.sym("x", 4)
    function = casadi.Function("f", [x], [casadi.sinh(x)])
    return lambda x: np.asarray(function(x)).ravel()


# --- from the command line and a configuration


TARGETS = """
import numpy as np, torch
from gradcheck import case, normal

def trusted(x):
    return np.tanh(x)

@case(x=normal(3), reference=trusted)
def right(x):
    return torch.tanh(x)

def other(x):
    return torch.tanh(x) + 1e-3
"""


def test_a_reference_by_name(tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text(TARGETS)
    (tmp_path / "gradcheck.toml").write_text(
        '[[target]]\ntarget = "beside.py:other"\ninputs = ["normal(3)"]\nreference = "beside.py:trusted"\n'
    )
    monkeypatch.chdir(tmp_path)
    for words, code in (
        (["beside.py"], 0),
        ([], 1),
        (["beside.py:other", "--input", "normal(3)", "--reference", "beside.py:trusted"], 1),
        (["beside.py:other", "--input", "normal(3)", "--reference", "beside.py:no_such"], 2),
    ):
        done = CliRunner().invoke(app, ["run", *words])
        assert done.exit_code == code, done.output
        assert ("a different value from its reference" in " ".join(done.output.split())) == (code == 1)
        if "--input" in words and code == 1:
            assert "--reference beside.py:trusted" in done.output  # in the replay
