"""The checks that a user asks for by name with `checks=` or `--check`."""
