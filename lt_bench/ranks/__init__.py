"""The processes that train one network together, as `torchrun` starts them, each on its rows of every batch.

This page holds how they meet, who writes and how they end; `division` what each has of a batch. With one process, which
is the usual case, nothing of it does anything, and torch is not imported.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lt_bench.errors import RunError, UserError

T = TypeVar("T")

SAID = "lt-bench: how many have asked whether to say why all end"
WAIT_S = 2.0
"""How long the first process, where the others ask by it, waits for them to ask."""
GRACE_S = 5.0
"""How long a process that is told to end lets its main thread say why, and write what it is writing."""


@dataclass(frozen=True)
class Place:
    """Which of the processes this is."""

    rank: int = 0
    count: int = 1
    local: int = 0
    """Among those of this machine, each of which has a GPU of its own."""


_place = Place()


def rank() -> int:
    """The number of this process, from 0."""
    return _place.rank


def count() -> int:
    """How many processes train together."""
    return _place.count


def is_first() -> bool:
    """Whether this process writes what is written once."""
    return _place.rank == 0


def started() -> Place:
    """What the environment says: the only one, unless `torchrun` or the like has started several."""
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if not all(os.environ.get(name) for name in names):
        return Place()
    try:
        found = Place(*(int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    except ValueError:
        found = Place(-1)
    if not 0 <= found.rank < found.count:
        said = " ".join(f"{name}={os.environ[name]}" for name in names[:2])
        raise UserError(f"{said}: in the environment, and no such processes can be; unset them, or use torchrun")
    return found


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that the environment speaks of, if it speaks of several.

    All but the first are silent. What ends one of them ends all, and is said once, by the first that has to say it.
    """
    global _place  # noqa: PLW0603 (a process is one of several or not, whoever asks)
    place = started()
    if place.count == 1:
        yield
        return
    store = _meet(place)
    _place = place
    try:
        with _silent() if place.rank else nullcontext(), _told_to_end(store):
            yield
            with together():
                _barrier()
    except (Exception, KeyboardInterrupt):
        if not _first_to_say(store):
            raise SystemExit(1) from None
        raise
    finally:
        _place = Place()


@contextmanager
def together() -> Iterator[None]:
    """What all processes do at once. Raises RunError where another of them is no longer there."""
    try:
        yield
    except RuntimeError as error:
        raise RunError(_gone()) from error


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, which alone is asked to, for all of them."""
    if count() == 1:
        return make()
    import torch  # noqa: PLC0415

    found = [make() if is_first() else None]
    with together():
        torch.distributed.broadcast_object_list(found, src=0, device=torch.device("cpu"))
    return found[0]  # type: ignore[return-value]


def _gone() -> str:
    return (
        f"one of the {count()} processes has ended, or all were told to; the same command, with as many processes or"
        " others, goes on from the last finished epoch"
    )


def _meet(place: Place) -> Any:
    """Join the others. The store is what they can ask each other by, whatever else has ended."""
    import torch  # noqa: PLC0415
    import torch.distributed as dist  # noqa: PLC0415

    # Imported once they have met, as an optimizer does, its defaults keep the group: its threads would outlive it and
    # could abort the end of a run that went well.
    import torch.distributed.nn  # noqa: PLC0415
    from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415

    cuda = torch.cuda.is_available()
    if cuda:
        if place.local >= torch.cuda.device_count():
            devices = torch.cuda.device_count()
            raise UserError(
                f"--nproc-per-node: process {place.local + 1} of this machine has no GPU of its own, torch finds"
                f" {devices}; start {devices}, or hide them with CUDA_VISIBLE_DEVICES= and --device cpu"
            )
        torch.cuda.set_device(place.local)
    try:
        store, _, _ = next(rendezvous("env://"))
    except dist.DistNetworkError as error:
        met = " ".join(f"{name}={os.environ[name]}" for name in ("MASTER_ADDR", "MASTER_PORT"))
        said = str(error).splitlines()[0]
        raise UserError(f"{met}: the processes cannot meet there, {said}; name a free port that all reach") from error
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.count)
    return store


def _barrier() -> None:
    import torch  # noqa: PLC0415

    torch.distributed.all_reduce(torch.zeros(1))
    torch.distributed.destroy_process_group()


@contextmanager
def _silent() -> Iterator[None]:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _first_to_say(store: Any) -> bool:
    """Whether no process has said yet why all end.

    Without `torchrun` the store is the first process's: that waits until the others have asked. Where it has not, it
    was killed, and the second one says so.
    """
    try:
        asked = store.add(SAID, 1)
        asks_me = is_first() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        until = time.monotonic() + WAIT_S
        while asks_me and store.add(SAID, 0) < count() and time.monotonic() < until:
            time.sleep(0.02)
    except RuntimeError:
        return rank() == 1
    return bool(asked == 1)


@contextmanager
def _told_to_end(store: Any) -> Iterator[None]:
    """End with one line when told to, as `torchrun` tells the others when one has ended.

    In a thread, because the main one may be waiting for a process that will not come. After an error it goes on
    listening: until it is said, nothing else is to end this process.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writer)
    threading.Thread(target=_end_when_told, args=(reader, store), daemon=True).start()
    yield
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, before)
    os.close(writer)


def _end_when_told(reader: int, store: Any) -> None:
    while signals := os.read(reader, 1):
        if signals[0] != signal.SIGTERM:
            continue
        if _first_to_say(store):
            print(f"lt-bench: {_gone()}", file=sys.__stderr__, flush=True)
        time.sleep(GRACE_S)
        os._exit(1)
    os.close(reader)
