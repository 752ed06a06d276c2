"""The choices a user can make for a check, validated once."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.glossary.contracts import ASKED, CONTRACTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MODES = ("auto", "full", "probe")
CHECKS = ("differential", "descent", "laws", "sensitivity")
DTYPES = ("float64", "float32", "float16", "bfloat16", "complex128", "complex64")


@dataclass(frozen=True)
class Options:
    """How to check.

    Attributes:
        trials: how many times inputs are drawn; at least 1.
        seed: of all random numbers; not negative.
        rtol: the relative error that matters, also a demand on the evidence; None: as sharp as the evidence allows.
        mode: 'full' (every partial derivative), 'probe' (random directions) or 'auto' (full while it is cheap).
        dtype: of drawn inputs and constructed modules; None: float64, or what the target says.
        device: of the tensors and the module, as 'cuda' or 'cuda:1', for PyTorch; None: where they are, or the host.
        order: 1, or 2: the derivative of the vjp is checked, too.
        budget: seconds that a trial may take in full mode, as predicted, before probes do; None: 30. Where it was set, a
            trial whose probes cannot keep it either is not made.
        memory: bytes that a trial may hold besides the target's own; None: 2 GiB.
        contracts: also check what else a differentiable function must honour, of CONTRACTS.
        contract: those that are tried although they are not by default, as 'compile', or although `contracts` is False.
        no_contract: those of them that are left out.
        by_layer: also check every submodule of a module by itself, on the inputs that it has in the first trial.
        straight_through: let claims pass where the function is constant around the inputs, as rounding is.
        checks: further ones beside the derivative's own, of 'differential', 'descent', 'laws' and 'sensitivity'.
        optimizer: whose step `descent` takes: `optimizer(parameters, gradients, learning_rate)` returns new parameters,
            all of them one array where one input is differentiable, else a tuple; or a `torch.optim.Optimizer` class.
            None: gradient descent.
        partners: functions of the same inputs, and with outputs of the same shapes, that `laws` combines the target with;
            none: the target itself at three quarters of its inputs.
        nondeterministic: go on where the function returns another value on every call; that counts as noise.
        stories: also tell how the estimate at each worst entry was found, step by step; about 40 evaluations each.
        dims: sizes of named dimensions, each an integer or a pair (low, high), both included.
    """

    trials: int = 1
    seed: int = 0
    rtol: float | None = None
    mode: str = "auto"
    dtype: str | None = None
    device: str | None = None
    order: int = 1
    budget: float | None = None
    memory: float | None = None
    contracts: bool = True
    contract: tuple[str, ...] = ()
    no_contract: tuple[str, ...] = ()
    by_layer: bool = False
    straight_through: bool = False
    nondeterministic: bool = False
    stories: bool = False
    checks: tuple[str, ...] = ()
    optimizer: Callable[..., Any] | None = None
    partners: tuple[Callable[..., Any], ...] = ()
    dims: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every choice.

        Raises:
            UsageError: with what was got, what was expected and what to do.
        """
        _integer("trials", self.trials, least=1)
        _integer("seed", self.seed, least=0)
        if self.rtol is not None and not (isinstance(self.rtol, int | float) and 0 < self.rtol < 1):
            raise UsageError(
                f"rtol={self.rtol!r}: expected a number between 0 and 1, such as 1e-6; leave it out for the sharpest check"
            )
        _one_of("mode", self.mode, MODES)
        _amount("budget", self.budget, "seconds")
        _amount("memory", self.memory, "bytes")
        if self.dtype is not None:
            _one_of("dtype", self.dtype, DTYPES)
        if self.device is not None and not (isinstance(self.device, str) and self.device):
            raise UsageError(f"device={self.device!r}: expected a name such as 'cuda' or 'cuda:1'")
        _further(self.checks, self.optimizer, self.partners)
        _named_contracts(self.contract, self.no_contract)
        if type(self.order) is not int or self.order not in (1, 2):
            raise UsageError(f"order={self.order!r}: expected 1 for first derivatives, or 2 for second ones too")
        for name, (low, high) in self.dims.items():
            if not 0 <= low <= high:
                raise UsageError(f"dim {name}={low}..{high}: expected 0 <= low <= high")

    def tries(self, contract: str) -> bool:
        """Whether a contract is to be tried."""
        return contract in self.contract or (self.contracts and contract not in (*self.no_contract, *ASKED))


def overridden(options: Options, given: Mapping[str, object]) -> Options:
    """The same options with some of them replaced.

    Raises:
        UsageError: for an unknown name or a wrong value.
    """
    known = [f.name for f in fields(Options)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}=?" if near else ""
            raise UsageError(f"unknown option {name}={given[name]!r}{hint} (options: {', '.join(known)})")
    values: dict[str, Any] = dict(given)
    if "dims" in values:
        values["dims"] = {name: _range(name, size) for name, size in dict(values["dims"]).items()}
    return replace(options, **values)


def _range(name: str, size: object) -> tuple[int, int]:
    low, high = size if isinstance(size, tuple) and len(size) == 2 else (size, size)
    if type(low) is not int or type(high) is not int:
        raise UsageError(f"dims: {name}={size!r}: expected an integer or a pair (low, high) of integers")
    return low, high


def _amount(name: str, value: object, unit: str) -> None:
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise UsageError(f"{name}={value!r}: expected a number of {unit}, more than 0")


def _named_contracts(wanted: object, unwanted: object) -> None:
    for option, names in (("contract", wanted), ("no_contract", unwanted)):
        _tuple(option, names)
        assert isinstance(names, tuple | list)
        for name in names:
            _one_of(option, name, tuple(CONTRACTS))
    assert isinstance(wanted, tuple | list)
    assert isinstance(unwanted, tuple | list)
    for name in wanted:
        if name in unwanted:
            raise UsageError(f"contract={name!r} and no_contract={name!r}: expected one of them; leave the other out")


def _further(checks: object, optimizer: object, partners: object) -> None:
    """The further checks, and the functions they are made with."""
    for name, value in (("checks", checks), ("partners", partners)):
        _tuple(name, value)
    assert isinstance(checks, tuple | list)
    assert isinstance(partners, tuple | list)
    for check in checks:
        _one_of("checks", check, CHECKS)
    for name, function in (("optimizer", optimizer), *(("partners", p) for p in partners)):
        if function is not None and not callable(function):
            kind = type(function).__name__
            raise UsageError(
                f"{name}= is {_an(kind)}: expected a function, or the class of a torch optimiser rather than one made"
            )
    for name, value, check in (("optimizer", optimizer, "descent"), ("partners", partners, "laws")):
        if value and check not in checks:
            raise UsageError(f"{name}= is for the check {check!r}: ask for it with checks=({check!r},), --checks {check}")


def _tuple(name: str, value: object) -> None:
    if not isinstance(value, tuple | list):
        raise UsageError(f"{name}={value!r}: expected a tuple, as in {name}=(..., )")


def _an(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"


def _integer(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name}={value!r}: expected an integer of at least {least}")


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, 1)
        hint = f" did you mean {near[0]}?" if near else ""
        raise UsageError(f"{name}={value!r}:{hint} expected one of {', '.join(allowed)}")
