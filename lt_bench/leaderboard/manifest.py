"""The manifest of a tree of records: the sha256 of every one, so that none is altered, lost or added unseen.

It is a file of `sha256sum`, beside the folders of the data sets. A tree without one is read as it is: one's own results
need none. Side files are not listed: each record holds the sha256 of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lt_bench.data.reading import lines_of, read_bytes
from lt_bench.errors import UserError
from lt_bench.files import in_words, write_atomically

MANIFEST = "manifest.sha256"
LINE = re.compile(r"([0-9a-f]{64})  (\S.*\.json)")


def record_paths(records: Path) -> list[Path]:
    """All records below a folder, sorted. Raises UserError for a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: not readable: {in_words(error)}")

    # Not `rglob`, which passes over a folder that it cannot read, and takes twice as long.
    found = [
        os.path.join(home, name)  # noqa: PTH118
        for home, _, names in os.walk(records, onerror=refuse)
        for name in names
        if name.endswith(".json") and not name.startswith(".")
    ]
    return [Path(path) for path in sorted(found, key=lambda path: path.split(os.sep))]  # noqa: PTH206


def check_manifest(records: Path) -> None:
    """Hold a tree of records against its manifest, where it has one. Raises UserError that names the file."""
    if not (records / MANIFEST).is_file():
        return
    fault = _fault(records)
    if fault:
        fault = _fault_at_rest(records)
    if fault:
        raise UserError(fault)


@contextmanager
def adding(records: Path) -> Iterator[Callable[[Path], None]]:
    """While files are added: takes each path that is to be listed. Without a manifest nothing is."""
    if not (records / MANIFEST).is_file():
        yield lambda path: None
        return
    with _lock(records):
        yield lambda path: _list(records, [path])


def hold(records: Path, paths: list[Path]) -> None:
    """List what is there and was not listed, where the tree has a manifest; what is listed stays as it is."""
    if (records / MANIFEST).is_file():
        with _lock(records):
            _list(records, paths)


def begin(records: Path) -> None:
    """Make the manifest of a tree that has none, of all its records."""
    try:
        with _lock(records):
            if not (records / MANIFEST).is_file():
                _list(records, record_paths(records))
    except OSError as error:
        raise UserError(f"{records}: the manifest could not be written: {in_words(error)}") from None


def _lock(records: Path) -> FileLock:
    return FileLock(records / ".lock")


def _list(records: Path, paths: list[Path]) -> None:
    listed = _listed(records) if (records / MANIFEST).is_file() else {}
    new = {path.relative_to(records).as_posix(): _sha256(path) for path in paths}
    if not new.keys() <= listed.keys():
        whole = sorted((new | listed).items())
        text = "".join(f"{digest}  {name}\n" for name, digest in whole)
        write_atomically(records / MANIFEST, text.encode())


def _listed(records: Path) -> dict[str, str]:
    path = records / MANIFEST
    found = {}
    for number, line in enumerate(lines_of(read_bytes(path, "manifest"), path, "manifest"), 1):
        match = LINE.fullmatch(line)
        if match is None:
            raise UserError(f"{path}: line {number}: expected a sha256, two spaces and the path of a record")
        found[match[2]] = match[1]
    return found


def _fault_at_rest(records: Path) -> str:
    """What is wrong while nobody adds: another process lists a record a moment after it has written it."""
    try:
        with _lock(records):
            return _fault(records)
    except OSError:  # a tree that is only read, where nobody adds
        return _fault(records)


def _fault(records: Path) -> str:
    listed = _listed(records)
    there = {path.relative_to(records).as_posix(): path for path in record_paths(records)}
    faults = {name: f"lost: {MANIFEST} lists it" for name in listed if name not in there}
    faults |= {
        name: f"not in {MANIFEST}, so it was added by hand: lt-bench leaderboard add FILE checks it and lists it"
        for name in there
        if name not in listed
    }
    if not faults:  # the digests last: they cost the most
        altered = f"altered: its sha256 is not the one in {MANIFEST}"
        faults = {name: altered for name, path in there.items() if _sha256(path) != listed[name]}
    if not faults:
        return ""
    name, what = next(iter(sorted(faults.items())))
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{records / name}: {what}{more}"


def _sha256(path: Path) -> str:
    """Of a record's file, whatever its line ends have become on the way."""
    return hashlib.sha256(read_bytes(path, "record").replace(b"\r\n", b"\n")).hexdigest()
