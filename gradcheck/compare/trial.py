"""One trial: a program at one draw of its inputs, and what all comparisons made there share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.backends.flat import EPS
from gradcheck.compare.evaluator import Evaluator
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.compare.claimed_jacobians import Jacobian
    from gradcheck.compare.trial_recorder import Recorder
    from gradcheck.evidence.line import Setting
    from gradcheck.options import Options


@dataclass(frozen=True)
class Trial:
    """A program that is checked at one draw of its inputs.

    Attributes:
        evaluator: evaluates the program, and counts the evaluations.
        options: how to check.
        label: names the random streams of the trial.
        number: number of the trial within its case, from 0.
    """

    evaluator: Evaluator
    options: Options
    label: str
    number: int

    @property
    def program(self) -> Program:
        """The program that the evaluator evaluates."""
        return self.evaluator.program

    @property
    def recorder(self) -> Recorder:
        """The recorder that counts the evaluations of the trial and collects its notes."""
        return self.evaluator.recorder

    def rtol_of(self, eps: float) -> float:
        """Return the relative error that matters for claims in a dtype of relative spacing `eps`."""
        return self.options.rtol or default_rtol(eps)

    def with_setting(self, setting: Setting) -> MeasuredTrial:
        """Return the trial with its measured noise."""
        return MeasuredTrial(self.evaluator, self.options, self.label, self.number, setting)


@dataclass(frozen=True)
class MeasuredTrial(Trial):
    """A trial whose noise was measured.

    Attributes:
        setting: the noise, and the channels that the outputs are read in.
    """

    setting: Setting

    def rtol(self, *jacobians: Jacobian) -> float:
        """Return the relative error that matters: the user's, or the default of the coarsest dtype among the methods.

        In half precision it is that of float32, since the twins are compared and rounding is judged separately.
        """
        eps = max(jacobian.claim.eps if jacobian.claim else jacobian.eps for jacobian in jacobians)
        return self.rtol_of(min(eps, EPS["float32"]) if self.program.half else eps)

    @property
    def rtol_is_given(self) -> bool:
        """Whether the user set `rtol`."""
        return self.options.rtol is not None

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves that are not empty."""
        return tuple(leaf for leaf in self.program.leaves if leaf.entries)
