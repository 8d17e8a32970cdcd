"""One command on several processes that torchrun started: rank 0 leads, the others help.

Only rank 0 reads options, takes locks, writes and shows messages. The others wait for work from it:
a function to call for single batches (`spread`), or one that computes a share of the batches by
itself (`Team.start`). Results are returned in the order of the batches, so that rank 0 continues
as if it had computed them all.

The ranks talk over sockets of their own. No process group of torch.distributed is made: metrics and
handlers on rank 0 see all batches, and must not add up over ranks.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import pickle
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import wraps
from multiprocessing.connection import Client, Connection, Listener
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from monai_vqbrain.errors import ShownElsewhereError, UnexpectedError, VQBrainError

if TYPE_CHECKING:
    import torch

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # of torchrun's processes
ASSEMBLY = timedelta(minutes=5)  # that ranks may take to import and to find each other

Options = ParamSpec("Options")
Result = TypeVar("Result")
Batch = TypeVar("Batch")
Answer = TypeVar("Answer")
Share = Callable[[int, int, Callable[[Any], None]], None]  # rank, ranks, what sends an output

_leading: list[Team] = []  # the team of the command that runs, if any
_numbers = itertools.count()  # of the teams that this process has been in


def on_all_ranks(stage: Callable[Options, Result]) -> Callable[Options, Result]:
    """Have rank 0 run a stage while the other ranks help it; all return the stage's result.

    Without torchrun this is the stage itself.

    Args:
        stage: a function with a result that can be pickled.
    """

    @wraps(stage)
    def run(*args: Options.args, **kwargs: Options.kwargs) -> Result:
        ranks = int(os.environ.get("WORLD_SIZE", "1"))
        if ranks == 1 or _leading:
            return stage(*args, **kwargs)
        if int(os.environ["RANK"]):
            result: Result = _help()
            return result
        with _assembled_team(ranks) as team:
            team.result = stage(*args, **kwargs)
        return team.result

    return run


def spread(function: Callable[[Batch], Answer], batches: Iterable[Batch]) -> Iterator[Answer]:
    """Call a function for each batch, shared over the ranks of this command.

    Args:
        function: it does not depend on other batches; with several ranks, it can be pickled.
        batches: its arguments, likewise; they are taken one round ahead.

    Yields:
        The results, in the order of the batches.
    """
    if not _leading:
        yield from map(function, batches)
        return
    team, rest = _leading[0], iter(batches)
    team.tell("function", function)
    batches_of_round = list(itertools.islice(rest, team.ranks))
    team.ask(batches_of_round[1:])
    while batches_of_round:
        others = range(1, len(batches_of_round))
        results = [function(batches_of_round[0]), *(team.receive(rank) for rank in others)]
        batches_of_round = list(itertools.islice(rest, team.ranks))
        team.ask(batches_of_round[1:])  # they compute while this rank uses the results
        yield from results


def current_team() -> Team | None:
    """The team that this process leads; None without one."""
    return _leading[0] if _leading else None


class Team:
    """Messages from rank 0 to the others, and their answers.

    Args:
        connections: to ranks 1, 2, ...
    """

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.connections = list(connections)
        self.ranks = 1 + len(self.connections)
        self.share: Share | None = None  # of the evaluator that a bundle is about to run
        self.result: Any = None  # of the stage

    def start(self, share: Share) -> None:
        """Have each rank compute its share; its outputs are returned by `receive`."""
        self.tell("share", share)

    def ask(self, batches: Sequence[Any]) -> None:
        """Give one batch to each of the first ranks, for the function that all have received."""
        for connection, batch in zip(self.connections, batches, strict=False):
            _send(connection, "batch", batch)

    def tell(self, what: str, content: Any) -> None:
        """Send the same message to all ranks."""
        for connection in self.connections:
            with suppress(OSError):  # `receive` reports that a rank has ended
                _send(connection, what, content)

    def receive(self, rank: int) -> Any:
        """The next answer of a rank.

        Raises:
            VQBrainError: the rank's own error, or if it has ended without one.
        """
        try:
            what, content = _receive(self.connections[rank - 1])
        except (EOFError, OSError) as error:
            raise VQBrainError(
                f"rank {rank} has ended without an answer (it was killed, or lacked memory): "
                "start the command again"
            ) from error
        if what == "error":
            raise content
        return content


@contextmanager
def _assembled_team(ranks: int) -> Iterator[Team]:
    """Lead the other ranks until the block ends, and tell them how it ended."""
    store, host = _rendezvous()
    key = secrets.token_bytes(32)
    with _as_one_process(), Listener((host, 0), authkey=key) as listener:
        store.set("leader", json.dumps([listener.address[1], key.hex()]))
        with _meeting():
            store.wait([f"rank {rank}" for rank in range(1, ranks)], ASSEMBLY)
        found = dict(_greeted(listener) for _ in range(1, ranks))
        team = Team([found[rank] for rank in range(1, ranks)])
        _leading.append(team)
        try:
            yield team
        except BaseException as error:
            team.tell("failed", getattr(error, "exit_code", 1))
            raise
        else:
            team.tell("done", team.result)
        finally:
            _leading.clear()
            for connection in team.connections:
                connection.close()


def _greeted(listener: Listener) -> tuple[int, Connection]:
    connection = listener.accept()
    return int(_receive(connection)[1]), connection


def _help() -> Any:
    """Do what rank 0 asks for until its stage is done; return the stage's result.

    Raises:
        ShownElsewhereError: if the stage has failed, here or on rank 0, which shows why.
        VQBrainError: if rank 0 has ended without a message.
    """
    rank, ranks, local = (int(os.environ[name]) for name in VARIABLES[:3])
    store, host = _rendezvous()
    with _meeting():
        port, key = json.loads(store.get("leader"))
    store.set(f"rank {rank}", "here")
    connection = Client((host, port), authkey=bytes.fromhex(key))
    _use_device(local)
    with connection, _as_one_process(), _silent():
        try:
            _send(connection, "rank", rank)
            return _follow(connection, rank, ranks)
        except (EOFError, OSError) as error:
            raise VQBrainError(
                f"rank {rank}: rank 0 has ended without a message: start the command again"
            ) from error


def _follow(connection: Connection, rank: int, ranks: int) -> Any:
    function: Callable[[Any], Any] = id
    while True:
        what, content = _receive(connection)
        if what == "done":
            return content
        if what == "failed":
            raise ShownElsewhereError(content)
        try:
            if what == "function":
                function = content
            elif what == "batch":
                _send(connection, "answer", function(content))
            else:
                content(rank, ranks, lambda output: _send(connection, "answer", output))
        except (EOFError, OSError):
            raise
        except Exception as error:
            _send(connection, "error", _as_line(error, rank))
            _receive(connection)  # rank 0 shows it before torchrun ends the other processes
            raise ShownElsewhereError(getattr(error, "exit_code", 1)) from error


def _as_line(error: Exception, rank: int) -> VQBrainError:
    if isinstance(error, VQBrainError) and not isinstance(error, UnexpectedError):
        return error
    kind = "" if isinstance(error, UnexpectedError) else f"{type(error).__name__}: "
    words = " ".join(str(error).split()) or "no message"
    return UnexpectedError(f"rank {rank}: {kind}{words[:500]}")


def _rendezvous() -> tuple[Any, str]:
    """torchrun's store, under a prefix of this command, and the host of rank 0."""
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    with _meeting():
        store, _, _ = next(rendezvous("env://", timeout=ASSEMBLY))
    return PrefixStore(f"vqbrain {next(_numbers)}", store), os.environ["MASTER_ADDR"]


@contextmanager
def _meeting() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of torch's store
        raise VQBrainError(
            f"the ranks have not found each other within {ASSEMBLY.total_seconds():.0f} s: look "
            "for the message of the one that is missing, and start the command again"
        ) from error


def _use_device(local_rank: int) -> None:
    """Make `cuda` mean another device for each rank of a machine."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())


@contextmanager
def _as_one_process() -> Iterator[None]:
    """Hide from libraries and from trainings that there are several ranks."""
    hidden = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _silent() -> Iterator[None]:
    loggers = (logging.root, logging.getLogger("monai_vqbrain"))
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Pickler(pickle.Pickler):
    """Plain pickle, in which tensors on a GPU arrive on the GPU of the rank that reads them.

    That of multiprocessing would send tensors as places in this machine's memory.
    """

    def reducer_override(self, value: Any) -> Any:
        import torch

        if type(value) is torch.Tensor and value.is_cuda:
            return _on_own_gpu, (value.cpu(),)
        return NotImplemented


def _on_own_gpu(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.cuda()


def _send(connection: Connection, what: str, content: Any) -> None:
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump((what, content))
    connection.send_bytes(buffer.getbuffer())


def _receive(connection: Connection) -> tuple[str, Any]:
    return pickle.loads(connection.recv_bytes())
