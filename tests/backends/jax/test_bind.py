import json
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import find
from typer.testing import CliRunner

import gradcheck
from gradcheck import Reason, Verdict, normal
from gradcheck.backends.jax.arrays import use_x64
from gradcheck.backends.load_target import load_backend
from gradcheck.cli import app
from gradcheck.errors import InputError, UsageError
from gradcheck.run.runner import describe_environment
from gradcheck.strategies import arrays
from gradcheck.targets.framework import infer_framework

X = jnp.array([0.3, -1.2, 0.7], dtype=jnp.float32)


def sine(x):
    return jnp.sin(x)


def test_the_framework_is_inferred_from_arrays_classes_and_code():
    assert infer_framework(lambda x: x * 2, [X]) == "jax"
    assert infer_framework(jax.jit(lambda x: x * 2), []) == "jax"
    assert infer_framework(jax.custom_vjp(lambda x: x * 2), [np.ones(2)]) == "jax"
    assert infer_framework(sine, []) == "jax"
    assert infer_framework(sine, [np.ones(2)]) == "jax"
    assert infer_framework(lambda x: np.sin(x), [np.ones(2)]) == "numpy"


def test_mixed_and_foreign_inputs_are_refused():
    with pytest.raises(InputError, match="inputs mix arrays of jax and numpy"):
        gradcheck.check(lambda x, y: x * y, X, np.ones(3))
    with pytest.raises(InputError, match="inputs mix arrays of jax and torch"):
        gradcheck.check(lambda x, y: x * y, X, torch.ones(3))
    with pytest.raises(InputError, match="the target is a jax PjitFunction, but the inputs are torch arrays: give JAX arrays"):
        gradcheck.check(jax.jit(sine), torch.ones(3))
    with pytest.raises(InputError, match="the target is of jax, but the inputs are torch arrays"):
        gradcheck.check(sine, torch.ones(3), framework="jax")
    with pytest.raises(InputError, match=r"the target is a torch nn\.Module, but the inputs are jax arrays: give tensors"):
        gradcheck.check(torch.nn.Tanh(), X)


def test_a_missing_jax_is_reported_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "gradcheck.backends.jax.backend", raising=False)
    with pytest.raises(UsageError, match=r"framework jax: 'jax' is not installed; pip install 'gradcheck\[jax\]'"):
        load_backend("jax")


def test_float64_inputs_without_64_bits_are_noted_and_checked_in_float32():
    for inputs in (np.ones(3), normal(3, dtype="float64")):
        result = gradcheck.check(sine, inputs, framework="jax")
        assert result.verdict is Verdict.PASS
        assert any("float64 given, and checked in float32" in note for note in result.notes)
    assert not gradcheck.check(sine, normal(3)).notes
    with use_x64(True):
        assert not gradcheck.check(sine, normal(3)).notes


def test_a_donated_buffer_is_a_copy_and_a_deleted_one_is_named():
    donating = jax.jit(lambda x, n: (jnp.sin(x) * n, n + 1), donate_argnums=(0, 1))
    n = jnp.arange(3)
    assert gradcheck.check(donating, X, n).verdict is Verdict.PASS
    assert not X.is_deleted()
    assert not n.is_deleted()
    gone = jnp.array(X, copy=True)
    gone.delete()
    with pytest.raises(InputError, match="x was deleted: a function that it was donated to"):
        gradcheck.check(sine, gone)


def test_a_tracer_is_refused():
    def inside(x):
        with pytest.raises(InputError, match="x is a tracer: expected an array; call gradcheck outside of jit"):
            gradcheck.check(sine, x)
        return x

    jax.jit(inside)(X)


def test_a_leaked_tracer_is_named():
    kept = []

    def leaking(x):
        kept.append(x)
        return kept[-2] * x if len(kept) > 1 else x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns about a float64 tracer without 64 bits.
        result = gradcheck.check(leaking, X)
    assert result.reason is Reason.TARGET_RAISED
    assert "UnexpectedTracerError" in result.message
    assert "the function stores an array that JAX was tracing" in result.message


def test_numpy_calls_inside_a_function_of_jax_arrays_are_reported():
    result = gradcheck.check(lambda x: jnp.sum(np.sin(x)), X)
    assert result.reason is Reason.DERIVATIVE_RAISED
    assert "call jax.numpy in the function" in result.message


def test_a_tracer_that_leaked_before_is_named():
    kept = []
    jax.jit(lambda x: kept.append(x) or x)(X)
    result = gradcheck.check(lambda x: jnp.sin(x) * kept[0], X)
    assert result.reason is Reason.TARGET_RAISED
    assert "the function stores an array that JAX was tracing" in result.message


@pytest.mark.parametrize(("function", "inputs", "said"), [
    (sine, (normal(3, 2, layout="sparse_coo"),), "layout='sparse_coo' is for torch targets: JAX arrays are dense"),
    (sine, (jnp.arange(3),), "no differentiable input: x is int32"),
])  # fmt: skip
def test_unusable_inputs_are_refused(function, inputs, said):
    with pytest.raises(InputError, match=said):
        gradcheck.check(function, *inputs, framework="jax")


def test_an_exception_of_the_users_code_is_reported_with_its_lines():
    def raising(x, g):
        raise KeyError("lost")

    rule = jax.custom_vjp(jnp.sin)
    rule.defvjp(lambda x: (jnp.sin(x), x), raising)
    result = gradcheck.check(rule, X)
    assert result.reason is Reason.DERIVATIVE_RAISED
    assert "KeyError: 'lost'" in result.message
    assert "in raising" in result.traceback
    assert "JAX_TRACEBACK_FILTERING" not in result.traceback
    assert (result.claim_file, result.claim_line) == (__file__, raising.__code__.co_firstlineno)


def test_a_function_with_python_branches_is_evaluated_without_jit():
    result = gradcheck.check(lambda x: jnp.sin(x) if x[0] > 0 else jnp.cos(x), X)
    assert result.verdict is Verdict.PASS


def test_a_note_says_that_the_value_differs_under_jit():
    result = gradcheck.check(lambda x: x * (2.0 if isinstance(x, jax.core.Tracer) else 3.0), X)
    assert result.verdict is Verdict.FAIL
    assert any("evaluated without jit" in note for note in result.notes)


def test_labels_and_options_are_passed_on_unchanged():
    def loss(x, labels, axis, mask):
        return -jnp.mean(jax.nn.log_softmax(x, axis=axis)[labels] * mask[: len(mask)])

    result = gradcheck.check(loss, X, np.array([0, 2]), 0, jnp.array([True, False]), framework="jax")
    assert result.verdict is Verdict.PASS
    assert {c.wrt for c in result.comparisons} == {"x"}


def test_64_bits_that_a_target_enables_are_disabled_again():
    def enabling(x):
        jax.config.update("jax_enable_x64", True)
        return jnp.sin(x)

    gradcheck.check(enabling, X)
    assert not jax.config.jax_enable_x64


def test_the_environment_names_jax_and_strategies_draw_its_arrays():
    assert describe_environment()["jax"] == jax.__version__
    found = find(arrays(normal(3), framework="jax"), lambda x: bool(x[0] > 0))
    assert isinstance(found, jax.Array)
    assert found.dtype == jnp.float32


def test_the_command_line(tmp_path):
    path = tmp_path / "jax_target.py"
    path.write_text("import jax, jax.numpy as jnp\n@jax.custom_jvp\ndef f(x): return jnp.sin(x)\n"
                    "f.defjvp(lambda p, t: (jnp.sin(p[0]), -jnp.cos(p[0]) * t[0]))\ndef g(x): return x * 2\n")  # fmt: skip
    wrong = CliRunner().invoke(app, ["run", f"{path}:f", "--input", "normal(3)", "--json", "-"])
    assert wrong.exit_code == 1
    (result,) = json.loads(wrong.stdout)["results"]
    assert (result["framework"], result["verdict"]) == ("jax", "FAIL")
    right = CliRunner().invoke(app, ["run", f"{path}:g", "--framework", "jax", "--input", "normal(3)"])
    assert right.exit_code == 0, right.output


def test_a_check_of_jax_loads_no_torch():
    code = (
        "import sys, jax.numpy as jnp, gradcheck;"
        "assert gradcheck.check(lambda x: jnp.sin(x), jnp.ones(2), order=2, checks=('laws',)).ok;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
