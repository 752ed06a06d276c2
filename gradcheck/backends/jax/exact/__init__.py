"""JAX targets as exact graphs: jaxprs of the target and of its derivative, interpreted primitive by primitive."""
