"""JAX's checkers, answered by gradcheck."""
