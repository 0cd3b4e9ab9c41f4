"""Labelled images in memory, and the cache that spares decoding them twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from filelock import FileLock

from lt_bench.data.reading import reason, regular_size, user_folder
from lt_bench.errors import UserError
from lt_bench.files import in_words

if TYPE_CHECKING:
    from lt_bench.data.types import IntArray

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

T = TypeVar("T")

_LAYOUT = 1  # part of the cache key: raise it when the decoded form changes


@dataclass(frozen=True)
class ArrayPart:
    """Images uint8 [N, H, W, 3] in RGB with labels int64 [N]."""

    images: Pixels
    labels: IntArray

    def take(self, positions: IntArray) -> ArrayPart:
        return ArrayPart(self.images[positions], self.labels[positions])

    def sha256(self) -> str:
        """Of the pixels, then the labels, in order."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Of the images and labels whatever their order; see `Fingerprint`."""
        rows = self.images.reshape(len(self.images), -1)
        digests = (
            hashlib.sha256(bytes((label,)) + row.tobytes()).digest()
            for label, row in zip(self.labels.tolist(), rows, strict=True)
        )
        return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


@dataclass(frozen=True)
class Decoded:
    """One part of a data set as it comes from its file."""

    part: ArrayPart
    class_names: tuple[str, ...]
    fingerprint: str

    @classmethod
    def of(cls, images: Pixels, labels: IntArray, class_names: tuple[str, ...]) -> Decoded:
        part = ArrayPart(images, labels)
        return cls(part, class_names, part.fingerprint())


def cache_folder(cache: Path | None) -> Path:
    """Where decoded data is kept: the argument, LT_BENCH_CACHE, or ~/.cache/lt-bench."""
    return user_folder(cache or Path(os.environ.get("LT_BENCH_CACHE") or "~/.cache/lt-bench"))


def file_sha256(*paths: Path) -> str:
    """The sha256 of a file, or of the sha256 of several. Raises UserError when one is not readable."""
    digests = []
    for path in paths:
        try:
            regular_size(path)
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise UserError(f"{path}: not readable: {in_words(error)}") from None
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def build_folder(target: Path, build: Callable[[Path], None], usable: Callable[[Path], bool]) -> None:
    """Fill `target` once, however many processes ask: under a lock, and visible only when complete."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if usable(target):
                return
            _remove(target)
            scratch = target.with_name(f".{target.name}.building")
            _remove(scratch)  # that of a process which was killed: whoever has the lock is the only one
            scratch.mkdir()
            try:
                build(scratch)
                scratch.rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{target.parent}: cannot be written: {in_words(error)} (LT_BENCH_CACHE names the cache)"
        ) from None


def _remove(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def cached(key: str, cache: Path, decode: Callable[[], Decoded]) -> Decoded:
    """The part stored under `key`, decoded and stored on first use and whenever the stored copy is damaged."""
    folder = cache / "arrays" / f"{key}-{_LAYOUT}"
    stored = _load(folder)
    if stored is None:
        build_folder(folder, lambda scratch: _save(decode(), scratch), lambda target: _load(target) is not None)
        stored = _load(folder)
    if stored is None:
        raise UserError(f"{folder}: the cache cannot be read back; delete it and try again")
    return stored


def _save(decoded: Decoded, folder: Path) -> None:
    images, labels = np.ascontiguousarray(decoded.part.images), decoded.part.labels
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    meta = {
        "class_names": decoded.class_names,
        "fingerprint": decoded.fingerprint,
        "crc": [_crc32(images), _crc32(labels)],
    }
    (folder / "meta.json").write_text(json.dumps(meta))


def _crc32(array: np.ndarray) -> int:
    return zlib.crc32(array.data.cast("B"))


def _load(folder: Path) -> Decoded | None:
    """What `_save` stored; None where it is not there or not as it was."""
    try:
        images, labels = _mapped(folder / "images.npy"), _mapped(folder / "labels.npy")
        regular_size(folder / "meta.json")
        meta = json.loads((folder / "meta.json").read_text())
        if not _is_part(images, labels) or [_crc32(images), _crc32(labels)] != meta["crc"]:
            return None
        return Decoded(ArrayPart(images, np.array(labels)), tuple(meta["class_names"]), meta["fingerprint"])
    except Exception:  # Damaged headers and JSON raise a dozen classes, that of Python's tokeniser among them.
        return None


def _mapped(path: Path) -> np.ndarray:
    """An array file, not read yet. Raises OSError or ValueError for anything else, archives and pickles included."""
    regular_size(path)
    return np.lib.format.open_memmap(path, mode="r")


def _is_part(images: np.ndarray, labels: np.ndarray) -> bool:
    rgb = images.dtype == np.uint8 and images.ndim == 4 and images.shape[-1] == 3
    return rgb and labels.dtype == np.int64 and labels.shape == images.shape[:1]


def extract(archive: Path, cache: Path) -> Path:
    """Extract an archive into the cache once; no member may leave its folder. Returns the folder.

    Raises UserError for an archive that is cut off or tries to escape.
    """
    target = cache / "archives" / file_sha256(archive)
    if not target.is_dir():
        build_folder(target, lambda scratch: _unpack(archive, scratch), Path.is_dir)
    return target


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except Exception as error:  # Beside tarfile's own, those of three compressions and of absurd numbers.
        if isinstance(error, OSError) and error.errno is not None:  # The disk's, not the archive's.
            raise
        raise UserError(f"{archive}: not a safe and complete tar archive: {reason(error)}") from None


def with_progress(items: Sequence[T], description: str) -> Iterable[T]:
    """Show a bar while iterating, on a terminal only."""
    from rich.console import Console  # noqa: PLC0415 (slow to import)
    from rich.progress import track  # noqa: PLC0415

    quiet = not sys.stderr.isatty()
    return track(items, description, console=Console(stderr=True), disable=quiet, transient=True)
