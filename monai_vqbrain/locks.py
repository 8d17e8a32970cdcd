"""Locks of folders between processes: one that replaces a folder, or any number that read it.

They are locks of the operating system (`flock`), which end with their process however it ends. The
lock file beside a folder names the processes that hold it, for the message to others.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from monai_vqbrain.errors import VQBrainError

try:
    import fcntl
except ImportError:  # on Windows, where only the locks of writers are kept
    fcntl = None  # type: ignore[assignment]

MOST_HOLDERS = 20  # that a lock file names
_held: dict[Path, FileLock] = {}  # by folder; a lock without a reference would be released


def lock_file(folder: Path) -> Path:
    """The lock file of a folder: `R/.4-codes.lock` for `R/4-codes`."""
    return folder.with_name(f".{folder.name}.lock")


def lock(folder: Path) -> None:
    """Lock a folder for writing, against readers and writers in other processes, until `unlock`.

    Raises:
        VQBrainError: if another process has locked it, naming its command.
    """
    folder = folder.absolute()
    if is_locked(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    found = _held.setdefault(folder, FileLock(lock_file(folder)))
    try:
        found.acquire(timeout=0)
    except Timeout as error:
        raise _in_use(folder) from error
    _write_holders(lock_file(folder), [])


def is_locked(folder: Path) -> bool:
    """Whether this process has locked a folder for writing."""
    folder = folder.absolute()
    return folder in _held and _held[folder].is_locked


def unlock(folder: Path) -> None:
    """End the lock of this process for writing, if there is one."""
    found = _held.pop(folder.absolute(), None)
    if found is not None:
        found.release()


@contextmanager
def reading(folders: Iterable[Path]) -> Iterator[None]:
    """Keep other processes from replacing folders in this block; any number may read them.

    Folders in which no lock file can be made are read without a lock: those of a run that others
    may only read, and of a file system without locks.

    Raises:
        VQBrainError: if another process is replacing one of them, naming its command.
    """
    with ExitStack() as stack:
        for folder in folders:
            number = _open(lock_file(folder.absolute()))
            if number is not None:
                stack.callback(os.close, number)  # which ends the lock
                _share(number, folder.absolute())
        yield


def _open(path: Path) -> int | None:
    """Open a lock file, made if needed; None where that is not possible."""
    if fcntl is None or not path.parent.is_dir():
        return None
    with suppress(OSError):
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with suppress(OSError):
        return os.open(path, os.O_RDONLY)
    return None


def _share(number: int, folder: Path) -> None:
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if not is_locked(folder):  # else this process is both
            raise _in_use(folder) from error
    except OSError:  # no locks on this file system
        return
    _write_holders(lock_file(folder), _holders(lock_file(folder)))


def _in_use(folder: Path) -> VQBrainError:
    holders = _holders(lock_file(folder))
    holder = "another process"
    if holders:
        process, host, command = holders[-1].split("\t", 2)
        holder = f"`{command}` (process {process} on {host})"
    return VQBrainError(
        f"{folder} is in use by {holder}: wait until it has ended, or use another run folder"
    )


def _holders(path: Path) -> list[str]:
    """The lines of a lock file whose processes may be alive: process, host, command."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return [line for line in lines if line.count("\t") >= 2 and _may_live(line)][-MOST_HOLDERS:]


def _may_live(line: str) -> bool:
    process, host, _ = line.split("\t", 2)
    if not process.isdecimal():
        return False
    if host != platform.node() or os.name != "posix":
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _write_holders(path: Path, others: list[str]) -> None:
    """Name this process, and others, in a lock file."""
    line = f"{os.getpid()}\t{platform.node()}\t{command_line()}"
    lines = [*(other for other in others if other != line), line]
    with suppress(OSError), path.open("r+", encoding="utf-8") as file:
        file.write("".join(f"{each}\n" for each in lines))
        file.truncate()


def command_line() -> str:
    """The current command, quoted for a shell, in one line."""
    program = Path(sys.argv[0])
    words = [program.name]
    if program.name == "__main__.py":
        module = "monai.bundle" if program.parent.name == "bundle" else program.parent.name
        words = ["python", "-m", module]
    return shlex.join([*words, *sys.argv[1:]])
