"""One contract checked alone."""

import numpy as np

from gradcheck.backends.torch.bind import bind
from gradcheck.checks.contracts.torch import registry
from gradcheck.compare.trial_recorder import Recorder
from gradcheck.glossary.contracts import CONTRACTS
from gradcheck.targets.case import Case
from gradcheck.targets.signature import Inputs


def check_contract_alone(contract, target, *inputs):
    """Check one contract of a target, without any other check; inputs are tensors and other values."""
    labels = tuple(f"x{k}" for k in range(len(inputs)))
    program = bind(Case(name="layer", fn=target), target, Inputs(inputs, {}, labels))
    others = [name for name in CONTRACTS if name != contract]
    (result,) = registry.check_contracts(
        program.capabilities.layer, lambda _: np.zeros(program.point.size), float, "", others, None, Recorder()
    )
    return result
