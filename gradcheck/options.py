"""Options of a check, validated once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypedDict

from gradcheck.errors import UsageError
from gradcheck.glossary.contracts import CONTRACTS, ON_REQUEST

MODES = ("auto", "full", "probe")
METHODS = ("analytic", "reverse", "forward", "numeric", "complex-step")
ORDERS = (1, 2, 3)
RANKS = ("sum", "replicated", "mean")
CHECKS = ("differential", "descent", "laws", "sensitivity")
DIFFERENTIABLE_DTYPES = ("float64", "float32", "float16", "bfloat16", "complex128", "complex64")

DTYPE_ALIASES = {
    **dict.fromkeys(("double", "fp64", "f64"), "float64"),
    **dict.fromkeys(("single", "fp32", "f32"), "float32"),
    **dict.fromkeys(("half", "fp16", "f16"), "float16"),
    "bf16": "bfloat16",
    "cdouble": "complex128",
    "cfloat": "complex64",
}
# Options that other checkers have and this one does not, with what to do instead.
STEP_ADVICE = "there is no step size to set, as the steps are fitted to the function; leave it out"
TOLERANCE_ADVICE = "there is no absolute tolerance; rtol is the relative error that matters, and may be left out too"
FOREIGN_OPTIONS = {
    **dict.fromkeys(("eps", "epsilon", "step", "step_size", "stepsize", "h", "delta"), STEP_ADVICE),
    **dict.fromkeys(("atol", "tol", "tolerance"), TOLERANCE_ADVICE),
    "fast_mode": "mode='probe' checks along random directions",
    "raise_exception": "gradcheck.assert_gradients raises",
}


@dataclass(frozen=True)
class Options:
    """How to check a target.

    Attributes:
        trials: number of times that inputs are drawn; at least 1.
        seed: seed of all random numbers; not negative.
        rtol: the relative error that matters, which the evidence must also resolve; None: 1e-7 for float64 and 1e-4 for
            float32, without a demand on the resolution.
        mode: 'full' (no partial derivative stays unknown), 'probe' (random directions) or 'auto' (full while it is cheap).
        methods: the methods to compare, such as ('analytic', 'numeric'); `numeric` always is. A method that is left out costs
            nothing: without 'reverse', NumPy code is not traced by PyTorch. None: all that there are.
        dtype: dtype of drawn inputs and constructed modules; None: float64, or the dtype that the target implies.
        device: PyTorch device of the tensors and the module, such as 'cuda' or 'cuda:1'; None: where they are, or the host.
        order: 1 for first derivatives; 2 to check the derivative of the vjp, too; 3 (torch and JAX) to check its derivative.
        budget: predicted seconds that a trial may take in full mode before probes replace it, and that PyTorch may trace NumPy
            code; None: 30. If it is set, a trial that exceeds it even with probes is skipped.
        memory: bytes that a trial may hold besides the target's own; None: 2 GiB.
        contracts: whether to check the further contracts of a differentiable function, listed in CONTRACTS.
        contract: contracts to check although they are off by default, such as 'compile', or although `contracts` is False.
        no_contract: contracts to leave out.
        exact: whether to decide PyTorch's automatic differentiation exactly, too, in prime fields and with sixty digits.
            None: where rounding in float64 hides the derivative, and that costs little.
        by_layer: whether to check every layer of a module or NumPy network, or every custom rule of a JAX function, alone, on
            the inputs that it receives in the first trial.
        straight_through: whether claims pass where the function is constant around the inputs, as rounding is.
        checks: further checks besides the derivative itself: 'differential', 'descent', 'laws' and 'sensitivity'.
        optimizer: the optimiser whose step `descent` takes. `optimizer(parameters, gradients, learning_rate)` returns the
            new parameters; parameters and gradients are one array if one input is differentiable, else a tuple. May also be
            a `torch.optim.Optimizer` class. None: gradient descent.
        partners: functions of the same inputs with outputs of the same shapes, which `laws` combines with the target; none:
            the target itself at three quarters of its inputs.
        unbiased: whether claims are compared by their mean over random draws, which the derivative of the mean must equal.
        nondeterministic: whether to go on if the function returns another value on every call. The differences count as
            noise.
        every_entry: whether to estimate every partial derivative of a small input although a pass over all of them at once
            confirms the claims: for `-v`, and for the heat maps of the HTML report.
        stories: whether to record how the estimate at each worst entry was found, step by step; about 40 evaluations each.
        dims: sizes of named dimensions, each an integer or a pair (low, high), both included.
        world: number of processes of `torch.distributed` (gloo, on the CPU) to run a PyTorch target on; together they are one
            function of the inputs of all ranks. None: the target runs in this process.
        ranks: with `world`, the scalar that the code differentiates: 'sum' of the outputs of all ranks; 'replicated', one
            output that every rank returns; or 'mean', as 'sum', but gradients of the parameters are averaged over the ranks,
            as by DistributedDataParallel.
        replicated: with `world`, the inputs and parameters that all ranks share, by name or leaf path; 'params' for all
            parameters. They move on all ranks at once. With ranks='mean' all parameters that are not sharded are replicated.
    """

    trials: int = 1
    seed: int = 0
    rtol: float | None = None
    mode: str = "auto"
    methods: tuple[str, ...] | None = None
    dtype: str | None = None
    device: str | None = None
    order: int = 1
    budget: float | None = None
    memory: float | None = None
    contracts: bool = True
    contract: tuple[str, ...] = ()
    no_contract: tuple[str, ...] = ()
    exact: bool | None = None
    by_layer: bool = False
    straight_through: bool = False
    unbiased: bool = False
    nondeterministic: bool = False
    stories: bool = False
    every_entry: bool = False
    checks: tuple[str, ...] = ()
    optimizer: Callable[..., Any] | None = None
    partners: tuple[Callable[..., Any], ...] = ()
    dims: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    world: int | None = None
    ranks: str = "sum"
    replicated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validate every option.

        Raises:
            UsageError: if an option has a wrong value; the message says what was expected and what to do.
        """
        _validate_integer("trials", self.trials, least=1)
        _validate_integer("seed", self.seed, least=0)
        if self.rtol is not None and not (isinstance(self.rtol, int | float) and 0 < self.rtol < 1):
            raise UsageError(
                f"rtol={self.rtol!r}: expected a number between 0 and 1, such as 1e-6; leave it out for the sharpest check"
            )
        _validate_choice("mode", self.mode, MODES)
        if self.methods is not None:
            _validate_tuple("methods", self.methods)
            for method in self.methods:
                _validate_choice("methods", method, METHODS)
        _validate_amount("budget", self.budget, "seconds")
        _validate_amount("memory", self.memory, "bytes")
        if self.dtype is not None:
            object.__setattr__(self, "dtype", resolve_dtype_name(self.dtype))
            _validate_choice("dtype", self.dtype, DIFFERENTIABLE_DTYPES)
        if self.device is not None and not (isinstance(self.device, str) and self.device):
            raise UsageError(f"device={self.device!r}: expected a name such as 'cuda' or 'cuda:1'")
        _validate_checks(self.checks, self.optimizer, self.partners)
        _validate_contracts(self.contract, self.no_contract)
        _validate_world(self.world, self.ranks, self.replicated)
        if type(self.order) is not int or self.order not in ORDERS:
            raise UsageError(
                f"order={self.order!r}: expected 1 for first derivatives, 2 for second ones too, or 3 for third ones"
            )
        for name, (low, high) in self.dims.items():
            if not 0 <= low <= high:
                raise UsageError(f"dim {name}={low}..{high}: expected 0 <= low <= high")

    def tries(self, contract: str) -> bool:
        """Whether these options include the check of a contract."""
        return contract in self.contract or (self.contracts and contract not in (*self.no_contract, *ON_REQUEST))


class OptionArguments(TypedDict, total=False):
    """Options as keywords of a call, such as `gradcheck.check(..., trials=3)`. `Options` documents them.

    Two options are missing, because their keywords have another meaning: `budget` in a call of `gradcheck.fuzz`, and
    `nondeterministic`, whose keyword takes the reason.
    """

    trials: int
    seed: int
    rtol: float | None
    mode: str
    methods: tuple[str, ...] | list[str] | None
    dtype: str | None
    device: str | None
    order: int
    memory: float | None
    contracts: bool
    contract: tuple[str, ...] | list[str]
    no_contract: tuple[str, ...] | list[str]
    exact: bool | None
    by_layer: bool
    straight_through: bool
    unbiased: bool
    stories: bool
    every_entry: bool
    checks: tuple[str, ...] | list[str]
    optimizer: Callable[..., Any] | None
    partners: tuple[Callable[..., Any], ...] | list[Callable[..., Any]]
    dims: Mapping[str, int | tuple[int, int]]
    world: int | None
    ranks: str
    replicated: tuple[str, ...] | list[str]


def override_options(options: Options, overrides: Mapping[str, object]) -> Options:
    """Return the options with some of them replaced.

    Raises:
        UsageError: if a name is unknown or a value is wrong.
    """
    if not overrides:
        return options
    known = [f.name for f in fields(Options)]
    for name in overrides:
        if name in FOREIGN_OPTIONS:
            raise UsageError(f"unknown option {name}={overrides[name]!r}: {FOREIGN_OPTIONS[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}=?" if near else ""
            raise UsageError(f"unknown option {name}={overrides[name]!r}{hint} (options: {', '.join(known)})")
    values: dict[str, Any] = dict(overrides)
    for name in ("dtype", "seed"):
        if isinstance(values.get(name), list | tuple):
            raise _refuse_several(name, name, values[name])
    if "dims" in values:
        values["dims"] = {name: _size_range(name, size) for name, size in dict(values["dims"]).items()}
    return replace(options, **values)


def resolve_dtype_name(dtype: object) -> object:
    """Return the name of a dtype that is given by a short name, or as an object of NumPy, PyTorch or JAX."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
    name = name.removeprefix("torch.")
    return DTYPE_ALIASES.get(name, name)


def _refuse_several(text: str, option: str, values: Any) -> UsageError:
    joined = ",".join(map(str, values))
    command = f"--dim {text}={joined}" if option == "dims" else f"--{option} {joined}"
    return UsageError(
        f"{text}={list(values)!r}: a single check takes one value; call check in a loop, or have `gradcheck run ... {command}` "
        f"or @gradcheck.case(options={{{option!r}: ...}}) make a grid of cases"
    )


def _size_range(name: str, size: object) -> tuple[int, int]:
    if isinstance(size, list):
        raise _refuse_several(name, "dims", size)
    low, high = size if isinstance(size, tuple) and len(size) == 2 else (size, size)
    if type(low) is not int or type(high) is not int:
        raise UsageError(f"dims: {name}={size!r}: expected an integer or a pair (low, high) of integers")
    return low, high


def _validate_amount(name: str, value: object, unit: str) -> None:
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise UsageError(f"{name}={value!r}: expected a number of {unit}, more than 0")


def _validate_contracts(included: object, excluded: object) -> None:
    for option, names in (("contract", included), ("no_contract", excluded)):
        _validate_tuple(option, names)
        assert isinstance(names, tuple | list)
        for name in names:
            _validate_choice(option, name, tuple(CONTRACTS))
    assert isinstance(included, tuple | list)
    assert isinstance(excluded, tuple | list)
    for name in included:
        if name in excluded:
            raise UsageError(f"contract={name!r} and no_contract={name!r}: expected one of them; leave the other out")


def _validate_world(world: object, ranks: object, replicated: object) -> None:
    if world is not None:
        _validate_integer("world", world, least=1)
    _validate_choice("ranks", ranks, RANKS)
    _validate_tuple("replicated", replicated)


def _validate_checks(checks: object, optimizer: object, partners: object) -> None:
    """Validate the further checks and the functions that they need."""
    for name, value in (("checks", checks), ("partners", partners)):
        _validate_tuple(name, value)
    assert isinstance(checks, tuple | list)
    assert isinstance(partners, tuple | list)
    for check in checks:
        _validate_choice("checks", check, CHECKS)
    for name, function in (("optimizer", optimizer), *(("partners", p) for p in partners)):
        if function is not None and not callable(function):
            kind = type(function).__name__
            raise UsageError(
                f"{name}= is {_with_article(kind)}: expected a function, or a torch optimiser's class rather than an instance"
            )
    for name, value, check in (("optimizer", optimizer, "descent"), ("partners", partners, "laws")):
        if value and check not in checks:
            raise UsageError(f"{name}= is for the check {check!r}: select it with checks=({check!r},) or --checks {check}")


def _validate_tuple(name: str, value: object) -> None:
    if not isinstance(value, tuple | list):
        raise UsageError(f"{name}={value!r}: expected a tuple, as in {name}=(..., )")


def _with_article(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"


def _validate_integer(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name}={value!r}: expected an integer of at least {least}")


def _validate_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, 1)
        hint = f" did you mean {near[0]}?" if near else ""
        raise UsageError(f"{name}={value!r}:{hint} expected one of {', '.join(allowed)}")
