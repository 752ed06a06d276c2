"""Forms in which people write gradients, turned into a function and a derivative of it that a backend can bind."""
