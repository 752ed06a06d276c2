import functools
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import torch

from gradcheck.errors import InputError
from gradcheck.targets.framework import TargetKind, classify_target, infer_framework, infer_from_arrays, read_annotations

BOTH = "import numpy as np\nimport torch\n"


class Layer(torch.nn.Module):
    def forward(self, x):
        return x * x


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * x


def function(source, name="f"):
    """Define a function in a module of its own, so that this file's imports tell nothing."""
    namespace = {"__name__": "users_module"}
    exec(source, namespace)
    return namespace[name]


# --- kinds


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (Layer, TargetKind.MODULE_CLASS),
        (torch.nn.Linear, TargetKind.MODULE_CLASS),
        (Layer(), TargetKind.MODULE),
        (Square, TargetKind.AUTOGRAD_FUNCTION),
        (Square.apply, TargetKind.FUNCTION),
        (np.sin, TargetKind.FUNCTION),
        (dict, TargetKind.FUNCTION),
        (lambda x: x, TargetKind.FUNCTION),
    ],
)
def test_modules_and_custom_functions_are_distinguished(target, kind):
    assert classify_target(target) is kind


def test_a_class_that_is_merely_called_module_is_a_function():
    assert classify_target(type("Module", (), {})) is TargetKind.FUNCTION


# --- inferred from the arrays


@pytest.mark.parametrize(
    ("leaf", "framework"),
    [
        (np.ones(2), "numpy"),
        (torch.ones(2), "torch"),
        (torch.nn.Parameter(torch.ones(2)), "torch"),
        (type("Array", (), {"__module__": "jaxlib.xla_extension", "shape": ()})(), "jax"),
    ],
)
def test_an_array_tells_its_framework_among_plain_values(leaf, framework):
    assert infer_from_arrays([1, 2.0, "mean", None, leaf]) == framework


def test_plain_values_tell_nothing():
    assert infer_from_arrays([1, 2.0, "mean", None, [1.0]]) is None


def test_arguments_of_a_framework_that_are_no_arrays_tell_nothing():
    assert infer_from_arrays([torch.ones(2), np.random.default_rng(0), np.tanh]) == "torch"


def test_arrays_of_two_frameworks_are_refused():
    with pytest.raises(InputError, match="inputs mix arrays of numpy and torch: give all of them in the framework"):
        infer_from_arrays([np.ones(2), torch.ones(2)])


def test_the_arrays_come_before_what_the_code_tells():
    uses_torch = function("import torch\ndef f(x): return torch.sum(x)")
    assert infer_framework(uses_torch, [np.ones(2)]) == "numpy"


# --- inferred from the target itself


def test_the_code_of_a_class_is_that_of_its_instances():
    call = "class Scaled:\n    def __init__(self, n): self.n = n\n    def __call__(self, x): return np.sum(self.n * x)\n"
    assert infer_framework(function(BOTH + call, "Scaled"), []) == "numpy"


@pytest.mark.parametrize("target", [Layer, Layer(), Square])
def test_torch_classes_tell_torch(target):
    assert infer_framework(target, []) == "torch"


@pytest.mark.parametrize(
    ("target", "kind"), [(Layer, "nn.Module class"), (Layer(), "nn.Module"), (Square, r"autograd\.Function")]
)
def test_a_torch_class_with_numpy_arrays_is_refused(target, kind):
    with pytest.raises(InputError, match=f"the target is a torch {kind}, but the inputs are numpy arrays: give tensors"):
        infer_framework(target, [np.ones(2)])


@pytest.mark.parametrize(
    ("target", "framework"),
    [
        (torch.nn.functional.gelu, "torch"),
        (torch.sin, "torch"),
        (torch.nn.functional.linear, "torch"),
        (np.sin, "numpy"),
        (np.linalg.norm, "numpy"),
        (scipy.special.expit, "numpy"),
        (scipy.optimize.rosen, "numpy"),
    ],
)
def test_library_functions_tell_their_framework(target, framework):
    assert infer_framework(target, []) == framework


# --- inferred from annotations


@pytest.mark.parametrize(
    ("annotation", "framework"),
    [
        ("torch.Tensor", "torch"),
        ("'torch.Tensor'", "torch"),
        ("np.ndarray", "numpy"),
        ("npt.NDArray[np.float64]", "numpy"),
        ("Float[torch.Tensor, 'n']", "torch"),
        ("Float[np.ndarray, 'n']", "numpy"),
    ],
)
def test_an_annotation_tells_the_framework(annotation, framework):
    imports = BOTH + "import numpy.typing as npt\nfrom jaxtyping import Float\n"
    assert infer_framework(function(f"{imports}def f(x: {annotation}): return x * x"), []) == framework


def test_the_annotation_of_the_result_tells_too():
    assert infer_framework(function(BOTH + "def f(x) -> torch.Tensor: return x * x"), []) == "torch"


def test_an_annotation_that_cannot_be_evaluated_leaves_it_to_the_code():
    broken = function(BOTH + "def f(x: 'Missing'): return np.sum(x)")
    assert read_annotations(broken) == {}
    assert infer_framework(broken, []) == "numpy"


# --- inferred from the names the code uses


@pytest.mark.parametrize(
    "body",
    [
        "def f(x): return np.sum(x)",
        "def f(x): return sum(np.exp(v) for v in x)",
        "def f(x): return (lambda v: np.exp(v))(x)",
        "def f(x): return g(x)\ndef g(x): return np.exp(x)",
        "def f(x): return g(x)\ndef g(x): return f(x) + h(x)\ndef h(x): return np.exp(x)",
        "W = np.eye(2)\ndef f(x): return W @ x",
        "from numpy import exp\ndef f(x): return exp(x)",
        "import numpy.linalg as la\ndef f(x): return la.norm(x)",
    ],
)
def test_the_names_in_the_code_tell_the_framework(body):
    assert infer_framework(function(BOTH + body), []) == "numpy"


@pytest.mark.parametrize("closed_over", ["torch", "torch.exp", "torch.ones(2)", "torch.nn.ReLU()", "lambda x: torch.exp(x)"])
def test_the_closure_tells_the_framework(closed_over):
    made = f"def make(value):\n  def f(x): return value\n  return f\nf = make({closed_over})"
    assert infer_framework(function(BOTH + made), []) == "torch"


def test_a_closure_that_is_not_filled_yet_is_passed_over():
    source = "def make():\n  def f(x): return later(np.sum(x))\n  return f\n  later = 1\nf = make()"
    assert infer_framework(function(BOTH + source), []) == "numpy"


def test_a_function_that_calls_itself_is_read_once():
    assert infer_framework(function(BOTH + "def f(x): return f(x - 1) + torch.sum(x)"), []) == "torch"


@pytest.mark.parametrize(
    "wrapping",
    [
        "f = functools.partial(functools.partial(g, 1), 2)",
        "f = functools.wraps(g)(lambda *args: np.asarray(g(*args)))",
        "class Call:\n  def __call__(self, x): return torch.exp(x)\nf = Call()",
        "class Method:\n  def m(self, x): return torch.exp(x)\nf = Method().m",
    ],
)
def test_the_function_inside_its_wrapping_tells(wrapping):
    assert (
        infer_framework(function(f"{BOTH}import functools\ndef g(*args): return torch.exp(args[-1])\n{wrapping}"), [])
        == "torch"
    )


# --- inferred from the module's imports, or not at all


@pytest.mark.parametrize(("imports", "framework"), [("import torch", "torch"), ("import math, numpy as np", "numpy")])
def test_where_the_code_names_none_the_modules_imports_tell(imports, framework):
    assert infer_framework(function(f"{imports}\ndef f(x): return x * x"), []) == framework


def test_a_helper_from_another_module_shows_the_framework_by_its_code_or_its_imports():
    imported = function("import numpy as np\ndef affine(x, w): return x @ w", "affine")
    used = function("import torch\nimport numpy as np\ndef affine(x, w): return torch.mm(x, w)", "affine")
    wrapper = "def f(x, w): return affine(x, w)"
    for helper, framework in ((imported, "numpy"), (used, "torch")):
        wrapping = function(wrapper)
        wrapping.__globals__["affine"] = helper
        assert infer_framework(wrapping, []) == framework


@pytest.mark.parametrize(
    "source", ["def f(x): return x * x", BOTH + "def f(x): return x * x", BOTH + "def f(x): return np.sum(torch.exp(x))"]
)
def test_where_nothing_tells_or_both_are_meant_the_user_is_asked(source):
    with pytest.raises(InputError, match="cannot tell whether 'f' takes NumPy arrays, torch tensors or JAX arrays: say which"):
        infer_framework(function(source), [])


def test_a_target_without_a_name_is_asked_about_too():
    with pytest.raises(InputError, match=r"cannot tell whether functools\.partial"):
        infer_framework(functools.partial(function("def f(x): return x * x")), [])


def test_a_target_without_code_is_asked_about_too():
    with pytest.raises(InputError, match="cannot tell whether 'sum'"):
        infer_framework(sum, [SimpleNamespace(), 1.0])


def test_a_framework_is_inferred_without_importing_any():
    used = "from gradcheck.targets import framework; framework.classify_target(len); framework.infer_from_arrays([1])"
    shown = "import sys; print({'numpy', 'torch'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", f"{used}; {shown}"], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"


def test_a_function_that_applies_a_layer_of_the_user_s_own_is_of_its_framework():
    from elementwise import layer

    own, module = layer(), torch.nn.Identity()
    assert infer_framework(lambda x: own.apply(x), []) == "torch"
    assert infer_framework(lambda x: module(x), []) == "torch"
