"""Hypothesis strategies for the inputs of a derivative: `from gradcheck import strategies`.

    @settings(deadline=None)
    @given(x=strategies.arrays(normal("batch", 3)), w=strategies.arrays(normal(3)))
    def test_loss(x, w):
        assert_gradients(loss, x, w, gradient=gradient, drawn=True)

Arrays are small; some have a size of 0 or 1. Most values are ordinary numbers on a coarse grid, where ties are likely. Some are
zeros of either sign, denormals, large numbers or borders of the spec's domain. Failures shrink towards short contiguous arrays
of ones. All arrays of a test get the same size for the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from gradcheck.backends.load_target import choose_dtype, choose_framework, load_backend, prepare_target
from gradcheck.errors import InputError
from gradcheck.options import Options, override_options
from gradcheck.seeds import make_generator
from gradcheck.strategies.elements import special_numbers
from gradcheck.strategies.inputs import DRAWN_DTYPES, literal_inputs
from gradcheck.targets.case import Case, get_declared_cases
from gradcheck.targets.draw import convert_draw
from gradcheck.targets.framework import FRAMEWORKS
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import LAYOUTS, Spec, draw_array

if TYPE_CHECKING:
    from gradcheck.backends.backend import Backend

__all__ = ["arrays", "from_signature", "inputs", "layouts", "special_values"]

Dims = Mapping[str, int | tuple[int, int]]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def arrays(
    spec: Any, *, dims: Dims | None = None, dtypes: Sequence[str] | None = None, framework: str = "numpy"
) -> st.SearchStrategy[Any]:
    """Draw arrays that fit a spec, with special values and in every memory layout.

    Args:
        spec: a spec such as `gradcheck.normal("batch", 3)`, or a pytree of specs. A dtype or layout that it names is kept.
        dims: for each named size, a size or a range (low, high), both included; default: 0 to 4.
        dtypes: the dtypes to choose from if the spec names none; all arrays of a test get the same one. Default: float64, or
            the default dtype of JAX.
        framework: 'numpy', 'torch' for tensors, or 'jax'.

    Raises:
        UsageError: if a range or the framework is invalid.
    """
    if framework not in FRAMEWORKS:
        raise InputError(f"framework={framework!r}: expected one of {', '.join(FRAMEWORKS)}")
    backend = load_backend(framework)
    default_dtypes = (backend.default_dtype(None) or DRAWN_DTYPES[0],)
    return _draw_arguments(backend, Inputs((spec,), {}, ("",)), dims, dtypes or default_dtypes).map(lambda call: call[0][0])


def inputs(case: Any, *, dims: Dims | None = None, dtypes: Sequence[str] | None = None) -> st.SearchStrategy[Arguments]:
    """Draw inputs of a declared case, as (args, kwargs) in its framework: `fn(*args, **kwargs)`.

    Args:
        case: a function or class with one `@gradcheck.case`, or that `Case` itself.
        dims: sizes or ranges by name, as for `arrays`.
        dtypes: the dtypes to choose from; default: float64 and float32, or the dtype of a module's parameters.

    Raises:
        InputError: if there is no such case, or more than one.
    """
    if isinstance(case, Case):
        return _draw_case_inputs(case, dims, dtypes)
    cases = get_declared_cases(case)
    if len(cases) != 1:
        raise InputError(f"{case!r} has {len(cases)} declared cases: expected one; give a Case, or use from_signature(fn)")
    return _draw_case_inputs(cases[0], dims, dtypes)


def from_signature(
    fn: Callable[..., Any], *, dims: Dims | None = None, dtypes: Sequence[str] | None = None
) -> st.SearchStrategy[Arguments]:
    """Draw inputs from the annotations of a function, such as `Float[Tensor, "batch 3"]`, as (args, kwargs) in its framework.

    Args:
        fn: the function, as for `gradcheck.check`.
        dims: sizes or ranges by name, as for `arrays`.
        dtypes: the dtypes to choose from, as for `inputs`.

    Raises:
        InputError: if a parameter has neither an annotation with a shape nor a default.
    """
    return _draw_case_inputs(Case(name=getattr(fn, "__qualname__", type(fn).__qualname__), fn=fn), dims, dtypes)


def layouts() -> st.SearchStrategy[str]:
    """Draw memory layouts, as a spec takes them as `layout=`; failures shrink to contiguous."""
    return st.sampled_from(LAYOUTS)


def special_values(*, dtype: str = "float64", low: float = -np.inf, high: float = np.inf) -> st.SearchStrategy[float]:
    """Draw numbers in [low, high) that often break code: zeros of both signs, ones, their neighbours, denormals, large ones.

    Args:
        dtype: the dtype that represents the numbers exactly: 'float64' or 'float32'.
        low: the lower end of the interval, included.
        high: the upper end of the interval, excluded.

    Raises:
        InputError: if the dtype is another one, or low is not below high.
    """
    if dtype not in DRAWN_DTYPES or not low < high:
        raise InputError(f"dtype={dtype!r}, low={low!r}, high={high!r}: expected {' or '.join(DRAWN_DTYPES)}, and low < high")
    return special_numbers(dtype, low, high)


def _draw_case_inputs(case: Case, dims: Dims | None, dtypes: Sequence[str] | None) -> st.SearchStrategy[Arguments]:
    """Draw inputs of a case, whose own sizes `dims` overrides."""
    backend = load_backend(choose_framework(case))
    case_dtype = choose_dtype(backend, case)
    _, call = prepare_target(backend, case, case_dtype or DRAWN_DTYPES[0], seed=0)
    case_dims = case.options.get("dims", {})
    return _draw_arguments(
        backend, call, {**case_dims, **(dims or {})}, dtypes or ((case_dtype,) if case_dtype else DRAWN_DTYPES)
    )


def _draw_arguments(backend: Backend, call: Inputs, dims: Dims | None, dtypes: Sequence[str]) -> st.SearchStrategy[Arguments]:
    """Draw the arguments of a call that contains specs; other values stay as they are."""
    ranges = override_options(Options(), {"dims": dims or {}}).dims
    dtype = st.shared(st.sampled_from(list(dtypes)), key="gradcheck dtype")

    def to_array(leaf: Any) -> Any:
        if not isinstance(leaf, Spec):
            return leaf
        return convert_draw(leaf, draw_array(leaf, make_generator(0), {}, DRAWN_DTYPES[0]), DRAWN_DTYPES[0], backend.from_numpy)

    def to_arguments(literals: Inputs) -> Arguments:
        arrays = literals.map_leaves(to_array)
        return arrays.args, dict(arrays.kwargs)

    return dtype.flatmap(lambda name: literal_inputs(call, ranges, name)).map(to_arguments)
