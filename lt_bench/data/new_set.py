"""A data set of one's own: from a folder of images, or from list files, to a card and a setting that runs take."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from lt_bench.data.arrays import cache_folder
from lt_bench.data.cards import FILE, MAX_NAME, FolderSource, ImageList, card_names, read_card
from lt_bench.data.class_names import from_folders
from lt_bench.data.copies import copies
from lt_bench.data.folder import FilePart, open_folder
from lt_bench.data.groups import group_masks
from lt_bench.data.lists import read_any_list
from lt_bench.data.scan import Classes, Scan, read_all, scan
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import Split
from lt_bench.errors import UserError
from lt_bench.files import in_words
from lt_bench.resources import resource_folder

NAME = re.compile(r"[A-Za-z0-9]+([-_][A-Za-z0-9]+)*")
MOST_TEST = 50
"""Test images of a class, where they are drawn and their number is not given."""
PROTOCOL, BACKBONE, SIDE = "images-30ep", "resnet10", 64
"""What small sets of photographs are tried with."""

CARD = """\
# {name}: made by `lt-bench data new`. Paths are relative to this file.
name: {quoted}
version: 1
title: {quoted}
source:
  kind: image-folder
  folder: {folder}
{lists}
classes: {classes}
class_names: [{names}]
image_size: {side}
n_max: {n_max}  # images of the largest class, where a factor asks for a long-tailed split
mean: [0.485, 0.456, 0.406]  # ImageNet's
std: [0.229, 0.224, 0.225]
flip: true  # false where a mirrored image is of another class
licence: not stated
citation: ""
"""

SETTING = """\
# {name}: images of one's own at {side}x{side}, as many of each class as there are.
# For a long tail that is drawn from them: data: {{name: {quoted}, factor: 50}}
protocol: {protocol}
data: {{name: {quoted}}}
model: {{backbone: {backbone}}}
"""


@dataclass(frozen=True)
class NewSet:
    """What was made, and what there is to say about it."""

    folder: Path
    split: Split
    said: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Counts, groups and what was done, a line each."""
        split = self.split
        counts, parts = split.counts, {"training": split.train, "validation": split.validation, "test": split.test}
        sizes = ", ".join(f"{len(part.labels)} {name}" for name, part in parts.items() if part is not None)
        groups = ", ".join(f"{members.sum()} {name}" for name, members in group_masks(counts).items())
        yield f"{self.folder}: {split.card.classes} classes ({groups}), images: {sizes}"
        named = [f"{name} ({count})" for name, count in zip(split.class_names, counts.tolist(), strict=True)]
        yield f"classes: {shortened(named, 10)}"
        yield from self.said
        yield f"written: {', '.join(str(self.folder / path.name) for path in sorted(self.folder.iterdir()))}"


@dataclass
class _Plan:
    """What a card says of images: their folder, their lists, and the lists that are to be written beside it."""

    images: Path
    lists: dict[str, ImageList] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    n_max: int = 0
    """Training images of the largest class."""
    written: dict[str, bytes] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def write(self, part: str, rows: Sequence[tuple[str, int]]) -> None:
        data = "".join(map(list_line, rows)).encode()
        file = f"{part}.txt"
        self.written[file] = data
        self.lists[part] = ImageList(file=file, images=len(rows), sha256=hashlib.sha256(data).hexdigest())


def new_from_folder(
    name: str, images: Path, out: Path = Path(), test_per_class: int | None = None, seed: int | None = None
) -> NewSet:
    """Write card, setting and lists for class folders below `images`, with `train/` and `test/` or without.

    Labels are in the order of falling class size, ties by name. Without a test part a balanced one is drawn, as many
    images of each class (by default half of the smallest class, at most 50), class by class with NumPy's legacy
    generator and the seed, by default 0. Raises UserError, having written nothing.
    """
    place = _place(name, out)
    found = scan(images)
    plan = _Plan(images, said=list(_said_of(found)))
    parts = found.parts
    train = parts["train"]
    plan.class_names = tuple(sorted(train, key=lambda c: (-len(train[c]), c)))
    for option, given in {"--test-per-class": test_per_class, "--seed": seed}.items():
        if "test" in parts and given is not None:
            raise UserError(f"{images}: has a test part of its own; leave {option} out")
    if "test" not in parts:
        parts["train"], parts["test"] = _drawn(found, plan, test_per_class, seed or 0)
    plan.n_max = len(parts["train"][plan.class_names[0]])
    for part in ("train", "validation", "test"):
        if part in parts:
            plan.write(part, _rows(images, part, parts[part], plan.class_names))
    return _made(place, plan)


def new_from_lists(name: str, train: Path, test: Path, images: Path | None = None, out: Path = Path()) -> NewSet:
    """Write card and setting for two files of `relative/path label` lines, below the folder `images`.

    By default that is the folder of the training list. The lists stay where they are, and the labels what they are.
    Raises UserError, having written nothing.
    """
    place = _place(name, out)
    plan = _Plan(images or train.parent)
    parts: dict[str, FilePart] = {}
    digests: dict[str, bytes] = {}
    for part, path in {"train": train, "test": test}.items():
        if not path.is_file():  # such as a pipe, which is empty when a run reads it
            raise UserError(f"{path}: is no file; a list stays where it is, and every run reads it")
        listed, digest = read_any_list(path)
        found = FilePart(plan.images, listed.files, listed.labels)
        found.sizes()
        digests |= _digests(found, path)
        parts[part] = found
        plan.lists[part] = ImageList(file=_relative(path, place), images=len(found.labels), sha256=digest)
    classes = int(parts["train"].labels.max()) + 1
    plan.class_names = from_folders(parts["train"], classes)
    plan.n_max = int(np.bincount(parts["train"].labels).max())
    plan.said.extend(_said_of_copies(parts, digests))
    return _made(place, plan)


def list_line(row: tuple[str, int]) -> str:
    """A line of a list file, whatever the name of the file begins with."""
    file, label = row
    lost = file[0] in " \t\ufeff"  # at the beginning of a line or of a file
    return f"{'./' if lost else ''}{file} {label}\n"


def shortened(items: Sequence[str], most: int) -> str:
    return ", ".join(items) if len(items) <= most else f"{', '.join(items[:most])}, ... {items[-1]}"


def _drawn(found: Scan, plan: _Plan, per_class: int | None, seed: int) -> tuple[Classes, Classes]:
    """Training and test part of images without parts."""
    classes = found.parts["train"]
    smallest = plan.class_names[-1]
    available = len(classes[smallest])
    per_class = per_class or min(available // 2, MOST_TEST)
    if not 0 < per_class < available:
        raise UserError(
            f"{found.root}: the class {smallest} has {available} image{'s' if available > 1 else ''}, too few to draw"
            f" {max(per_class, 1)} for testing and keep one; add images, take the folder away, or ask for fewer with"
            " --test-per-class"
        )
    rng = np.random.RandomState(seed)
    chosen = {name: set(rng.permutation(len(classes[name]))[:per_class].tolist()) for name in plan.class_names}
    plan.said.append(f"test part: drawn, {per_class} images of each class, seed {seed}; --test-per-class changes it")
    train = {name: [file for k, file in enumerate(classes[name]) if k not in chosen[name]] for name in classes}
    return train, {name: [classes[name][k] for k in sorted(chosen[name])] for name in classes}


def _rows(images: Path, part: str, classes: Classes, names: Sequence[str]) -> list[tuple[str, int]]:
    """The list of a part. Raises UserError where its classes are not those of the training part."""
    strange, missing = sorted(set(classes) - set(names)), [name for name in names if name not in classes]
    if strange:
        raise UserError(f"{images}: the {part} part has the class {strange[0]}, the training part has no image of it")
    if missing and part == "test":
        raise UserError(f"{images}: the class {missing[0]} has no test image; add some, or take its folder away")
    return [(file, label) for label, name in enumerate(names) for file in classes.get(name, ())]


def _said_of(found: Scan) -> Iterator[str]:
    if len(found.parts) > 1:
        yield f"parts: {', '.join(f'{part} from {_above(classes)}/' for part, classes in found.parts.items())}"
    yield from _counted("left out", found.left_out)
    yield from _counted("left in", found.left_in)


def _counted(done: str, files_by_reason: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for reason, files in files_by_reason.items():
        yield f"{done}: {len(files)}, {reason}: {files[0]}{', ...' if len(files) > 1 else ''}"


def _above(classes: Classes) -> str:
    return next(iter(classes.values()))[0].partition("/")[0]


def _digests(part: FilePart, path: Path) -> dict[str, bytes]:
    """Of the pixels of the images of a list. Raises UserError where one cannot be read."""
    digests, broken = read_all(part.folder, list(dict.fromkeys(part.files)))
    for file, reason in broken.items():
        raise UserError(f"{path}: {len(broken)} of its images cannot be read, the first is {file}: {reason}")
    return digests


def _said_of_copies(parts: Mapping[str, FilePart], digests: Mapping[str, bytes]) -> Iterator[str]:
    """The copies in lists, which are taken as they are."""
    left_in: dict[str, list[str]] = {}
    for copy in copies({part: zip(at.labels.tolist(), at.files, strict=True) for part, at in parts.items()}, digests):
        left_in.setdefault(copy.what, []).append(copy.told)
    return _counted("left in", left_in)


def _place(name: str, out: Path) -> Path:
    """The folder to be made. Raises UserError for a name that cannot be had."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise UserError(
            f"{name[:80]!r}: a name has letters (a to z), digits and single - or _, at most {MAX_NAME} of them"
        )
    settings = [path.stem for path in (resource_folder("recipes") / "settings").glob("*.yaml")]
    if name.casefold() in ("recipes", *card_names(), *settings):
        raise UserError(f"{name}: is the name of a data set or setting that ships; choose another one")
    if not out.is_dir():
        raise UserError(f"{out}: there is no such folder")
    if os.path.lexists(out / name):
        raise UserError(f"{out / name}: is there already; choose another name, or another folder with --out")
    return out / name


def _made(place: Path, plan: _Plan) -> NewSet:
    """Write everything in a folder beside the place, open it as a run would, and move it there."""
    if len(plan.class_names) < 2:
        raise UserError(f"{plan.images}: one class, {plan.class_names[0]}, is too few; each class needs a folder")
    beside = place.with_name(f".{secrets.token_hex(8)}.tmp")
    texts = {FILE: _card(place, plan).encode(), "setting.yaml": _setting(place.name).encode()}
    try:
        beside.mkdir()
        for file, data in {**plan.written, **texts}.items():
            (beside / file).write_bytes(data)
        split = _opened(beside)
        beside.rename(place)
    except OSError as error:
        raise UserError(f"{place}: cannot be written: {in_words(error)}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return NewSet(place, split, tuple(plan.said))


def _opened(folder: Path) -> Split:
    """The split of a card, checked as for a run. Raises UserError."""
    card = read_card(folder / FILE)
    assert isinstance(card.source, FolderSource)
    source = card.source.beside(folder)
    split = open_folder(card, source, DataSpec(name=card.name).resolve(card), folder, cache_folder(None))
    untested = np.flatnonzero(np.bincount(split.test.labels, minlength=card.classes) == 0)
    if len(untested):
        k = untested[0]
        raise UserError(f"{source.test.file}: class {k} ({split.class_names[k]}) has no test image")
    return split


def _card(place: Path, plan: _Plan) -> str:
    return CARD.format(
        name=place.name,
        quoted=quoted(place.name),
        folder=quoted(_relative(plan.images, place)),
        lists="\n".join(_list_entries(plan.lists)),
        classes=len(plan.class_names),
        names=", ".join(map(quoted, plan.class_names)),
        side=SIDE,
        n_max=plan.n_max,
    )


def _list_entries(lists: Mapping[str, ImageList]) -> Iterable[str]:
    for part, images in lists.items():
        yield f"  {part}: {{file: {quoted(images.file)}, images: {images.images}, sha256: {images.sha256!r}}}"


def _setting(name: str) -> str:
    return SETTING.format(name=name, quoted=quoted(name), side=SIDE, protocol=PROTOCOL, backbone=BACKBONE)


def quoted(text: str) -> str:
    """Text as YAML that is read as this text, whatever it looks like."""
    dumped: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))
    return dumped.removesuffix("\n")


def _relative(path: Path, place: Path) -> str:
    """A path as it was given if absolute, else relative to the folder of the card. Raises UserError if not in UTF-8."""
    text = str(path) if path.is_absolute() else os.path.relpath(path.resolve(), place.parent.resolve() / place.name)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{str(path)!a}: the path is not in UTF-8, so no card can name it") from None
    return text
