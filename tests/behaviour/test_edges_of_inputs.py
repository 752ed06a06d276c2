"""Inputs at the edge of what is understood: each is read rightly, or refused with one clear error."""

import functools

import numpy as np
import pytest
import torch
from jaxtyping import Float

from gradcheck.errors import SpecError, TargetError, UsageError
from gradcheck.targets.case import case, locate_source
from gradcheck.targets.discover import collect_declared_cases, import_target
from gradcheck.targets.framework import infer_framework, infer_from_arrays
from gradcheck.targets.signature import resolve_inputs
from gradcheck.targets.specs.annotations import parse_annotation
from gradcheck.targets.specs.parse import parse_spec
from gradcheck.targets.specs.sizes import Sizes
from gradcheck.targets.specs.spec import (
    array,
    boolean,
    draw_array,
    integers,
    normal,
    one_hot,
    sparse,
    triangular,
    uniform,
)


def drawn(spec, dims=None):
    return draw_array(spec, np.random.default_rng(0), Sizes(dims or {}, 0), "float64")


def test_a_nested_list_with_decimals_is_one_array():
    assert parse_spec("[[1.0, 2], [3, 4]]") == array([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize("text", ["[[1.0, 2.0], [3.0]]", "array({[1]: 2})", "normal(3, dtype='float32', dtype='float64')"])
def test_what_cannot_be_read_is_refused_with_a_caret(text):
    with pytest.raises(SpecError, match=r"\^$"):
        parse_spec(text)


def test_the_caret_counts_characters():
    with pytest.raises(SpecError) as caught:
        parse_spec("{'é': nrmal(3)}")
    line, caret = str(caught.value).splitlines()[1:]
    assert line.index("nrmal") == caret.index("^")


@pytest.mark.parametrize(
    "spec", [array([1.0, 2.0]), array([[1, 2]]), boolean(3), normal("n+1"), normal("3"), normal("n - 2")], ids=str
)
def test_the_text_of_a_spec_reads_back_as_itself(spec):
    assert parse_spec(str(spec)) == spec
    assert hash(parse_spec(str(spec))) == hash(spec)


@pytest.mark.parametrize("text", ["1+2j", "+1.0", "{-1: 2}"])
def test_signed_and_complex_literals_are_understood(text):
    assert parse_spec(text) == eval(text)


def test_kept_entries_of_a_complex_sparse_array_have_both_parts():
    values = drawn(sparse(2000, density=0.1, dtype="complex128"))
    assert np.all(values.imag[values != 0] != 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: uniform(0, float("inf"), 3),
        lambda: drawn(integers(0, 2**70, 3)),
        lambda: drawn(integers(0, 1000, 50, dtype="uint8")),
        lambda: drawn(array([1j], dtype="float64")),
        lambda: drawn(one_hot(4, "n"), {"n": (0, 0)}),
        lambda: drawn(normal("n // m"), {"m": (0, 0)}),
        lambda: triangular(3, upper="no"),
        lambda: sparse(3, density="x"),
    ],
)
def test_what_cannot_be_drawn_is_a_spec_error(make):
    with pytest.raises(SpecError):
        make()


def test_unnamed_dimensions_of_two_parameters_have_sizes_of_their_own():
    x, y = (parse_annotation(Float[torch.Tensor, "_ 3"], name) for name in "xy")
    assert x.shape[0] != y.shape[0]


def test_two_packages_of_one_name_are_not_mistaken_for_each_other(write):
    write({"a/twice/__init__.py": "", "a/twice/m.py": "w='a'", "b/twice/__init__.py": "", "b/twice/m.py": "w='b'"})
    assert import_target("a/twice/m.py:w").value == "a"
    with pytest.raises(UsageError, match="run them one at a time"):
        import_target("b/twice/m.py:w")


@pytest.mark.parametrize("text", ["raise RuntimeError('boom')", "raise SystemExit(3)"])
def test_a_subpackage_that_raises_is_named(write, text):
    write({"outer/__init__.py": "", "outer/sub/__init__.py": text})
    with pytest.raises(TargetError, match=r"outer\.sub raised"):
        collect_declared_cases(import_target("outer"))


def test_a_lazy_attribute_that_raises_is_the_targets_error(write):
    write({"lazily.py": "def __getattr__(name):\n    import not_there"})
    with pytest.raises(TargetError, match="not_there"):
        import_target("lazily:loss")


@pytest.mark.parametrize("text", ["", ".model", ":f"])
def test_a_target_without_a_module_is_a_usage_error(text):
    with pytest.raises(UsageError, match="expected module"):
        import_target(text)


def test_a_wrapped_function_is_checked_as_it_is_and_an_alias_once(write):
    write(
        {
            "wrapped.py": """
            import functools
            from gradcheck import case, normal
            def doubled(f):
                @functools.wraps(f)
                def g(x): return 2 * f(x)
                return g
            @doubled
            @case(x=normal(3))
            def f(x): return x.sum()
            alias = f
            """
        }
    )
    found = import_target("wrapped")
    cases = collect_declared_cases(found)
    assert [c.name for c in cases] == ["wrapped:f"]
    assert cases[0].fn is found.module.f


def test_positional_only_parameters_keep_their_places():
    twos = np.ones(2)

    def f(a=1, b=twos, /):
        return a

    assert resolve_inputs(f, (), {}).labels == ("a", "b")


def test_inputs_for_var_positional_keep_declared_keywords():
    def f(*xs, scale):
        return scale

    found = resolve_inputs(f, (1, 2), {}, (), {"scale": 2.0})
    assert found.kwargs == {"scale": 2.0}


def test_a_case_on_what_cannot_carry_one_is_a_usage_error():
    with pytest.raises(UsageError, match="wrap it in a function"):
        case(1)(torch.nn.functional.gelu)


def test_the_source_of_a_partial_is_that_of_its_function():
    assert locate_source(functools.partial(drawn, 1))[0] == __file__


def test_optional_annotations_and_local_imports_tell_the_framework():
    def optional(x: torch.Tensor | None):
        return x

    assert infer_framework(optional, ()) == "torch"
    namespace: dict = {}
    exec("def local(x):\n    import numpy as np\n    return np.sum(x)", namespace)
    assert infer_framework(namespace["local"], ()) == "numpy"


def test_a_numpy_scalar_beside_tensors_is_a_plain_value():
    assert infer_from_arrays([np.float64(2.0), torch.ones(2)]) == "torch"
    assert infer_from_arrays([np.float64(2.0)]) == "numpy"
