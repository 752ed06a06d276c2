"""NumPy code as exact graphs: arrays that record what is done with them."""
