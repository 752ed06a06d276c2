"""Split an input of the action into arguments as a shell would, each followed by a NUL: `python split_args.py TEXT`."""

import shlex
import sys

try:
    arguments = shlex.split(sys.argv[1])
except ValueError as error:
    sys.exit(f"gradcheck: {sys.argv[1]} is not quoted as in a shell: {error}")
sys.stdout.write("".join(f"{argument}\0" for argument in arguments))
