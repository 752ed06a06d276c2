"""HIPS autograd's checkers, answered by gradcheck."""
