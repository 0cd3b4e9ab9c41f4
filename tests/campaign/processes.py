"""Commands in forked processes: torch is imported once, every command starts in a tenth of a second.

The campaign itself never computes with torch, so that it has no threads which a fork would lose.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import io
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import LONGEST_LINE, Verdict

PIPE = 2**20
"""Bytes of output that a command may write: much more than any should."""
MEMORY = 3 * 2**30
"""Bytes of address space that a process may take beside what it was forked with."""


Judge = Callable[[int, Callable[[str], None]], Verdict]
"""The verdict on a case, whose title it may tell beforehand, should it not live to give the verdict."""


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said. `code` is minus the signal, as of a process; None: it hung."""

    code: int | None
    out: str
    err: str

    @property
    def fault(self) -> str:
        """What no command may do, however bad its input: anything but 0, or 1 or 2 with one line."""
        lines = self.err.strip().splitlines()
        said = [line for line in lines if line.startswith("lt-bench: ")]
        if self.code is None:
            return "hangs"
        if "Traceback" in self.err + self.out or self.code not in (0, 1, 2):
            return f"ends with code {self.code}: {lines[-1][:300] if lines else 'without a word'}"
        if self.code and len(said) != 1:
            return f"code {self.code} with {len(said)} lines of complaint: {' / '.join(lines)[:300]}"
        if said and not (len(said[0]) <= LONGEST_LINE and said[0].isprintable()):
            return f"a complaint of {len(said[0])} characters, printable or not: {said[0][:200]!r}"
        return ""

    @property
    def complaint(self) -> str:
        return next((line for line in self.err.splitlines() if line.startswith("lt-bench: ")), "")


def import_everything() -> None:
    """Before the first fork. What is imported later would be imported by every child anew."""
    import pyarrow.parquet  # noqa: F401
    import sklearn.datasets  # noqa: F401

    from lt_bench.listing import all_members

    all_members()
    here("validate", "digits-lt/ce")
    gc.freeze()


def run_command_line(arguments: Iterable[object]) -> int:
    """The console script in this process. Returns the exit code; what is no exit is a traceback and code 70."""
    from lt_bench.cli import main

    sys.argv = ["lt-bench", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


class Child:
    """A forked process in a session of its own that does `work` in `folder` and exits with what it returns."""

    def __init__(self, work: Callable[[], int], folder: Path, limits: dict[int, int] | None = None) -> None:
        # Not files, whose size may be limited; and large enough for a child never to wait for a reader.
        said = [os.pipe() for _ in range(2)]
        for reading, writing in said:
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE)
            os.set_blocking(reading, False)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(work, folder, [writing for _, writing in said], limits or {})
        for _, writing in said:
            os.close(writing)
        self._said = [reading for reading, _ in said]
        self._done: Done | None = None
        self._status: int | None = None

    def running(self) -> bool:
        if self._status is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self._status = found[1]
        return self._status is None

    def wait(self, limit_s: float) -> Done:
        """The end of the process, which comes by force after so many seconds."""
        if self._done is not None:
            return self._done
        deadline = time.monotonic() + limit_s
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.002)
        hung = self.running()
        if hung:
            kill(self.pid)
            self._status = os.waitpid(self.pid, 0)[1]
        code = None if hung else os.waitstatus_to_exitcode(self._status or 0)
        self._done = Done(code, *map(_read, self._said))
        return self._done


def _become(work: Callable[[], int], folder: Path, said: list[int], limits: dict[int, int]) -> None:
    """Turn this forked process into a child. Never returns."""
    code = 71
    try:
        os.setsid()
        for target, file in enumerate(said, 1):
            os.dup2(file, target)
        sys.stdout, sys.stderr = (os.fdopen(target, "w", encoding="utf-8", closefd=False) for target in (1, 2))
        os.chdir(folder)
        os.environ["LT_BENCH_CACHE"] = str(folder / "cache")
        os.environ["COLUMNS"] = "200"
        faulthandler.enable()
        for limit, value in limits.items():
            resource.setrlimit(limit, (value, value))
        code = work()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def command(*arguments: object, folder: Path, limit_s: float = 120, limits: dict[int, int] | None = None) -> Done:
    """A command line in a child, to its end."""
    return Child(lambda: run_command_line(arguments), folder, limits).wait(limit_s)


def succeed(*arguments: object, folder: Path) -> Done:
    """A command that the campaign needs itself."""
    done = command(*arguments, folder=folder)
    if done.code != 0:
        raise RuntimeError(f"lt-bench {' '.join(map(str, arguments))} in {folder}: {done.err or done.code}")
    return done


def here(*arguments: object) -> Done:
    """A command line in this very process, itself a child."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command_line(arguments)
    texts = []
    for file in (out, err):
        file.seek(0)
        texts.append(file.read())
    return Done(code, *texts)


def judged(cases: Iterable[int], judge: Judge, folder: Path, limit_s: float) -> Iterator[Verdict]:
    """The verdicts of `judge`, many of them by one child: a hundred times faster than a fork each.

    A child that takes too long for a case, too much memory, or dies, is a fault of that case; the rest goes on.
    """
    waiting = list(cases)
    while waiting:
        batch = waiting[:250]
        for verdict in _batch(batch, judge, folder, limit_s):
            yield verdict
            waiting.remove(verdict.case)


def _batch(batch: list[int], judge: Judge, folder: Path, limit_s: float) -> Iterator[Verdict]:
    reading, writing = os.pipe()

    def work() -> int:
        os.close(reading)
        for case in batch:
            verdict = judge(case, lambda title: _send(writing, title))
            _send(writing, vars(verdict))
        return 0

    space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
    child = Child(work, folder, {resource.RLIMIT_AS: space})
    os.close(writing)
    verdicts, title = _lines(reading, limit_s), ""
    for case in batch:
        line = next(verdicts, None)
        if line is not None and isinstance(said := json.loads(line), str):
            title, line = said, next(verdicts, None)
        if line is None:
            done = child.wait(0 if child.running() else 1)
            last = (done.err.strip().splitlines() or [""])[-1][:200]
            yield Verdict(case, title, fault="hangs" if done.code is None else f"dies: {done.code} {last}")
            break
        yield Verdict(**json.loads(line))
    os.close(reading)
    child.wait(10)


def _send(descriptor: int, value: Any) -> None:
    os.write(descriptor, json.dumps(value).encode() + b"\n")


def _lines(descriptor: int, limit_s: float) -> Iterator[bytes]:
    """Lines as they come, until one takes too long or no more can come."""
    pending = b""
    while True:
        while b"\n" not in pending:
            if not select.select([descriptor], [], [], limit_s)[0]:
                return
            more = os.read(descriptor, 65536)
            if not more:
                return
            pending += more
        line, _, pending = pending.partition(b"\n")
        yield line


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def session(leader: int) -> list[int]:
    """Living processes of the session that a child leads, itself left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z" and int(stat.parent.name) != leader:
                found.append(int(stat.parent.name))
    return found


def _read(descriptor: int) -> str:
    """What has come through a pipe so far; a grandchild may still hold its other end."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while more := os.read(descriptor, PIPE):
            data += more
    os.close(descriptor)
    return data.decode(errors="replace")
