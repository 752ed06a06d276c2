"""Every code that a report can show, with its message and advice."""
