"""TODO: describe."""

from __future__ import annotations

CONTRACTS = {  # what each asks; after the first six, of an autograd.Function of one's own, the last of modules as well
    "deterministic": "the function returns the same on every call",
    "inputs-intact": "the function leaves its differentiable inputs as they are",
    "linear-vjp": "the vjp of a sum of cotangents is the sum of their vjps",
    "detached": "no gradient comes through to inputs that are declared detached",
    "symmetric-hessian": "with order=2, the derivative of a vjp is symmetric",
    "double-adjoint": "with order=2, the derivative of a vjp by its cotangent is the Jacobian",
    "primal": "the outputs are the same under no_grad",
    "backward-intact": "the backward leaves cotangents, inputs and outputs as they are",
    "deterministic-backward": "the backward returns the same on every call",
    "gradient-form": "gradients have the dtype and device of their inputs",
    "some-outputs": "outputs that nobody uses (cotangent zero or None) contribute nothing",
    "requires-grad": "the gradients are the same whichever inputs want one",
    "cotangent-layout": "the gradient is the same for transposed, sliced, expanded and other cotangents",
    "input-layout": "outputs and gradients are the same for transposed, sliced and other inputs",
    "retain-graph": "a second backward through the same graph gives the same",
    "state": "another call in between does not change the gradient",
    "accumulation": "gradients add up in .grad",
    "batched-vjp": "many cotangents at once, under vmap, give what each gives",
    "checkpoint": "the gradient is the same under torch.utils.checkpoint",
    "empty-batch": "a batch without a row has gradients, too",
    "double-backward": "the backward can be differentiated again, or says that it cannot",
    "upstream": "by layer: the gradient is right of the very cotangent that the model sends back",
    "adjoint": "forward and reverse mode are adjoint: <v, J u> = <J^T v, u>",
    "autocast": "under torch.autocast the backward gives what it gives without, as far as bfloat16 can tell",
    "one-element": "a batch of one row, and inputs of a single element, have the right gradient, too",
    "opcheck": "operators registered with torch.library mutate what they declare, and have the shapes they promise",
    "compile": "outputs and gradients are the same under torch.compile",
    "train-eval": "of a module, the derivative is right in the other mode, training or evaluation, as well",
}
ASKED = ("compile",)  # contracts that are tried only where they are asked for: they take seconds
