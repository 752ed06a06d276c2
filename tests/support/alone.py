"""One contract tried by itself."""

import numpy as np

from gradcheck.backends.torch.bind import bind
from gradcheck.checks.contracts.torch import registry
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.targets.case import Case
from gradcheck.targets.signature import Inputs


def alone(contract, target, *inputs):
    """What a contract says of a target, whatever anything else would; inputs are tensors and plain values."""
    labels = tuple(f"x{k}" for k in range(len(inputs)))
    program = bind(Case(name="layer", fn=target), target, Inputs(inputs, {}, labels))
    others = [name for name in CONTRACTS if name != contract]
    (found,) = registry.examine(program.layer, lambda _: np.zeros(program.point.size), "", others, None, [])
    return found
