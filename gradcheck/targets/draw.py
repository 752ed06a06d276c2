"""From specs to arrays: one draw of a case's inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck.seeds import generator
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.sizes import Sizes, names_in
from gradcheck.targets.specs.spec import (
    HOST,
    SPARSE,
    Spec,
    draw,
)
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray


def has_specs(inputs: Inputs) -> bool:
    """Whether another draw would give other inputs."""
    return any(isinstance(leaf, Spec) for value in (*inputs.args, *inputs.kwargs.values()) for leaf in flatten(value).leaves)


def named_sizes(values: Iterable[Any]) -> set[str]:
    """The names among the sizes of some specs."""
    specs = [leaf for value in values for leaf in flatten(value).leaves if isinstance(leaf, Spec)]
    return {name for spec in specs for size in spec.shape if isinstance(size, str) for name in names_in(size)}


def draw_inputs(
    inputs: Inputs,
    *,
    case: str,
    trial: int,
    seed: int,
    dims: Mapping[str, tuple[int, int]],
    dtype: str,
    convert: Callable[..., Any],
) -> Inputs:
    """Draw every spec; what is no spec stays as it is.

    Args:
        case: name that the seeds derive from.
        dims: ranges of named sizes.
        dtype: of specs that name none.
        convert: from NumPy to the target's framework; a second argument is a sparse layout, where one is asked for, a third
            a dtype that NumPy has not.
    """
    sizes = Sizes(dims, seed, case, trial)

    def one(spec: Spec, path: str) -> Any:
        return converted(spec, draw(spec, generator(seed, case, trial, path), sizes, dtype), dtype, convert)

    def drawn(value: Any, root: str) -> Any:
        flat = flatten(value, root)
        return flat.rebuild(
            [one(leaf, path) if isinstance(leaf, Spec) else leaf for path, leaf in zip(flat.paths, flat.leaves, strict=True)]
        )

    args = tuple(drawn(value, label) for value, label in zip(inputs.args, inputs.labels, strict=True))
    return Inputs(args, {name: drawn(value, name) for name, value in inputs.kwargs.items()}, inputs.labels)


def converted(spec: Spec, array: NDArray[Any], dtype: str, convert: Callable[..., Any]) -> Any:
    """What was drawn, in the target's framework, dtype and layout; arguments as for `draw_inputs`."""
    named, layout = spec.dtype or dtype, spec.layout if spec.layout in SPARSE else None
    if named in HOST and array.dtype == HOST[named]:
        return convert(array, layout, named)
    return convert(array, layout) if layout else convert(array)
