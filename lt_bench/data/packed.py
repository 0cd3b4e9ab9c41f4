"""Image files of a folder in one file of their bytes, so that an epoch does not ask a file system for each of them.

A pack lies in the cache. Bytes are only ever added behind the others, each file's with its sha256; what is packed and
safe on the disk stands in a journal, so that packing goes on after a kill, and in the index once all of it is there.
A run takes the pack where every one of its files is in it, of the same size and time of change; else the files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from filelock import FileLock

from lt_bench.data.arrays import cache_folder, with_progress
from lt_bench.data.folder import FilePart
from lt_bench.data.reading import regular_size
from lt_bench.errors import UserError
from lt_bench.files import in_words, write_atomically

if TYPE_CHECKING:
    from lt_bench.data.split import Split

AT_ONCE = 256
"""Files between two entries of the journal."""
READERS = 8
"""Threads that read them: a network file system keeps each waiting."""


class Source(Protocol):
    """Where the bytes of a part's files come from."""

    def read(self, position: int) -> bytes:
        """Of one file. Raises OSError."""
        ...

    def expect(self, positions: Iterable[int]) -> None:
        """Say which files are about to be read."""
        ...


def source_of(part: FilePart, cache: Path) -> Source:
    """The pack of a part's files where there is one that fits them, else the files; a pack that does not is named."""
    place = pack_folder(part.folder, cache)
    index = Index.load(place)
    if index is None:
        return Files(part)
    rows = {name: k for k, name in enumerate(index.names)}
    odd = [file for file in part.files if file not in rows or index.stale(rows[file], part.folder)]
    if odd:
        print(
            f"{place}: {len(odd)} of {len(part.files)} images changed or are not in this pack, the first is"
            f" {odd[0]:.200}: the files themselves are read; lt-bench data prepare NAME --pack packs them",
            file=sys.stderr,
        )
        return Files(part)
    found = (place / _BYTES).stat()
    where = np.array([rows[file] for file in part.files])
    return PackedFiles(place / _BYTES, (found.st_ino, found.st_size), index.offsets, where)


@dataclass(frozen=True)
class Files:
    """The files themselves."""

    part: FilePart

    def read(self, position: int) -> bytes:
        return (self.part.folder / self.part.files[position]).read_bytes()

    def expect(self, positions: Iterable[int]) -> None:
        pass


@dataclass(frozen=True)
class PackedFiles:
    """Their bytes in a pack; `offsets` int64 [N + 1] of all in it, `rows` int64 of those of the part."""

    path: Path
    stamp: tuple[int, int]
    """Inode and size of the pack."""
    offsets: np.ndarray
    rows: np.ndarray

    def read(self, position: int) -> bytes:
        start, end = self._place(position)
        return _mapped(self.path, self.stamp)[start:end]

    def expect(self, positions: Iterable[int]) -> None:
        if not hasattr(mmap, "MADV_WILLNEED"):
            return
        for start, end in map(self._place, positions):
            page = start - start % mmap.PAGESIZE
            _mapped(self.path, self.stamp).madvise(mmap.MADV_WILLNEED, page, end - page)

    def _place(self, position: int) -> tuple[int, int]:
        row = self.rows[position]
        return int(self.offsets[row]), int(self.offsets[row + 1])


@cache
def _mapped(path: Path, stamp: tuple[int, int]) -> mmap.mmap:
    """A pack in memory; a process that is not forked opens it by itself. Raises OSError if it is another one by now."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_ino != stamp[0]:
            raise OSError(errno.ESTALE, "the pack was made anew meanwhile")
        return mmap.mmap(file.fileno(), stamp[1], access=mmap.ACCESS_READ)


class Row(NamedTuple):
    """One packed file."""

    name: str
    offset: int
    size: int
    modified: int
    """Time of change of the file, in nanoseconds."""
    sha256: str


_BYTES, _INDEX, _JOURNAL = "images.pack", "index.npz", "journal"


@dataclass
class Index:
    """What is in a pack, in the order of its bytes."""

    names: list[str] = field(default_factory=list)
    offsets: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    """int64 [N + 1]: where each file begins, and where the last one ends."""
    modified: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    digests: np.ndarray = field(default_factory=lambda: np.zeros((0, 32), np.uint8))
    """uint8 [N, 32]: sha256 of each file."""

    @property
    def end(self) -> int:
        return int(self.offsets[-1])

    def with_rows(self, rows: Sequence[Row]) -> Index:
        if not rows:
            return self
        ends = self.end + np.cumsum([row.size for row in rows])
        digests = np.frombuffer(bytes.fromhex("".join(row.sha256 for row in rows)), np.uint8).reshape(-1, 32)
        return Index(
            self.names + [row.name for row in rows],
            np.concatenate([self.offsets, ends]),
            np.concatenate([self.modified, [row.modified for row in rows]]),
            np.concatenate([self.digests, digests]),
        )

    def stale(self, row: int, folder: Path) -> bool:
        """Whether a file is no longer what was packed, as far as its size and time of change tell."""
        try:
            found = (folder / self.names[row]).stat()
        except OSError:
            return True
        return (found.st_size, found.st_mtime_ns) != (self.offsets[row + 1] - self.offsets[row], self.modified[row])

    def sha256(self) -> str:
        """One digest of the whole pack, of every file's name, place and bytes."""
        parts = ("\n".join(self.names).encode(), *(a.tobytes() for a in (self.offsets, self.modified, self.digests)))
        return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    def save(self, place: Path) -> None:
        file = io.BytesIO()
        names = np.frombuffer("\n".join(self.names).encode(), np.uint8)
        whole = np.frombuffer(bytes.fromhex(self.sha256()), np.uint8)
        np.savez(file, names=names, offsets=self.offsets, modified=self.modified, digests=self.digests, sha256=whole)
        write_atomically(place / _INDEX, file.getvalue())

    @classmethod
    def load(cls, place: Path) -> Index | None:
        """None where there is none, or its bytes or those of the pack are not all there."""
        try:
            regular_size(place / _INDEX)
            with np.load(place / _INDEX) as stored:
                found = cls(stored["names"].tobytes().decode().split("\n"), *(stored[name] for name in _ARRAYS))
                whole = found.sha256() == stored["sha256"].tobytes().hex()
            return found if whole and 0 < found.end <= regular_size(place / _BYTES) else None
        except Exception:  # Damaged archives raise a dozen classes.
            return None


_ARRAYS = ("offsets", "modified", "digests")


def pack_folder(folder: Path, cache: Path) -> Path:
    """Where the pack of the images in a folder lies, whichever lists and splits name them."""
    place = folder.resolve()
    return cache / "packs" / f"{place.name}-{hashlib.sha256(bytes(place)).hexdigest()[:16]}"


def pack(folder: Path, files: Iterable[str], cache: Path) -> tuple[Path, Index]:
    """Bring files of a folder into its pack, those that are in it already excepted, and verify all of it by hash.

    Goes on where an earlier call was killed. A pack with files that changed since is made anew. Raises UserError.
    """
    place = pack_folder(folder, cache)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            index = _known(place)
            if any(index.stale(row, folder) for row in range(len(index.names))):
                _forget(place)
                index = Index()
            there = set(index.names)
            index = _append(place, index, folder, [file for file in dict.fromkeys(files) if file not in there])
            _verify(place, index)
            index.save(place)
            (place / _JOURNAL).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{place}: not packed: {in_words(error)} (LT_BENCH_CACHE names the cache)") from None
    return place, index


def pack_split(split: Split) -> str:
    """Pack the image files of all parts of a split, and say where they are. Raises UserError."""
    parts = [part for part in (split.train, split.validation, split.test) if isinstance(part, FilePart)]
    place, index = pack(parts[0].folder, chain.from_iterable(part.files for part in parts), cache_folder(None))
    return f"{place}: {len(index.names)} image files, {index.end / 1e6:.4g} MB, sha256 {index.sha256()[:12]}"


def _known(place: Path) -> Index:
    """What is safe in the pack: its index, and what the journal adds to that."""
    index = Index.load(place)
    if index is None:
        index = Index()
        (place / _INDEX).unlink(missing_ok=True)
    rows = list(_journal(place, index.end))
    write_atomically(place / _JOURNAL, _lines(rows))  # without a last line that was cut off
    return index.with_rows(rows)


def _journal(place: Path, end: int) -> Iterator[Row]:
    """Rows that follow each other from `end` on and whose bytes are there; the last line may be cut off."""
    with contextlib.suppress(FileNotFoundError):
        size = regular_size(place / _BYTES)
        for line in (place / _JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = Row(*json.loads(line))
                fits = row.offset == end and end + row.size <= size and len(bytes.fromhex(row.sha256)) == 32
            except (ValueError, TypeError):
                return
            if fits:  # and is not of a time before the index
                end += row.size
                yield row


def _lines(rows: Iterable[Row]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _forget(place: Path) -> None:
    """Not by writing over it: a run may be reading the old one."""
    for name in (_INDEX, _JOURNAL, _BYTES):
        (place / name).unlink(missing_ok=True)


def _append(place: Path, index: Index, folder: Path, files: Sequence[str]) -> Index:
    """Add files behind those that are in the pack; what a killed call left there goes first."""
    if index.end == 0:
        (place / _BYTES).unlink(missing_ok=True)  # not emptied: a run may be reading it
    chunks = [files[k : k + AT_ONCE] for k in range(0, len(files), AT_ONCE)]
    with (place / _BYTES).open("ab") as pack, (place / _JOURNAL).open("ab") as journal:
        pack.truncate(index.end)
        with ThreadPoolExecutor(READERS) as pool:
            for chunk in with_progress(chunks, "pack the images"):
                end, rows = index.end, []
                for file, (data, modified) in zip(chunk, pool.map(_read, [folder / f for f in chunk]), strict=True):
                    pack.write(data)
                    rows.append(Row(file, end, len(data), modified, hashlib.sha256(data).hexdigest()))
                    end += len(data)
                _to_disk(pack)
                journal.write(_lines(rows))
                _to_disk(journal)
                index = index.with_rows(rows)
    return index


def _to_disk(file: io.BufferedIOBase) -> None:
    file.flush()
    os.fsync(file.fileno())


def _read(path: Path) -> tuple[bytes, int]:
    """A file's bytes and time of change. Raises UserError."""
    try:
        regular_size(path)
        with path.open("rb") as file:
            before, data, after = os.fstat(file.fileno()), file.read(), os.fstat(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: not readable: {in_words(error)}") from None
    if not data or (before.st_mtime_ns, len(data)) != (after.st_mtime_ns, after.st_size):
        raise UserError(f"{path}: empty, or written to while it was read")
    return data, after.st_mtime_ns


def _verify(place: Path, index: Index) -> None:
    """Compare all bytes with their sha256. Raises UserError, and no run takes the pack any more."""
    with (place / _BYTES).open("rb") as pack:
        for row in with_progress(range(len(index.names)), "verify the pack"):
            data = pack.read(int(index.offsets[row + 1] - index.offsets[row]))
            if hashlib.sha256(data).digest() != index.digests[row].tobytes():
                _forget(place)
                raise UserError(f"{place}: the bytes of {index.names[row]} are damaged; the pack is removed, pack anew")
