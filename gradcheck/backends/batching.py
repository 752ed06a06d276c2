"""The decision whether several evaluations or products are computed at once: when it is tried, and how much faster it must be.

Both ways are tried once and timed. Batching is used if it gives the same numbers and is faster by enough.
"""

# Batching is tried for at least this many evaluations or products.
MIN_BATCH_SIZE = 8
# It is not tried if they take less than this many seconds one by one: the try would cost more than it could save.
MIN_BATCH_SECONDS = 5e-3
# A batch may take at most this share of the time that its members take one by one.
MAX_BATCH_TIME = 0.8
# The inputs and outputs that are evaluated at once take at most this many bytes.
MAX_BATCH_BYTES = 2**22
# The products that are computed at once hold at most this many numbers, which bounds their memory.
MAX_BATCH_NUMBERS = 2**22
