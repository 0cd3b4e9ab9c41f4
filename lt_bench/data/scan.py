"""Class folders as people have them: which files are images of which class, and why others are left out.

One right answer for each of the things that folders hold:

* a folder beside the others is a class, its name as it is; images in folders inside of it belong to it;
* `train/` beside `test/` or `val/` are parts (without `test/`, `val/` is the test part); `train/` alone is looked into;
* parts inside of a class, as `cat/train/` beside `cat/test/`, are images of the class like any other, and are told;
* a class without an image that can be read is none; hidden files and folders, endings of no image, names with a line
  break or in no UTF-8, pipes and broken links are left out, and so is what cannot be decoded, such as a truncated file;
* links are followed; a file that is there twice counts once, and one in two classes or parts is refused;
* copies under other names are left out of the training part where they are test or validation images, and count once in
  a class; an image of two classes stays in both, and is told.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lt_bench.data.arrays import with_progress
from lt_bench.data.class_names import fault
from lt_bench.data.copies import IN_TWO_CLASSES, copies
from lt_bench.data.decoding import UnreadableError, read_rgb
from lt_bench.data.reading import regular_size
from lt_bench.errors import UserError
from lt_bench.files import in_words

_WORDS = ("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm", "jp2")
ENDINGS = frozenset(f".{end}" for end in _WORDS)
"""Of the formats that are decoded, whatever their case."""
TRAIN, TEST, VALIDATION = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")

Classes = dict[str, list[str]]
"""Images by class, as sorted paths relative to the folder of all of them."""


@dataclass
class Scan:
    """What lies in a folder of images."""

    root: Path
    parts: dict[str, Classes] = field(default_factory=dict)
    """`train`, and `validation` and `test` where there are such folders."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Files and folders by the reason why they are left out."""
    left_in: dict[str, list[str]] = field(default_factory=dict)
    """Images that are kept all the same, by what is strange about them."""
    digests: dict[str, bytes] = field(default_factory=dict)
    """Of the pixels of every image."""
    _places: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)

    def leave_out(self, reason: str, path: str) -> None:
        self.left_out.setdefault(reason, []).append(path)


def scan(root: Path) -> Scan:
    """Find and decode the images in the class folders below `root`.

    Raises UserError for a folder without images, a part without them, a file in two places, or a class whose name no
    record can hold.
    """
    found = Scan(root)
    for part, folder in _part_folders(found).items():
        found.parts[part] = _readable(found, _classes(found, part, folder))
        if not found.parts[part]:
            raise UserError(f"{root / folder}: no class folders with images that can be read{_first_reason(found)}")
    _leave_out_copies(found)
    return found


def read_all(root: Path, files: Sequence[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Digests of the pixels of the images that can be decoded, and why the others cannot.

    Each is decoded once, several at a time.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = [pool.submit(_read, root / file) for file in files]
        read = [result.result() for result in with_progress(results, "read the images")]
    found = list(zip(files, read, strict=True))
    digests = {file: digest for file, digest in found if isinstance(digest, bytes)}
    return digests, {file: reason for file, reason in found if isinstance(reason, str)}


def _read(path: Path) -> bytes | str:
    """The digest of the size and pixels of an image, or why it cannot be decoded."""
    try:
        image = read_rgb(path)
    except UnreadableError as error:
        return str(error)
    return hashlib.sha256(b"%d %d " % image.size + image.tobytes()).digest()


def _part_folders(found: Scan) -> dict[str, str]:
    """The folder of each part relative to the root."""
    names = {name.casefold(): name for name in _folders(found, "")}
    train, test, validation = (_first(names, words) for words in (TRAIN, TEST, VALIDATION))
    if train and not (test or validation) and len(names) == 1:
        return {"train": train}
    if not train or not (test or validation):
        return {"train": ""}
    parts = {"train": train, "test": test or validation or ""}
    if test and validation:
        parts["validation"] = validation
    for name in sorted(set(names.values()) - set(parts.values())):
        found.leave_out("beside the parts", name)
    return parts


def _first(names: Mapping[str, str], words: Sequence[str]) -> str | None:
    return next(filter(None, map(names.get, words)), None)


def _folders(found: Scan, folder: str) -> list[str]:
    return [entry.name for entry in _entries(found, folder) if entry.is_dir() and not _hidden(entry.name)]


def _classes(found: Scan, part: str, folder: str) -> Classes:
    """The files of every class folder, before they are decoded."""
    for entry in _entries(found, folder):
        path = _join(folder, entry.name)
        if not entry.is_dir():
            found.leave_out("beside the class folders", path)
        elif _hidden(entry.name):
            found.leave_out("hidden", path)
    classes = {}
    for name in _folders(found, folder):
        classes[name] = list(_images(found, _join(folder, name), f"{part} {name}", ()))
        if classes[name] and (wrong := fault(name)):
            raise UserError(f"{found.root / folder / ascii(name)}: the name of the class {wrong}; rename the folder")
        inside = {inner.casefold(): inner for inner in _folders(found, _join(folder, name))}
        if classes[name] and (train := _first(inside, TRAIN)) and _first(inside, (*TEST, *VALIDATION)):
            found.left_in.setdefault("a part inside of a class, taken as any of its images", []).append(
                f"{_join(folder, name)}/{train}"
            )
    return classes


def _readable(found: Scan, classes: Classes) -> Classes:
    """What is left when the images that cannot be decoded are left out, and with them classes without any."""
    digests, broken = read_all(found.root, [file for files in classes.values() for file in files])
    found.digests |= digests
    for file, reason in broken.items():
        found.leave_out("cannot be read", f"{file} ({reason})")
    return _kept(found, classes, broken)


def _leave_out_copies(found: Scan) -> None:
    """Keep of equal images what may be kept, as `copies` tells. Raises UserError where no training image is left."""
    images = {
        part: [(name, file) for name in classes for file in classes[name]] for part, classes in found.parts.items()
    }
    gone = set()
    for copy in copies(images, found.digests):
        told = found.left_in if copy.what == IN_TWO_CLASSES else found.left_out
        told.setdefault(copy.what, []).append(copy.told)
        if told is found.left_out:
            gone.add(copy.file)
    found.parts = {part: _kept(found, classes, gone) for part, classes in found.parts.items()}
    if not found.parts["train"]:
        raise UserError(f"{found.root}: every training image is a copy of a test or validation image, {min(gone)} too")


def _kept(found: Scan, classes: Classes, gone: Container[str]) -> Classes:
    """The images that are not gone, without the classes of which none is left."""
    kept = {name: [file for file in files if file not in gone] for name, files in classes.items()}
    for name, files in kept.items():
        if not files:
            found.leave_out("class folders without images", name)
    return {name: files for name, files in kept.items() if files}


def _images(found: Scan, folder: str, owner: str, above: tuple[str, ...]) -> Iterator[str]:
    """The images in a folder and those inside of it, which belong to the class `owner` of a part."""
    here = os.path.realpath(found.root / folder)
    if here in above:
        found.leave_out("links to a folder they lie in", folder)
        return
    for entry in _entries(found, folder):
        path = _join(folder, entry.name)
        if _hidden(entry.name):
            found.leave_out("hidden", path)
        elif entry.is_dir():
            yield from _images(found, path, owner, (*above, here))
        elif reason := _unfit(found, path, owner):
            found.leave_out(reason, path)
        else:
            yield path


def _unfit(found: Scan, path: str, owner: str) -> str | None:
    """Why a file is no image of its own, from its name and place. Raises UserError where it has two classes."""
    if PurePosixPath(path).suffix.lower() not in ENDINGS:
        return "no ending of an image"
    if not _fits_a_line(path):
        return "a line break in the name, or no UTF-8"
    try:
        regular_size(found.root / path)
        status = (found.root / path).stat()
    except OSError:
        return "broken links and what is no regular file"
    first, place = found._places.setdefault((status.st_dev, status.st_ino), (path, owner))
    if place != owner:
        raise UserError(f"{found.root}: {first} and {path} are one file; an image has one class and one part")
    return None if first == path else "the same file again"


def _fits_a_line(path: str) -> bool:
    try:
        return "\n" not in path and bool(path.encode())
    except UnicodeEncodeError:
        return False


def _entries(found: Scan, folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(found.root / folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{found.root / folder}: not a folder that can be read: {in_words(error)}") from None


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _first_reason(found: Scan) -> str:
    for reason, files in found.left_out.items():
        return f" (left out: {reason}: {files[0]})"
    return ""
