"""Code as people write it, with gradients by hand: layers with caches, networks, course exercises."""
