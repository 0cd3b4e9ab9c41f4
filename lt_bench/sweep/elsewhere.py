"""Runs on other machines: what is shared with them they use, for the rest the records are sent home."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from lt_bench import __version__
from lt_bench.errors import UserError
from lt_bench.estimates import Run
from lt_bench.files import in_words
from lt_bench.leaderboard.record import find_record, load_record
from lt_bench.leaderboard.taking_in import take_in
from lt_bench.settings import Settings
from lt_bench.sweep.packed import Packed
from lt_bench.training.options import Options, Outcome
from lt_bench.training.progress import Lines


@dataclass(frozen=True)
class Home:
    """Where a sweep was begun, as another machine may or may not see it."""

    folder: Path
    """The working folder."""
    mark: str
    """Name of a file in the folders of records and work: a machine where it lies shares them."""
    environment: Mapping[str, str]
    """The variables of this suite, for machines that have none of their own."""
    version: str = __version__

    def enter(self) -> None:
        """Make this process one that could have been started there. Raises UserError for another version."""
        if self.version != __version__:
            where = socket.gethostname()
            raise UserError(f"{where} has lt-bench {__version__}, the sweep {self.version}; install the same on both")
        if self.folder.is_dir():
            os.chdir(self.folder)
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)

    def seen(self, folder: Path, otherwise: Path) -> Path:
        """The folder if this machine shares it."""
        return folder if (folder / self.mark).exists() else otherwise


@contextmanager
def marked(options: Options) -> Iterator[Home]:
    """Here, with the folders marked while the block lasts. Raises UserError where one cannot be written."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("LT_BENCH_")}
    home = Home(Path.cwd(), f".sweep-{token_hex(8)}", environment)
    marks = [folder / home.mark for folder in (options.records, options.work)]
    try:
        for mark in marks:
            _touch(mark)
        yield home
    finally:
        for mark in marks:
            with suppress(OSError):  # of a folder that cannot be written, which has been said
                mark.unlink()


def _touch(mark: Path) -> None:
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise UserError(f"{mark.parent}: cannot be written: {in_words(error)}") from None


@dataclass(frozen=True)
class Back:
    """What comes of a run that was sent away."""

    result: Outcome | BaseException
    files: Mapping[str, bytes]
    """Records and their side files, by their paths below the folder of records, where that is not shared."""

    def unpack(self, options: Options) -> Outcome | BaseException:
        """The result here, with the records in their place; none of a run that has one already, unless by force."""
        if not self.files:
            return self.result
        with TemporaryDirectory() as scratch:
            for name, data in self.files.items():
                path = Path(scratch, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            names = [name for name in self.files if name.endswith(".json")]
            homes = {name: _brought(Path(scratch, name), options) for name in names}
        if isinstance(self.result, Outcome):
            return replace(self.result, record=homes[str(self.result.record)])
        return self.result


def _brought(path: Path, options: Options) -> Path:
    known = None if options.force else find_record(options.records, load_record(path).identity)
    return known or take_in([path], options.records)[0].path


@dataclass(frozen=True)
class Sent:
    """A packed run that is made on another machine, with its folders or, where it does not see them, without."""

    packed: Packed
    home: Home

    @classmethod
    def of(cls, run: Run, options: Options, home: Home) -> Sent:
        root = options.data_root
        options = replace(
            options,
            records=options.records.absolute(),
            work=options.work.absolute(),
            data_root=None if root is None else root.expanduser().absolute(),
            progress=Lines,
            wait=True,  # for another run, which may be its first stage
        )
        return cls(Packed.of(run, options), home)

    def make(self, leaving: Callable[[], bool] = lambda: False) -> Back:
        """Train it on this machine; `leaving` as in `Packed.attempt`."""
        try:
            self.home.enter()
        except UserError as error:
            return Back(error, {})
        with TemporaryDirectory(prefix="lt-bench-") as scratch:
            options, own = self.packed.options, Path(scratch, "records")
            records, work = self.home.seen(options.records, own), self.home.seen(options.work, Path(scratch, "work"))
            here = replace(self.packed, options=replace(options, records=records, work=work))
            return _back(here.attempt(leaving), own)


def _back(result: Outcome | BaseException, records: Path) -> Back:
    """With the files of a folder of records that is about to be lost."""
    paths = [path for path in records.rglob("seed*.*") if path.is_file()]
    files = {path.relative_to(records).as_posix(): path.read_bytes() for path in paths}
    if files and isinstance(result, Outcome):
        result = replace(result, record=result.record.relative_to(records))
    return Back(result, files)


def check_extra(library: str, on: str) -> None:
    """Raise UserError where the library of an engine is not installed."""
    if find_spec(library) is None:
        raise UserError(f"--on {on}: {library} is not installed; pip install 'lt-bench[{on}]'")


def asked(jobs: int | None, resources: Settings) -> str:
    """What a command line asks for, behind where it asks for it."""
    given = resources.model_dump(exclude_none=True)
    return "".join([f", {jobs} at once" * bool(jobs), *(f", {name}={value}" for name, value in given.items())])
