"""The laws of a training step: model, loss, batch and optimiser together, on copies of them."""
