"""The contracts by name, each with what it requires.

The first nine apply to every target. The others apply to a user's own `autograd.Function`. Three of them,
`deterministic-backward`, `retain-graph` and `state`, apply to hand-written derivatives too, and the last one to modules.
"""

from __future__ import annotations

CONTRACTS = {
    "deterministic": "the function returns the same value on every call",
    "inputs-intact": "the function and a hand-written derivative leave their inputs unchanged",
    "own-derivative": "a derivative that you wrote is compared, if there is one",
    "linear-vjp": "the vjp of a sum of cotangents is the sum of their vjps",
    "linear-jvp": "the jvp of 2t is 2 jvp(t), and that of -t is -jvp(t)",
    "detached": "no gradient reaches inputs that are declared detached",
    "depends": "outputs and gradients depend on nothing but what `depends=` declares",
    "symmetric-hessian": "with order=2, the derivative of a vjp is symmetric",
    "double-adjoint": "with order=2, the derivative of a vjp with respect to its cotangent is the Jacobian",
    "primal": "the outputs are the same under no_grad",
    "backward-intact": "the backward leaves cotangents, inputs and outputs unchanged",
    "deterministic-backward": "the backward returns the same gradients on every call",
    "gradient-form": "gradients have the dtype and device of their inputs",
    "some-outputs": "unused outputs (cotangent zero or None) contribute nothing",
    "requires-grad": "the gradients do not depend on which inputs require one",
    "cotangent-layout": "the gradient is the same for transposed, sliced, expanded and other cotangents",
    "input-layout": "outputs and gradients are the same for transposed, sliced and other inputs",
    "retain-graph": "a second backward through the same graph gives the same gradients",
    "state": "another call in between does not change the gradient",
    "accumulation": "gradients add up in .grad",
    "batched-vjp": "a batch of cotangents under vmap gives the same gradients as one cotangent at a time",
    "checkpoint": "the gradient is the same under torch.utils.checkpoint",
    "empty-batch": "a batch without rows has gradients too",
    "double-backward": "the backward can be differentiated again, or says that it cannot",
    "upstream": "by layer: the gradient is right for the cotangent that the model sends back",
    "adjoint": "forward and reverse mode are adjoint: <v, J u> = <J^T v, u>",
    "autocast": "under torch.autocast the backward gives the same gradients as without it, up to the precision of bfloat16",
    "one-element": "a batch of one row, and inputs of a single element, have the right gradient too",
    "opcheck": "operators registered with torch.library mutate what they declare, and have the shapes they promise",
    "compile": "outputs and gradients are the same under torch.compile",
    "train-eval": "the derivative of a module is right in the other mode too, training or evaluation",
}
ON_REQUEST = ("compile",)  # contracts that take seconds: they are tried only if they are selected by name
