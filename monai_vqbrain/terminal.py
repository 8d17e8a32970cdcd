"""What the command line shows: messages of the package, warnings and errors in colour."""

from __future__ import annotations

import logging
import os
import re

import click

from monai_vqbrain.errors import printable

COLOURS = {logging.WARNING: "yellow", logging.ERROR: "red"}


class Terminal(logging.Handler):
    """Shows the package's messages: results on standard output, warnings and errors beside it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message; the colour goes where the output is no terminal."""
        if getattr(record, "routine", False) and self.level > logging.DEBUG:
            return
        text, colour = record.getMessage(), COLOURS.get(record.levelno)
        if record.levelno >= logging.WARNING:
            text = f"{click.style(record.levelname.capitalize() + ':', fg=colour)} {text}"
        click.echo(text, err=record.levelno >= logging.WARNING)


def configure_logging(verbosity: int) -> None:
    """Show messages from WARNING (-1), INFO (0) or DEBUG (1) on.

    Libraries stay quiet unless everything is shown: ignite also logs every error that is raised.
    """
    package = logging.getLogger("monai_vqbrain")
    package.setLevel(logging.DEBUG if verbosity > 0 else logging.INFO)
    package.propagate = False
    package.handlers = [one for one in package.handlers if not isinstance(one, Terminal)]
    terminal = Terminal({-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}[verbosity])
    package.addHandler(terminal)
    for library in ("ignite", "monai"):
        logging.getLogger(library).setLevel(logging.INFO if verbosity > 0 else logging.CRITICAL)


def is_first_rank() -> bool:
    """Whether this is the process that speaks, of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def show_error(message: str) -> None:
    """Show an error as one line, whatever characters a path or cell in it has."""
    line = printable(re.sub(r"\s*[\n\r\t]\s*", " ", message))
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {line}", err=True)
