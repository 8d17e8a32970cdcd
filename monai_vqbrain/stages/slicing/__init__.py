"""Scans to stacks of slices: the parts of `prepare` and `check`."""
