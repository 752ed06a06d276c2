"""Who evaluates a target: one file per framework, each binding a case to a `Program`."""
