"""Claims and estimates as arrays, compared with each other."""
