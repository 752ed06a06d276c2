"""The numerical derivative and its own error. Knows only lines `t -> float64 array`; imports no framework."""
