"""The run folder on disk: its records, and what later stages read back from it."""
