"""One file per law: `NAME`, and `check_law(experiment)`, which returns a `Law` or raises `NotApplicableError`."""
