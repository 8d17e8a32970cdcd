"""Errors that the command line shows as one line."""

from __future__ import annotations

REDOWNLOAD = "get the file again"


class VQBrainError(Exception):
    """One line for the user: what is wrong, what came, what to do. Exits with 1."""

    exit_code = 1


class UnexpectedError(VQBrainError):
    """A failure inside a bundle that no component foresaw; its traceback shows where."""


class UsageError(VQBrainError):
    """The command itself cannot be right (a wrong path, an unknown value). Exits with 2."""

    exit_code = 2


class StoppedError(VQBrainError):
    """A training that a signal has ended, with a checkpoint."""


class ShownElsewhereError(VQBrainError):
    """An error that rank 0 shows: this rank ends as well, with the same exit code.

    Args:
        exit_code: of the error.
    """

    def __init__(self, exit_code: int = 1) -> None:
        super().__init__("rank 0 reports the error")
        self.exit_code = exit_code


class UnusableImageError(VQBrainError, ValueError):
    """An image that cannot be used.

    Args:
        problem: what is wrong with it.
        advice: what to do.
    """

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}: {advice}")
        self.problem, self.advice = problem, advice

    def __reduce__(self) -> tuple[type[UnusableImageError], tuple[str, str]]:
        """Worker processes send errors pickled, by default with the message as only argument."""
        return type(self), (self.problem, self.advice)


class UnavailableImageError(UnusableImageError):
    """An image that could not be read from the disk or the network, whatever its content is."""


class ComponentError(VQBrainError, ValueError):
    """A ValueError of a component whose message stands alone: the command line adds nothing."""


def printable(text: str) -> str:
    r"""The text with escapes for line breaks and other characters that cannot be shown.

    Example:
        >>> printable("sub-1\n2")
        'sub-1\\n2'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
