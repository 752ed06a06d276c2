"""What all comparisons of one trial share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.backends.flat import EPS
from gradcheck.verdict.interval import default_rtol

if TYPE_CHECKING:
    from gradcheck.backends.flat import Leaf
    from gradcheck.backends.program import Program
    from gradcheck.compare.evaluator import Evaluator
    from gradcheck.compare.jacobians import Rows
    from gradcheck.evidence.line import Setting
    from gradcheck.options import Options


@dataclass(frozen=True)
class Bench:
    """What all comparisons of one trial share."""

    program: Program
    evaluator: Evaluator
    setting: Setting
    options: Options
    label: str
    trial: int

    def rtol(self, *rows: Rows) -> float:
        """The relative error that matters: the user's, or the default of the dullest dtype among the methods.

        In half precision that of float32: what is compared are the twins, and rounding is judged apart.
        """
        eps = max(r.claim.eps if r.claim else r.eps for r in rows)
        return self.rtol_of(min(eps, EPS["float32"]) if self.program.half else eps)

    def rtol_of(self, eps: float) -> float:
        """The same for claims in a dtype of relative spacing `eps`."""
        return self.options.rtol or default_rtol(eps)

    @property
    def demanded(self) -> bool:
        """Whether the user set rtol."""
        return self.options.rtol is not None

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves that hold an entry."""
        return tuple(leaf for leaf in self.program.leaves if leaf.entries)
