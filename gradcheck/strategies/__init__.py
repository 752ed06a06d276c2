"""Hypothesis strategies for the inputs of a derivative: `from gradcheck import strategies`.

    @settings(deadline=None)
    @given(x=strategies.arrays(normal("batch", 3)), w=strategies.arrays(normal(3)))
    def test_loss(x, w):
        assert_gradients(loss, x, w, gradient=gradient, drawn=True)

Arrays are small, with sizes of 0 and 1 among them. Their values are ordinary numbers on a coarse grid, where ties are likely;
zeros of both signs, denormals, large numbers and the border of the spec's domain among them; or any number. What is drawn
first is the simplest, so that failures shrink towards few contiguous ones. Equal names get equal sizes in all arrays of a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from gradcheck.backends.loading import backend_of, framework_of, natural_dtype, opened
from gradcheck.errors import InputError
from gradcheck.options import Options, overridden
from gradcheck.seeds import generator
from gradcheck.strategies.elements import special
from gradcheck.strategies.inputs import DTYPES, literal_inputs
from gradcheck.targets.case import Case, declared_on
from gradcheck.targets.draw import converted
from gradcheck.targets.framework import FRAMEWORKS
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import LAYOUTS, Spec, draw
from gradcheck.trees import tree_map

if TYPE_CHECKING:
    from gradcheck.backends.backend import Backend

__all__ = ["arrays", "from_signature", "inputs", "layouts", "special_values"]

Dims = Mapping[str, int | tuple[int, int]]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def arrays(
    spec: Any, *, dims: Dims | None = None, dtypes: Sequence[str] | None = None, framework: str = "numpy"
) -> st.SearchStrategy[Any]:
    """Arrays that a spec stands for, with special values and in every memory layout.

    Args:
        spec: such as `gradcheck.normal("batch", 3)`, or a pytree of specs. A dtype or layout that it names stays.
        dims: of named sizes, a size or a range (low, high), both included; 0 to 4 where nothing is said.
        dtypes: of specs that name none; one for all arrays of a test; float64, or what JAX computes with.
        framework: 'numpy', 'torch' for tensors, or 'jax'.

    Raises:
        UsageError: for a range or a framework that is none.
    """
    if framework not in FRAMEWORKS:
        raise InputError(f"framework={framework!r}: expected one of {', '.join(FRAMEWORKS)}")
    backend = backend_of(framework)
    natural = (backend.default_dtype(None) or DTYPES[0],)
    return _drawn(backend, Inputs((spec,), {}, ("",)), dims, dtypes or natural).map(lambda call: call[0][0])


def inputs(case: Any, *, dims: Dims | None = None, dtypes: Sequence[str] | None = None) -> st.SearchStrategy[Arguments]:
    """Inputs of a declared case, as (args, kwargs) in its framework: `fn(*args, **kwargs)`.

    Args:
        case: a function or class with one `@gradcheck.case`, or that `Case` itself.
        dims: as for `arrays`.
        dtypes: float64 and float32, or what a module's parameters are, where nothing is said.

    Raises:
        InputError: where there is no such case, or more than one.
    """
    if isinstance(case, Case):
        return _of_case(case, dims, dtypes)
    cases = declared_on(case)
    if len(cases) != 1:
        raise InputError(f"{case!r} has {len(cases)} declared cases: expected one; give a Case, or use from_signature(fn)")
    return _of_case(cases[0], dims, dtypes)


def from_signature(
    fn: Callable[..., Any], *, dims: Dims | None = None, dtypes: Sequence[str] | None = None
) -> st.SearchStrategy[Arguments]:
    """Inputs that the annotations of a function say, `Float[Tensor, "batch 3"]`, as (args, kwargs) in its framework.

    Args:
        fn: as for `gradcheck.check`.
        dims, dtypes: as for `inputs`.

    Raises:
        InputError: where a parameter has neither such an annotation nor a default.
    """
    return _of_case(Case(name=getattr(fn, "__qualname__", type(fn).__qualname__), fn=fn), dims, dtypes)


def layouts() -> st.SearchStrategy[str]:
    """Memory layouts that a spec takes as `layout=`, contiguous the simplest."""
    return st.sampled_from(LAYOUTS)


def special_values(*, dtype: str = "float64", low: float = -np.inf, high: float = np.inf) -> st.SearchStrategy[float]:
    """Numbers in [low, high) that break derivatives: zeros of both signs, ones, their neighbours, denormals, large ones.

    Args:
        dtype: 'float64' or 'float32', whose numbers they are.

    Raises:
        InputError: where the dtype is another, or low is not below high.
    """
    if dtype not in DTYPES or not low < high:
        raise InputError(f"dtype={dtype!r}, low={low!r}, high={high!r}: expected {' or '.join(DTYPES)}, and low < high")
    return special(dtype, low, high)


def _of_case(case: Case, dims: Dims | None, dtypes: Sequence[str] | None) -> st.SearchStrategy[Arguments]:
    backend = backend_of(framework_of(case))
    natural = natural_dtype(backend, case)
    _, call = opened(backend, case, natural or DTYPES[0], seed=0)
    own = case.options.get("dims", {})
    return _drawn(backend, call, {**own, **(dims or {})}, dtypes or ((natural,) if natural else DTYPES))


def _drawn(backend: Backend, call: Inputs, dims: Dims | None, dtypes: Sequence[str]) -> st.SearchStrategy[Arguments]:
    chosen = overridden(Options(), {"dims": dims or {}})
    dtype = st.shared(st.sampled_from(list(dtypes)), key="gradcheck dtype")

    def array(leaf: Any) -> Any:
        if not isinstance(leaf, Spec):
            return leaf
        return converted(leaf, draw(leaf, generator(0), {}, DTYPES[0]), DTYPES[0], backend.from_numpy)

    def made(literal: Inputs) -> Arguments:
        kwargs = {name: tree_map(array, value) for name, value in literal.kwargs.items()}
        return tuple(tree_map(array, value) for value in literal.args), kwargs

    return dtype.flatmap(lambda name: literal_inputs(call, chosen.dims, name)).map(made)
