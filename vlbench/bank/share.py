"""The work on a bank, shared among processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from vlbench.bank.encode import Encoder, Progress
from vlbench.errors import VlbenchError, user_error
from vlbench.processes import die_with


@dataclass(frozen=True)
class Share:
    """What a process needs to know of the work on a bank.

    Attributes:
        make: Function of a module that makes the encoder, given `arguments` and the name of a device.
        arguments: Plain values that the encoder is made of.
        folder: Folder of the bank.
        device: Name of the device that the process computes on.
        rank: Number of the process, from 0 on.
        processes: Number of all processes together.
    """

    make: Callable[[dict[str, Any], str], Encoder]
    arguments: dict[str, Any]
    folder: Path
    device: str
    rank: int
    processes: int


def devices(processes: int) -> list[str]:
    """Names of the devices of some processes: each its GPU, in turn, or the CPU where torch finds no GPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [f"cuda:{rank % count}" if count else "cpu" for rank in range(processes)]


def write_together(shares: Sequence[Share], progress: Progress) -> None:
    """Has each of several processes make its part of the missing files of a bank.

    Args:
        shares: What each process needs to know.
        progress: Function that is told how many more videos are done.

    Raises:
        VlbenchError: If a process meets an error or dies; the files that are there are whole.
    """
    # Spawned, not forked: the progress display and torch have threads.
    context = multiprocessing.get_context("spawn")
    readers, workers = [], []
    for share in shares:
        reader, writer = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(share, writer, os.getpid()))
        worker.start()
        writer.close()
        readers.append(reader)
        workers.append(worker)
    refusal = None
    try:
        while readers and refusal is None:
            ready: Any = wait(readers)
            for reader in ready:
                try:
                    message = reader.recv()
                except EOFError:
                    readers.remove(reader)
                    continue
                if isinstance(message, VlbenchError):
                    refusal = message
                else:
                    progress(message)
    finally:
        if refusal is not None or readers:
            for worker in workers:
                worker.kill()
        for worker in workers:
            worker.join()
    if refusal is not None:
        raise refusal
    dead = [worker.exitcode for worker in workers if worker.exitcode]
    if dead:
        raise VlbenchError(
            f"{len(dead)} of {len(workers)} encoding processes died with exit code {dead[0]}; the same command goes on "
            "where they ended"
        )


def _work(share: Share, progress: Connection, parent: int) -> None:
    die_with(parent)
    os.environ["LOCAL_WORLD_SIZE"] = str(share.processes)  # of the cores that data workers may use
    torch.set_num_threads(max(1, torch.get_num_threads() // share.processes))
    try:
        encoder = share.make(share.arguments, share.device)
        pieces = encoder.pieces()[share.rank :: share.processes]
        missing = [piece for piece in encoder.missing(share.folder) if piece in pieces]
        encoder.write(share.folder, missing, progress.send)
    except Exception as error:
        progress.send(user_error(error) or VlbenchError(f"{type(error).__name__}: {error}"))
