"""One file per law: `NAME`, and `check_law(bench)`, which returns a `Law` or raises `NotApplicableError`."""
