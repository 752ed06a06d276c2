"""The laws of a training step by name, each with what it requires, in the order of the report."""

from __future__ import annotations

LAWS = {
    "micro-batches": "gradients accumulated over unequal parts of a batch equal the gradient of the whole batch",
    "receives": "every trainable parameter receives a gradient, is in the optimiser and moves; frozen ones do not move",
    "permuted": "another order of the samples changes neither the loss nor its gradient",
    "per-sample": "a sample gives the same alone and in its batch, and the samples' gradients add up to the batch's",
    "scaling": "a scaled loss gives scaled gradients; unscaling and clipping happen in this order, once each",
    "directional": "the loss changes along the gradient and along the optimiser's step as the gradient predicts",
    "resumed": "a step whose state is saved and loaded continues bit for bit",
    "checkpointed": "the gradient is the same with and without activation checkpointing, over two steps",
    "autocast": "under bfloat16 autocast the gradient is as accurate as a plain implementation's, over two steps",
    "compiled": "the gradient is the same under torch.compile",
    "norms": "the size of the gradient in each layer, without a verdict",
}
