"""Splits an input of the action into words as a shell would, each ended by a NUL: `python words.py TEXT`."""

import shlex
import sys

try:
    words = shlex.split(sys.argv[1])
except ValueError as error:
    sys.exit(f"gradcheck: {sys.argv[1]} is not quoted as in a shell: {error}")
sys.stdout.write("".join(f"{word}\0" for word in words))
