"""`gradcheck.watch`: collect the calls of your own derivatives in a block of code, to check them afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.harvest.record import Harvest
from gradcheck.import_hook import ImportHook

if TYPE_CHECKING:
    from gradcheck.results import RunResult

BUDGET = 60.0  # seconds for all checks together
LOOKED_FOR = (
    "no call found of an autograd.Function, a registered operator, an nn.Module or a custom_vjp or custom_jvp of yours,"
    " with an input that requires a gradient, outside of torch.compile"
)


class Watched:
    """What a watched block of code called.

    Attributes:
        harvest: the records of calls.
        on_framework_loaded: called when a framework is loaded and watched.
    """

    def __init__(self, include: tuple[str, ...] = ()) -> None:
        self.harvest = Harvest(include)
        self._interceptors: list[Any] = []
        self._waiting = {"torch": self._intercept_torch, "jax": self._intercept_jax}
        self._hook = ImportHook(tuple(self._waiting), self._intercept_framework)
        self._is_active = False
        self.on_framework_loaded: Callable[[], object] = lambda: None

    @property
    def not_recorded(self) -> dict[str, str]:
        """Why a target has no record, or lacks one, by its name."""
        return dict(self.harvest.left_out)

    def start(self) -> None:
        """Begin to watch. A framework that is not loaded is watched from its import on."""
        self._is_active = True
        self._hook.install()

    def stop(self) -> None:
        """Leave the program as it was before `start`; the records stay."""
        self._hook.remove()
        while self._interceptors:
            self._interceptors.pop().uninstall()
        self._is_active = False

    def check(self, *, budget: float = BUDGET, **options: Any) -> RunResult:
        """Check the derivative of every recorded call, on the copies of its inputs.

        Args:
            budget: seconds for all checks together. A call that is left over is INCONCLUSIVE, with the reason 'over-budget'.
            **options: fields of `gradcheck.Options`, such as `rtol` and `seed`.

        Returns:
            The run; `run.verdict`, `run.results` and `run.to_json()`.

        Raises:
            UsageError: if the block is still running, no call was recorded, or the budget or an option cannot be understood.
        """
        self._require_stopped("check()")
        if isinstance(budget, bool) or not isinstance(budget, (int, float)):
            raise UsageError(f"budget={budget!r}: expected a number of seconds")
        from gradcheck.harvest.check import check_records
        from gradcheck.options import Options, override_options

        run = check_records(self.harvest, override_options(Options(), options), budget)
        if not run.results:
            raise UsageError(
                "; ".join([LOOKED_FOR, *(f"not recorded: {name}: {why}" for name, why in self.not_recorded.items())])
            )
        return run

    def draft(self) -> str:
        """Return a `@gradcheck.case` for every recorded call, as text to paste above its target.

        Raises:
            UsageError: if the block is still running.
        """
        self._require_stopped("draft()")
        from gradcheck.harvest import draft

        return draft.format_cases(draft.draft_records(self.harvest))

    def draft_configuration(self) -> str:
        """Return the recorded calls as targets of a configuration, for `pyproject.toml`.

        Raises:
            UsageError: if the block is still running.
        """
        self._require_stopped("draft_configuration()")
        from gradcheck.harvest import draft

        return draft.format_configuration(draft.draft_records(self.harvest))

    def _require_stopped(self, method: str) -> None:
        if self._is_active:
            raise UsageError(f"{method} inside of `with gradcheck.watch()`: call it after the block")

    def _intercept_framework(self, package: ModuleType) -> None:
        """Intercept the calls of a framework once. If it is unlike those that we know, its import must not fail for it."""
        intercept = self._waiting.pop(package.__name__, lambda: None)
        try:
            intercept()
        except Exception as error:
            self.harvest.left_out[package.__name__] = f"its calls cannot be intercepted: {type(error).__name__}: {error}"

    def _intercept_torch(self) -> None:
        from gradcheck.harvest.torch_functions import FunctionCalls
        from gradcheck.harvest.torch_modules import ModuleCalls
        from gradcheck.harvest.torch_recorder import TorchRecorder

        recorder = TorchRecorder(self.harvest)
        self._intercept(FunctionCalls(self.harvest, recorder))
        self._intercept(ModuleCalls(self.harvest, recorder))

    def _intercept_jax(self) -> None:
        from gradcheck.harvest.jax_calls import JaxCalls

        self._intercept(JaxCalls(self.harvest))

    def _intercept(self, calls: Any) -> None:
        calls.install()
        self._interceptors.append(calls)
        self.on_framework_loaded()


@contextmanager
def watch(*, include: tuple[str, ...] | str = ()) -> Iterator[Watched]:
    """Collect the calls of your own derivatives that a block of code makes, to check them on their real inputs.

    Recorded are calls of `torch.autograd.Function`, of operators with `torch.library.register_autograd`, of `nn.Module`
    classes, and of `jax.custom_vjp` and `jax.custom_jvp` functions: the first of each kind of dtypes, shapes and layouts, at
    most 8 of one target. The results of the block, its random numbers and its gradients stay as they are.

    Args:
        include: installed packages whose code counts as yours, such as 'kornia'.

    Returns:
        A context; the `Watched` that it yields has `check()` and `draft()`, to be called after the block.
    """
    watched = Watched((include,) if isinstance(include, str) else tuple(include))
    watched.start()
    try:
        yield watched
    finally:
        watched.stop()
