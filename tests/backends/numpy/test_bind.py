import gc
import weakref

import numpy as np
import pytest

import gradcheck
from gradcheck import ClaimError, InputError, Verdict, normal
from gradcheck.backends.time_budget import limit_preparation
from gradcheck.results import Reason


def quadratic(x):
    return np.sum(x**2)


def methods(result):
    return {(c.method, c.against) for c in result.comparisons}


def test_a_plain_numpy_function_gets_all_four_methods():
    result = gradcheck.check(quadratic, normal(3), gradient=lambda x: 2 * x, mode="full", every_entry=True)
    assert result.verdict is Verdict.PASS
    assert methods(result) == {
        ("analytic", "numeric"),
        ("analytic", "complex-step"),
        ("reverse", "numeric"),
        ("reverse", "complex-step"),
        ("analytic", "reverse"),
    }


def test_many_functions_are_traced_in_one_process():
    functions = [lambda x, k=k: np.sum(np.sin(x) * k) for k in range(12)]
    assert all(any(c.method == "reverse" for c in gradcheck.check(f, np.ones(2)).comparisons) for f in functions)


def test_if_the_code_cannot_be_traced_the_report_says_so_and_the_check_continues():
    from scipy.special import erf

    def gradient(x):
        return 2 / np.sqrt(np.pi) * np.exp(-(x**2))

    result = gradcheck.check(lambda x: np.sum(erf(x)), normal(3), gradient=gradient, mode="full", every_entry=True)
    assert result.verdict is Verdict.PASS
    assert any(note.startswith("reverse not available: PyTorch cannot trace it") for note in result.notes)


def test_a_traced_derivative_that_float_cuts_off_is_not_trusted():
    result = gradcheck.check(
        lambda x: np.sum(x**2) + float(np.sum(x)), normal(3), gradient=lambda x: 2 * x + 1, mode="full", every_entry=True
    )
    assert result.verdict is Verdict.PASS
    assert "reverse" not in {c.method for c in result.comparisons}
    assert any(note.startswith("reverse not") for note in result.notes)


def test_a_complex_step_that_abs_breaks_is_not_trusted():
    result = gradcheck.check(lambda x: np.sum(np.abs(x) * x), normal(3), gradient=lambda x: 2 * np.abs(x))
    assert result.verdict is Verdict.PASS
    assert ("analytic", "complex-step") not in methods(result)


def test_nested_inputs_and_outputs_are_leaves_by_path():
    def layer(params, x):
        return {"y": params["w"] @ x, "extra": (params["b"][0] * 2,)}

    def vjp(v, params, x):
        return {"w": np.outer(v["y"], x), "b": [2 * v["extra"][0]]}, params["w"].T @ v["y"]

    params = {"w": np.ones((2, 3)), "b": [np.ones(2)]}
    result = gradcheck.check(layer, params, normal(3), vjp=vjp)
    assert result.verdict is Verdict.PASS
    assert {c.wrt for c in result.comparisons} == {"params['w']", "params['b'][0]", "x"}


def test_a_jacobian_a_jvp_and_a_mapping_by_name_are_understood():
    matrix = np.arange(6.0).reshape(2, 3)
    assert gradcheck.check(lambda x: matrix @ x, normal(3), jacobian=lambda x: matrix).ok
    assert gradcheck.check(lambda x: matrix @ x, normal(3), jvp=lambda t, x: matrix @ t).ok
    assert gradcheck.check(lambda a, b: a @ b, normal(3), normal(3), gradient=lambda a, b: {"b": a, "a": b}).ok
    assert gradcheck.check(lambda a, b: a @ b, normal(3), normal(3), jvp=lambda t, a, b: t[0] @ b + a @ t[1]).ok
    assert not gradcheck.check(lambda x: matrix @ x, normal(3), jacobian=lambda x: 2 * matrix).ok
    assert not gradcheck.check(lambda x: matrix @ x, normal(3), jvp=lambda t, x: matrix @ t[::-1]).ok


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_the_tangent_of_a_jvp_follows_the_tree_of_its_argument(framework):
    def function(tree, y):
        return tree["n"] * tree["w"] * tree["b"][0] + y

    def jvp(tangents, tree, y):
        t, t_y = tangents
        assert t["n"] is None
        return tree["n"] * (t["w"] * tree["b"][0] + tree["w"] * t["b"][0]) + t_y

    inputs = ({"n": 3, "w": normal(2), "b": [normal(2)]}, normal(2))
    assert gradcheck.check(function, *inputs, jvp=jvp, framework=framework).verdict is Verdict.PASS
    wrong = gradcheck.check(function, *inputs, jvp=lambda t, *a: jvp(t, *a) + t[1], framework=framework)
    assert {c.wrt for c in wrong.comparisons if c.verdict is Verdict.FAIL} == {"y"}
    part_jvp = lambda t, tree, y: 3 * t["w"] * tree["b"][0]  # noqa: E731
    assert gradcheck.check(function, *inputs, jvp=part_jvp, wrt="tree['w']", framework=framework).verdict is Verdict.PASS


def test_a_jacobian_of_several_outputs_and_inputs_goes_block_by_block():
    def two(a, b):
        return a * 2, np.sum(a) * b

    def jacobian(a, b):
        return (2 * np.eye(3), np.zeros((3, 2))), (np.outer(b, np.ones(3)), np.sum(a) * np.eye(2))

    assert gradcheck.check(two, normal(3), normal(2), jacobian=jacobian).ok


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (lambda x: np.zeros((3, 1)), r"shape \(3, 1\) for x: expected \(3,\)"),
        (lambda x: np.zeros(()), r"shape \(\) for x: expected \(3,\)"),
        (lambda x: None, "returned None for x"),
        (lambda x: (x, x), r"returned 2 arrays of shape \(3,\), \(3,\): expected 1, for x \(3,\)$"),
        (lambda x: (np.sum(x**2), x), "expected 1, .*; return the gradient alone, without the value"),
        (lambda x: {"x": x, "cache": x}, r"the keys x, cache was returned: expected the differentiable inputs, x$"),
        (lambda x: 1j * x, "dtype complex128 for x: expected float64"),
        (lambda x: "text", "expected float64"),
    ],
)
def test_a_gradient_of_the_wrong_form_is_an_error_that_says_what_is_expected(gradient, message):
    result = gradcheck.check(quadratic, normal(3), gradient=gradient)
    assert (result.verdict, result.reason) == (Verdict.ERROR, Reason.BAD_CLAIM)
    with pytest.raises(ClaimError, match=message):
        raise ClaimError(result.message)


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (lambda p: {**p, "cache": p["b"]}, r"\(2,\); no input has the keys: \['cache'\]$"),
        (lambda p: {"w": p["w"]}, r"\(2,\); missing: p\['b'\]$"),
        (lambda p: (p["b"], p["w"], p["w"]), r"returned 3 arrays of shape .* \(2,\)$"),
    ],
)
def test_an_array_too_many_or_too_few_is_named(gradient, message):
    result = gradcheck.check(lambda p: np.sum(p["w"]) + np.sum(p["b"]), {"b": np.ones(3), "w": np.ones(2)}, gradient=gradient)
    assert result.reason is Reason.BAD_CLAIM
    with pytest.raises(ClaimError, match=message):
        raise ClaimError(result.message)


def test_a_gradient_of_a_vector_output_points_to_jacobian_and_vjp():
    result = gradcheck.check(lambda x: x * 2, normal(3), gradient=lambda x: 2 * np.ones(3))
    assert result.reason is Reason.BAD_CLAIM
    assert "use jacobian= or vjp=" in result.message


def test_a_scalar_input_is_differentiated_if_there_is_no_array():
    assert gradcheck.check(lambda x, n: x**2 * n, 3.0, 2, gradient=lambda x, n: 2.0 * x * n, framework="numpy").ok
    assert gradcheck.check(lambda x: x**3, np.float64(2.0), gradient=lambda x: 3 * x**2).ok


def test_integers_booleans_and_plain_values_are_not_differentiated():
    def chosen(x, index, flag, power):
        return np.sum(x[index] ** power) if flag else np.sum(x)

    result = gradcheck.check(chosen, normal(4), np.array([0, 2]), True, 3, gradient=lambda x, i, f, p: _scatter(x, i, p))
    assert result.ok
    assert {c.wrt for c in result.comparisons} == {"x"}


def _scatter(x, index, power):
    g = np.zeros_like(x)
    g[index] = power * x[index] ** (power - 1)
    return g


def test_wrt_chooses_leaves_by_name_and_by_path():
    inputs = ({"a": np.ones(2), "b": np.ones(2)}, np.ones(2))

    def total(p, x):
        return np.sum(p["a"] * p["b"] * x)

    assert gradcheck.check(total, *inputs, gradient=lambda p, x: p["a"] * x, wrt="p['b']").ok
    assert gradcheck.check(total, *inputs, gradient=lambda p, x: p["a"] * p["b"], wrt="x").ok
    with pytest.raises(InputError, match=r"wrt='y' names no input"):
        gradcheck.check(total, *inputs, wrt="y")


def test_nothing_differentiable_is_an_error_that_names_the_dtypes():
    with pytest.raises(InputError, match="no differentiable input: x is int64"):
        gradcheck.check(quadratic, np.arange(3))


@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded"])
def test_layouts_reach_the_function(layout):
    seen = set()

    def records(x):
        seen.add(x.strides)
        return np.sum(x**2)

    expected = {"transposed": (8, 32), "strided": (48, 16), "expanded": (0, 8)}[layout]
    assert gradcheck.check(records, normal(4, 3, layout=layout), gradient=lambda x: 2 * x).ok
    assert expected in seen or layout == "expanded"


def test_the_users_arrays_and_random_state_are_unchanged():
    x = np.linspace(0, 1, 5)
    x.flags.writeable = False
    kept, state = x.copy(), np.random.get_state()[1].copy()

    def draws(x):
        return np.sum(x**2) * np.random.standard_normal()

    result = gradcheck.check(draws, x)
    assert result.verdict is not Verdict.ERROR
    assert np.array_equal(x, kept)
    assert np.array_equal(np.random.get_state()[1], state)


def test_a_function_that_draws_from_the_global_generator_is_replayed():
    def noisy(x):
        return np.sum(x * np.random.standard_normal(3))

    def gradient(x):
        return np.random.standard_normal(3)

    state = np.random.get_state()
    np.random.seed(0)
    result = gradcheck.check(noisy, normal(3), jvp=None, gradient=None)
    np.random.set_state(state)
    assert result.verdict is not Verdict.FAIL
    assert next(c.verdict for c in result.contracts if c.name == "deterministic") is Verdict.PASS


class Scaled:
    def __init__(self, n):
        self.weights = np.arange(n)

    def __call__(self, x):
        return np.sum(self.weights * x**2)


def make_scaled(n):
    return lambda x: Scaled(n)(x)


@pytest.mark.parametrize("factory", [Scaled, make_scaled])
def test_a_class_or_factory_is_constructed_first(factory):
    right, wrong = (lambda x: 2 * np.arange(3) * x), (lambda x: np.arange(3) * x)
    assert gradcheck.check(factory, normal(3), init={"n": 3}, gradient=right).verdict is Verdict.PASS
    assert gradcheck.check(factory, normal(3), init={"n": 3}, gradient=wrong).verdict is Verdict.FAIL


def count_calls(x, cache):
    cache["calls"] = cache.get("calls", 0) + 1
    return np.sum(x**2)


def keep_value(x, log):
    log.append(x**2)
    return np.sum(x**2)


def replace_entry(tree):
    tree["x"] = tree["x"] ** 2
    del tree["y"]
    return np.sum(tree["x"])


@pytest.mark.parametrize(
    ("function", "inputs", "gradient"),
    [
        (count_calls, (np.ones(3), {}), lambda x, cache: 2 * x),
        (keep_value, (np.ones(3), []), lambda x, log: 2 * x),
        (replace_entry, ({"x": np.ones(3), "y": np.ones(2)},), lambda tree: {"x": 2 * tree["x"], "y": np.zeros(2)}),
    ],
)
def test_containers_that_the_function_changes_are_copies(function, inputs, gradient):
    before = str(inputs)
    for mode in ("full", "probe"):
        assert gradcheck.check(function, *inputs, gradient=gradient, mode=mode).verdict is Verdict.PASS
    assert str(inputs) == before


class Matrix(np.ndarray):
    """`*` is the matrix product, as for `np.matrix`."""

    def __mul__(self, other):
        return np.matmul(self, other)


class Length(np.ndarray):
    """An array with a unit."""

    unit = None

    def __array_finalize__(self, template):
        self.unit = getattr(template, "unit", None)


def square_in_metres(x):
    return np.sum(np.asarray(x) ** 2) * {"m": 1.0, "km": 1e6}[x.unit]


LENGTH = np.array([1.0, 2.0, 3.0]).view(Length)
LENGTH.unit = "km"


@pytest.mark.parametrize("mode", ["full", "probe"])
@pytest.mark.parametrize("factor", [1, 1.01], ids=["right", "wrong"])
@pytest.mark.parametrize(
    ("function", "x", "derivative"),
    [
        (lambda x: np.trace(x * x), np.arange(9.0).reshape(3, 3).view(Matrix), {"gradient": lambda x: 2 * x.T}),
        (lambda x: x * x, np.arange(4.0).reshape(2, 2).view(Matrix), {"vjp": lambda v, x: v * x.T + x.T * v}),
        (lambda x: x * x, np.arange(4.0).reshape(2, 2).view(Matrix), {"jvp": lambda t, x: t * x + x * t}),
        (square_in_metres, LENGTH, {"gradient": lambda x: 2e6 * np.asarray(x) if x.unit == "km" else None}),
    ],
    ids=["matrix", "matrix-vjp", "matrix-jvp", "unit"],
)
def test_classes_derived_from_arrays_are_kept(function, x, derivative, factor, mode):
    scaled = {kind: lambda *args, f=f: factor * f(*args) for kind, f in derivative.items()}
    result = gradcheck.check(function, x, **scaled, mode=mode, every_entry=mode == "full")
    assert result.verdict is (Verdict.PASS if factor == 1 else Verdict.FAIL)
    assert any(note.startswith("reverse not available: PyTorch traces plain arrays of NumPy, not ") for note in result.notes)


class Series:
    """As pandas has them."""

    dtype = np.dtype(float)

    def to_numpy(self):
        return np.ones(3)


def test_a_table_is_refused_with_the_array_to_give_and_taken_as_data():
    def scale(w, s):
        return np.sum(w * s.to_numpy())

    with pytest.raises(InputError, match=r"no differentiable input: x\[0\] is a Series \(give x\[0\]\.to_numpy\(\)\)"):
        gradcheck.check(lambda x: np.sum(x), [Series()])
    with pytest.raises(InputError, match=r"wrt='s' is not differentiable: s is a Series \(give s\.to_numpy\(\)\)"):
        gradcheck.check(scale, np.ones(3), Series(), wrt="s")
    assert gradcheck.check(scale, np.ones(3), Series(), gradient=lambda w, s: s.to_numpy()).ok


def test_a_traced_function_is_kept_only_for_a_while_and_shares_no_code():
    from gradcheck.backends.numpy import torch_tracing  # not at the top: PyTorch's compiler loads Triton

    def make():
        return lambda x: np.sum(x**2)

    first = make()
    traced, kept = torch_tracing._trace(first), weakref.ref(first)
    assert torch_tracing._trace(first) is traced
    others = [torch_tracing._trace(make()) for _ in range(torch_tracing.MAX_COMPILED)]
    codes = [function._torchdynamo_orig_callable.__code__ for function in (traced, *others)]
    assert len(set(map(id, codes))) == len(codes)
    del first, traced, others, codes
    gc.collect()
    assert kept() is None


def test_tracing_that_takes_too_long_costs_its_column_alone():
    from torch._dynamo import symbolic_convert  # not at the top: from there it would suggest PyTorch for every function

    step = symbolic_convert.InstructionTranslatorBase.step

    def check():
        return gradcheck.check(
            lambda x: np.sum(x**3), normal(3), gradient=lambda x: 3 * x**2, framework="numpy", every_entry=True
        )

    with limit_preparation(0.0):
        result = check()
    assert result.verdict is Verdict.PASS
    assert not any(method == "reverse" for method, _ in methods(result))
    assert any("does not trace it within 0 s (--budget allows more)" in note for note in result.notes)
    assert symbolic_convert.InstructionTranslatorBase.step is step
    assert ("reverse", "numeric") in methods(check())


def test_a_list_is_said_to_be_no_array():
    with pytest.raises(InputError, match=r"w is a list of numbers: pass np.array\(w, dtype=float\)"):
        gradcheck.check(lambda w: np.sum(np.array(w) ** 2), [1, 2])
    result = gradcheck.check(lambda w: np.sum(np.array(w) ** 2), [1.0, 2.0], gradient=lambda w: 2 * np.array(w))
    assert "w is a list of numbers: pass np.array(w) for one array" in result.message


def test_a_cost_with_a_cache_is_said_to_be_checked_alone():
    result = gradcheck.check(lambda w: (np.sum(w**2), {"w": w}), normal(3), gradient=lambda w: 2 * w)
    assert "check output[0] alone, as in lambda *x: f(*x)[0]" in result.message


def test_a_function_that_draws_is_said_to_draw():
    result = gradcheck.check(lambda w: np.sum(w * np.random.rand(3)), normal(3), gradient=np.zeros_like, framework="numpy")
    assert "reverse not available: the function draws from np.random, which PyTorch does not trace" in result.notes
