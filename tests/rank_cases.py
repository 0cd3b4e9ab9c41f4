"""Several processes that train together, forked from this one, which has imported everything already."""

from __future__ import annotations

import os
import random
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch.fx.experimental.symbolic_shapes  # noqa: F401 (seconds in each process, else: a backward pass asks for it)

from lt_bench.cli import main

LIMIT_S = 300.0


@dataclass(frozen=True)
class Ended:
    """How a process ended and what it said: exit code, below 0 the signal that killed it."""

    code: int
    said: str


def together(count: int, folder: Path, work: Callable[[int], None]) -> Sequence[Ended]:
    """What becomes of so many processes, each of which does its work, given its rank."""
    port = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    processes = [_forked(rank, count, port, folder / f"said-{rank}", work) for rank in range(count)]
    codes = [_ended(process, time.monotonic() + LIMIT_S) for process in processes]
    return [Ended(code, (folder / f"said-{rank}").read_text()) for rank, code in enumerate(codes)]


def command(*arguments: object) -> Callable[[int], None]:
    """A command line as the work of each."""

    def work(rank: int) -> None:
        sys.argv = ["lt-bench", *map(str, arguments)]
        main()

    return work


def _forked(rank: int, count: int, port: int, said: Path, work: Callable[[int], None]) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        _speak_into(said)
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
        work(rank)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for text in (sys.stdout, sys.stderr):
            text.flush()
        os._exit(code)


def _speak_into(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", closefd=False)  # type: ignore[misc]


def _ended(process: int, until: float) -> int:
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(process, 9)
        time.sleep(0.01)


def _free_port() -> int:
    """One that nothing listens on, below those which the system gives to whoever asks for any: they come and go."""
    for port in random.SystemRandom().sample(range(10_000, 30_000), 100):
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
