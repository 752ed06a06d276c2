"""Tools that several contracts use: a vjp to compare with, other memory layouts, smaller batches, silent loggers."""
