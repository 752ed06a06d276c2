"""Five layers with gradients of their own."""
