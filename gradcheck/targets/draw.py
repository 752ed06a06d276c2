"""One draw of a case's inputs: specs become arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gradcheck.seeds import make_generator
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.sizes import Sizes, collect_names
from gradcheck.targets.specs.spec import NUMPY_SUBSTITUTES, SPARSE_LAYOUTS, Spec, draw_array
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from numpy.typing import NDArray


def has_specs(inputs: Inputs) -> bool:
    """Whether the inputs contain a spec, so that another draw gives other inputs."""
    return bool(collect_specs(inputs.values))


def collect_size_names(values: Iterable[Any]) -> set[str]:
    """Collect the names among the sizes of all specs in some values."""
    sizes = [size for spec in collect_specs(values) for size in spec.shape if isinstance(size, str)]
    return {name for size in sizes for name in collect_names(size)}


def collect_specs(values: Iterable[Any]) -> list[Spec]:
    """Collect all specs in some values."""
    return [leaf for value in values for leaf in flatten(value).leaves if isinstance(leaf, Spec)]


def draw_inputs(
    inputs: Inputs,
    *,
    case: str,
    trial: int,
    seed: int,
    dims: Mapping[str, tuple[int, int]],
    dtype: str,
    convert: Callable[..., Any],
    name_stream: Callable[[str], str] = str,
) -> Inputs:
    """Draw every spec; inputs that are not specs stay as they are.

    Args:
        inputs: specs, and values that stay as they are.
        case: the label of the case that seeds derive from.
        trial: number of the trial, which seeds derive from.
        seed: seed of the run.
        dims: ranges of named sizes, both ends included.
        dtype: dtype of specs that name none.
        convert: converts a NumPy array to the target's framework. It also receives a sparse layout if the spec has one, and
            a dtype that NumPy lacks.
        name_stream: from the path of a spec to the name of the random stream that it is drawn from.

    Returns:
        The inputs with an array in place of each spec.
    """
    sizes = Sizes(dims, seed, case, trial)

    def draw_spec(spec: Spec, path: str) -> Any:
        return convert_draw(
            spec, draw_array(spec, make_generator(seed, case, trial, name_stream(path)), sizes, dtype), dtype, convert
        )

    def draw_value(value: Any, root: str) -> Any:
        flat = flatten(value, root)
        leaves = zip(flat.paths, flat.leaves, strict=True)
        return flat.rebuild([draw_spec(leaf, path) if isinstance(leaf, Spec) else leaf for path, leaf in leaves])

    args = tuple(draw_value(value, label) for value, label in zip(inputs.args, inputs.labels, strict=True))
    return Inputs(args, {name: draw_value(value, name) for name, value in inputs.kwargs.items()}, inputs.labels)


def convert_draw(spec: Spec, array: NDArray[Any], dtype: str, convert: Callable[..., Any]) -> Any:
    """Convert a drawn array to the target's framework, dtype and layout; arguments as for `draw_inputs`."""
    dtype_name, layout = spec.dtype or dtype, spec.layout if spec.layout in SPARSE_LAYOUTS else None
    if dtype_name in NUMPY_SUBSTITUTES and array.dtype == NUMPY_SUBSTITUTES[dtype_name]:
        return convert(array, layout, dtype_name)
    return convert(array, layout) if layout else convert(array)
