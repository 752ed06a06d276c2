"""JAX's checkers, answered by gradcheck.

Change `from jax.test_util import check_grads` to `from gradcheck.compat.jax import check_grads`. The functions have the
arguments of the originals.
"""

from gradcheck.compat.jax.drop_ins import CHECKERS, check_grads, check_jvp, check_vjp

__all__ = ["CHECKERS", "check_grads", "check_jvp", "check_vjp"]
