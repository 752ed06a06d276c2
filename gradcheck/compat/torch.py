"""PyTorch's checkers, answered by gradcheck."""
