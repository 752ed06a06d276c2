"""What is searched: sizes, dtypes, values and layouts of the inputs, which of them want gradients, and the contracts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from gradcheck.backends.global_state import preserved
from gradcheck.backends.loading import backend_of, natural_dtype, opened
from gradcheck.errors import InputError
from gradcheck.glossary.verdicts import Reason, Verdict
from gradcheck.run.case import check_case
from gradcheck.strategies.arrays import Draw, size
from gradcheck.strategies.inputs import DTYPES, literal_inputs
from gradcheck.targets.draw import has_specs, named_sizes
from gradcheck.targets.framework import Kind, kind_of
from gradcheck.targets.signature import Inputs
from gradcheck.targets.specs.spec import Spec
from gradcheck.trees import flatten, tree_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.options import Options
    from gradcheck.targets.case import Case

REJECTED = (Reason.TARGET_RAISED, Reason.BAD_INPUT)  # of an ERROR that is the input's fault
LITERAL = "size{}"  # how a size that was given as a number is named when others are tried in its place
LARGEST = 8  # such a number up to which all below it are tried, too
PAIRS = 3  # leaves up to which every subset is tried


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        inputs: of the call, specs among them.
        dims: ranges of named sizes.
        dtypes: of specs that name none.
        wanted: subsets of the leaves that may be the only ones to want gradients; none: all of them always do.
        contracts: whether these are to be tried, too.
    """

    inputs: Inputs
    dims: Mapping[str, tuple[int, int]]
    dtypes: tuple[str, ...]
    wanted: tuple[tuple[str, ...], ...] = ()
    contracts: bool = True


@dataclass(frozen=True)
class Example:
    """One input: literal specs in the place of specs.

    Attributes:
        sizes: of named dimensions.
        wrt: the only leaves that want gradients; None: as the case says.
    """

    inputs: Inputs
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "float64"
    wrt: tuple[str, ...] | None = None
    contracts: bool = False


@st.composite
def examples(draw: Draw, space: Space) -> Example:
    """Examples of a space, the simplest first: no contracts, float64, all gradients, contiguous, ordinary numbers."""
    contracts = space.contracts and draw(st.booleans())
    dtype = draw(st.sampled_from(space.dtypes))
    wrt = draw(st.sampled_from(space.wanted)) if space.wanted and draw(st.integers(0, 3)) == 3 else None
    names = sorted(named_sizes([*space.inputs.args, *space.inputs.kwargs.values()]))
    sizes = {name: draw(size(name, space.dims)) for name in names}
    return Example(draw(literal_inputs(space.inputs, space.dims, dtype)), sizes, dtype, wrt, contracts)


def space_of(case: Case, options: Options, framework: str, command: str | None) -> Space:
    """What of a case may vary.

    Raises:
        InputError: where nothing may, or inputs are missing.
        TargetError: where the target cannot be constructed.
    """
    backend = backend_of(framework)
    natural = options.dtype or natural_dtype(backend, case)
    kept = _kept(case, options)
    with preserved():
        target, inputs = opened(backend, with_names(case, kept), natural or DTYPES[0], seed=options.seed, command=command)
    if not has_specs(inputs):
        raise InputError(f"nothing to search: {case.name} has no input that is drawn; give specs, such as normal(4, 3)")
    numbers = [k for k in numbers_in(case) if k not in kept]
    free = framework == "torch" and not case.claims and case.wrt is None and not case.detached
    return Space(
        inputs,
        ranges(numbers, options.dims),
        (natural,) if natural else DTYPES,
        tuple(subsets(_differentiable(target, inputs))) if free else (),
        options.contracts,
    )


def _kept(case: Case, options: Options) -> frozenset[int]:
    """The sizes, given as numbers, in whose place the function, or its derivative by hand, takes none of a few others."""
    numbers = numbers_in(case)
    declared = {LITERAL.format(k): (k, k) for k in numbers}
    named, options = with_names(case), replace(options, contracts=False, trials=1)
    refusals = (*REJECTED, *([Reason.BAD_CLAIM] if case.claims else []))

    def rejects(**other: tuple[int, int]) -> bool:
        chosen = replace(options, dims={**options.dims, **declared, **other})
        found = check_case(replace(named, options={}), chosen)
        return found.verdict is Verdict.ERROR and found.reason in refusals

    if rejects():
        return frozenset()
    return frozenset(
        k for k in numbers if all(rejects(**{LITERAL.format(k): (other, other)}) for other in (1, 0, 2, k + 1) if other != k)
    )


def _differentiable(target: Any, inputs: Inputs) -> list[str]:
    """Paths of the leaves that may want gradients; none where the user's tensors say which do."""
    flats = [flatten(value, root) for root, value in (*zip(inputs.labels, inputs.args, strict=True), *inputs.kwargs.items())]
    leaves = {path: leaf for flat in flats for path, leaf in zip(flat.paths, flat.leaves, strict=True)}
    if any(getattr(leaf, "requires_grad", False) for leaf in leaves.values()):
        return []
    found = [path for path, leaf in leaves.items() if isinstance(leaf, Spec) and _floating(leaf)]
    named = target.named_parameters() if kind_of(target) is Kind.MODULE else ()
    return [*found, *(f"params[{name!r}]" for name, tensor in named if tensor.requires_grad)]


def _floating(spec: Spec) -> bool:
    return spec.kind not in ("integers", "boolean") and (spec.dtype or DTYPES[0]).startswith(("float", "complex"))


def with_names(case: Case, kept: frozenset[int] = frozenset()) -> Case:
    """The case with names for the sizes that are given as numbers, equal ones for equal numbers, but for some that are kept.

    So are 0 and 1, which are chosen on purpose: an axis of size 1 is broadcast.
    """

    def named(leaf: Any) -> Any:
        if not isinstance(leaf, Spec) or leaf.kind == "array":
            return leaf
        shape = (LITERAL.format(s) if isinstance(s, int) and s > 1 and s not in kept else s for s in leaf.shape)
        return replace(leaf, shape=tuple(shape))

    return replace(
        case,
        args=tuple(tree_map(named, value) for value in case.args),
        kwargs={name: tree_map(named, value) for name, value in case.kwargs.items()},
        declared_args=tuple(tree_map(named, value) for value in case.declared_args),
        declared_kwargs={name: tree_map(named, value) for name, value in case.declared_kwargs.items()},
    )


def numbers_in(case: Case) -> list[int]:
    """The sizes that the specs of a case give as numbers, and that may be others."""
    specs = [leaf for value in case.values for leaf in flatten(value).leaves if isinstance(leaf, Spec) and leaf.kind != "array"]
    return sorted({s for spec in specs for s in spec.shape if isinstance(s, int) and s > 1})


def of_size(name: str, value: int) -> str:
    """A size in words."""
    number = name.removeprefix(LITERAL.format(""))
    return f"{value} in place of a size of {number}" if number.isdigit() and number != name else f"a {name} of {value}"


def ranges(numbers: list[int], dims: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """The ranges that are searched: the user's own, and of numbers from 0 on."""
    found = {LITERAL.format(k): (0, k) for k in numbers if 4 < k <= LARGEST}
    return {**found, **dims}


def subsets(paths: list[str]) -> Iterator[tuple[str, ...]]:
    """True subsets of some leaves: all of a few, of many the single ones and all but one."""
    counts = range(1, len(paths)) if len(paths) <= PAIRS else (1, len(paths) - 1)
    for count in counts:
        yield from combinations(paths, count)
