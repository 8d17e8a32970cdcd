"""What the project raises when a person can do something about it."""

from __future__ import annotations


class VQBrainError(Exception):
    """One line for a person: what is wrong, what came, what to do. Exits with 1."""

    exit_code = 1


class UsageError(VQBrainError):
    """The command itself cannot be right (a wrong path, an unknown value). Exits with 2."""

    exit_code = 2


class ComponentError(VQBrainError, ValueError):
    """A ValueError of a component whose message stands alone: the command line adds nothing."""
