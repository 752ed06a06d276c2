"""The space that is searched: sizes, dtypes, values and layouts of inputs, which leaves require gradients, and contracts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from hypothesis import strategies as st

from gradcheck.backends.flat_call import flatten_call
from gradcheck.backends.global_state import preserving
from gradcheck.backends.load_target import choose_dtype, load_backend, prepare_target
from gradcheck.errors import InputError
from gradcheck.glossary.verdicts import Reason, Verdict
from gradcheck.options import Options
from gradcheck.run.case import check_case
from gradcheck.strategies.arrays import DEFAULT_SIZES, Draw, named_size
from gradcheck.strategies.inputs import DRAWN_DTYPES, literal_inputs
from gradcheck.targets.case import Case
from gradcheck.targets.draw import collect_size_names, collect_specs, has_specs
from gradcheck.targets.framework import TargetKind, classify_target
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import Spec

REJECTION_REASONS = (Reason.TARGET_RAISED, Reason.BAD_INPUT)  # reasons of an ERROR that the input causes
LITERAL_SIZE_NAME = "size{}"  # the name of a size that the user gave as a number, so that the search can vary it
MAX_LITERAL_SIZE = 8  # For a size up to this number, all smaller sizes are tried, too.
MAX_ENUMERATED_LEAVES = 3  # For inputs of up to this many leaves, every subset is tried.


@dataclass(frozen=True)
class Space:
    """The space of a search: everything that it may vary.

    Attributes:
        inputs: the inputs of the call, with specs.
        dims: ranges of named sizes.
        dtypes: the dtypes for specs that name none.
        wrt_subsets: subsets of the leaves that may be the only ones to require gradients; none: the search does not vary it.
        contracts: whether contracts are checked on some examples.
    """

    inputs: Inputs
    dims: Mapping[str, tuple[int, int]]
    dtypes: tuple[str, ...]
    wrt_subsets: tuple[tuple[str, ...], ...] = ()
    contracts: bool = True


@dataclass(frozen=True)
class Example:
    """An example to check.

    Attributes:
        inputs: the inputs of the call, with a literal spec for each spec.
        sizes: the sizes of named dimensions.
        dtype: the dtype of specs that name none.
        wrt: the only leaves that require gradients; None: as the case says.
        contracts: whether contracts are checked, too.
    """

    inputs: Inputs
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "float64"
    wrt: tuple[str, ...] | None = None
    contracts: bool = False


@st.composite
def examples(draw: Draw, space: Space) -> Example:
    """Draw an example; the simplest has no contracts, float64, all gradients, contiguous arrays and ordinary numbers."""
    contracts = space.contracts and draw(st.booleans())
    dtype = draw(st.sampled_from(space.dtypes))
    wrt = draw(st.sampled_from(space.wrt_subsets)) if space.wrt_subsets and draw(st.integers(0, 3)) == 3 else None
    names = sorted(collect_size_names(space.inputs.values))
    sizes = {name: draw(named_size(name, space.dims)) for name in names}
    return Example(draw(literal_inputs(space.inputs, space.dims, dtype)), sizes, dtype, wrt, contracts)


def build_space(case: Case, options: Options, framework: str, command: str | None) -> Space:
    """Return what a search may vary in a case.

    Raises:
        InputError: if nothing may vary, or inputs are missing.
        TargetError: if the target cannot be constructed.
    """
    backend = load_backend(framework)
    dtype = options.dtype or choose_dtype(backend, case)
    fixed_sizes = _fixed_sizes(case, options)
    with preserving():
        target, inputs = prepare_target(
            backend, name_sizes(case, fixed_sizes), dtype or DRAWN_DTYPES[0], seed=options.seed, command=command
        )
    if not has_specs(inputs):
        raise InputError(f"nothing to search: {case.name} has no random input; give input specs, such as normal(4, 3)")
    variable_sizes = [size for size in literal_sizes(case) if size not in fixed_sizes]
    may_choose_wrt = framework == "torch" and not case.claims and case.wrt is None and not case.detached
    return Space(
        inputs,
        search_ranges(variable_sizes, options.dims),
        (dtype,) if dtype else DRAWN_DTYPES,
        tuple(leaf_subsets(_differentiable_leaves(target, inputs))) if may_choose_wrt else (),
        options.contracts,
    )


def _fixed_sizes(case: Case, options: Options) -> frozenset[int]:
    """Return the sizes given as numbers for which the function or its hand-written derivative refuses a few other sizes."""
    sizes = literal_sizes(case)
    declared = {LITERAL_SIZE_NAME.format(size): (size, size) for size in sizes}
    named_case, options = name_sizes(case), replace(options, contracts=False, trials=1)
    rejections = (*REJECTION_REASONS, *([Reason.BAD_CLAIM] if case.claims else []))

    def rejects(**changed: tuple[int, int]) -> bool:
        result = check_case(replace(named_case, options={}), replace(options, dims={**options.dims, **declared, **changed}))
        return result.verdict is Verdict.ERROR and result.reason in rejections

    def rejects_others(size: int) -> bool:
        others = (other for other in (1, 0, 2, size + 1) if other != size)
        return all(rejects(**{LITERAL_SIZE_NAME.format(size): (other, other)}) for other in others)

    if rejects():  # even the declared sizes are rejected, so this says nothing about others
        return frozenset()
    return frozenset(size for size in sizes if rejects_others(size))


def _differentiable_leaves(target: Any, inputs: Inputs) -> list[str]:
    """Return the paths of the leaves that may require gradients; none if the user's tensors say which do."""
    call = flatten_call(inputs)
    leaves = dict(zip(call.paths, call.leaves, strict=True))
    if any(getattr(leaf, "requires_grad", False) for leaf in leaves.values()):
        return []
    paths = [path for path, leaf in leaves.items() if isinstance(leaf, Spec) and _is_floating(leaf)]
    parameters = target.named_parameters() if classify_target(target) is TargetKind.MODULE else ()
    return [*paths, *(f"params[{name!r}]" for name, tensor in parameters if tensor.requires_grad)]


def _is_floating(spec: Spec) -> bool:
    return spec.kind not in ("integers", "boolean") and (spec.dtype or DRAWN_DTYPES[0]).startswith(("float", "complex"))


def name_sizes(case: Case, fixed_sizes: frozenset[int] = frozenset()) -> Case:
    """Return the case with a name in place of each size that is given as a number; equal numbers get equal names.

    Sizes of 0 and 1 stay, as users choose them on purpose: an axis of size 1 is broadcast.
    """

    def name_leaf(leaf: Any) -> Any:
        if not isinstance(leaf, Spec) or leaf.kind == "array":
            return leaf
        return replace(leaf, shape=tuple(name_size(size) for size in leaf.shape))

    def name_size(size: int | str) -> int | str:
        may_vary = isinstance(size, int) and size > 1 and size not in fixed_sizes
        return LITERAL_SIZE_NAME.format(size) if may_vary else size

    given, declared = (
        Inputs(args, kwargs).map_leaves(name_leaf)
        for args, kwargs in ((case.args, case.kwargs), (case.declared_args, case.declared_kwargs))
    )
    return replace(case, args=given.args, kwargs=given.kwargs, declared_args=declared.args, declared_kwargs=declared.kwargs)


def literal_sizes(case: Case) -> list[int]:
    """Return the sizes above 1 that the specs of a case give as numbers."""
    specs = [spec for spec in collect_specs(case.values) if spec.kind != "array"]
    return sorted({size for spec in specs for size in spec.shape if isinstance(size, int) and size > 1})


def describe_size(name: str, value: int) -> str:
    """Describe a size in words."""
    number = name.removeprefix(LITERAL_SIZE_NAME.format(""))
    return f"{value} in place of a size of {number}" if number.isdigit() and number != name else f"a {name} of {value}"


def search_ranges(sizes: list[int], dims: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Return the ranges of named sizes: those that the user gave, and from 0 upwards for sizes given as numbers."""
    # Sizes up to 4 are within the default range already.
    ranges = {LITERAL_SIZE_NAME.format(size): (0, size) for size in sizes if DEFAULT_SIZES[1] < size <= MAX_LITERAL_SIZE}
    return {**ranges, **dims}


def leaf_subsets(paths: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield proper subsets of some leaves: all subsets of a few leaves; of many leaves, each single one and all but one."""
    counts = range(1, len(paths)) if len(paths) <= MAX_ENUMERATED_LEAVES else (1, len(paths) - 1)
    for count in counts:
        yield from combinations(paths, count)
