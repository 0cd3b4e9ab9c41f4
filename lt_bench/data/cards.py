"""Data cards: what a data set is, where it comes from and what must come out of it.

A card ships as `datasets/<name>.yaml`, or is one's own: `<name>/card.yaml` in the working folder, or in a folder that
was named by path. In a card of one's own all paths are relative to the card.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from lt_bench.data.class_names import check
from lt_bench.data.looks import Looks
from lt_bench.errors import UserError, unknown
from lt_bench.resources import resource_folder, shipped_files
from lt_bench.settings import Settings
from lt_bench.yaml_files import parse_mapping, read_text

Channels = tuple[float, float, float]
Factor = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=4096)]
Profile = Literal["exponential", "step"]

MAX_CLASSES = 100_000
MAX_NAME = 60
"""Characters of the name of one's own set."""


class Fingerprint(Settings):
    """sha256 over the sorted sha256(label byte + H x W x C bytes) of every image, whatever their order."""

    train: str
    test: str


class DigitsSource(Settings):
    """The 8x8 digits that scikit-learn carries, brought to 32x32."""

    kind: Literal["sklearn-digits"]
    test_per_class: int = Field(gt=0)
    fingerprint: Fingerprint


class CifarSource(Settings):
    """The archive that torchvision downloads, or the hub's parquet files."""

    kind: Literal["cifar"]
    torchvision: Literal["CIFAR10", "CIFAR100"]
    hub: str
    """Folder of the parquet files below the data root."""
    fingerprint: Fingerprint


class ImageList(Settings):
    """Which images a part has: a list file, or what else is published of it."""

    file: str
    """Of the list, or the folder of class folders."""
    form: Literal["lines", "coco", "class-folders", "annotations"] = "lines"
    """`lines`: `relative/path label`. `coco`: JSON of images and annotations, whose category ids are the labels.
    `class-folders`: no list. `annotations`: file and name of the class, separated by a tab, a line each."""
    images: int = Field(ge=1)
    per_class: int | None = Field(default=None, ge=1)
    """Images of every class. None: not as many of each."""
    folder: str | None = None
    """Where the paths in JSON or annotations begin. None: in the folder of the set."""
    names: str | None = None
    """File of the names of the classes, a line each, which stand in place of labels; sorted, they are in label order.
    For class folders and annotations."""
    git_blobs: tuple[str, ...] = ()
    """What `git hash-object` prints for the known variants of a published file, or how that begins. Empty: any file
    will do."""
    sha256: str | None = None
    """Of the file that the card was made for. None: any file will do."""

    @model_validator(mode="after")
    def _says_what_its_form_has(self) -> Self:
        if (self.form in ("class-folders", "annotations")) != (self.names is not None):
            raise ValueError("names: class-folders and annotations need a file of them, the other forms have labels")
        if self.folder is not None and self.form not in ("coco", "annotations"):
            raise ValueError(f"folder: is for coco and annotations, the form is {self.form}")
        if self.form == "class-folders" and (self.git_blobs or self.sha256):
            raise ValueError("class-folders are no file with a digest")
        return self

    def beside(self, folder: Path) -> ImageList:
        """The same with paths that were relative to a folder."""
        paths = {name: getattr(self, name) for name in ("file", "folder", "names")}
        return self.model_copy(update={name: _beside(path, folder) for name, path in paths.items() if path is not None})


class WrongForm(Settings):
    """A form in which people have the files, and which is not the one that is read."""

    found: str
    """What gives it away, relative to the folder of the set: a path, in which * and ? stand for anything."""
    instead_of: tuple[str, ...] = ()
    """How the path of what is missing then begins. Empty: the folder itself is missing."""
    said: str
    """What it is, and what is to be done."""


class FolderSource(Settings):
    """Image files that lists name. `folder` lies below the data root, or as `folder`.tar beside it.

    Published lists are the split. From any other a long-tailed one is drawn where a factor asks for it.
    """

    kind: Literal["image-folder"]
    folder: str
    train: ImageList
    validation: ImageList | None = None
    test: ImageList
    class_names: str | None = None
    """File of `class words` lines in label order, separated by a tab; or of plain names."""
    tree: tuple[str, ...] = ()
    """Where the images lie in the folder, such as `train/<wnid>/*.JPEG`."""
    images_from: str | None = None
    """Where one comes by the images, in one line."""
    lists_from: str | None = None
    """Where one comes by the lists."""
    wrong_forms: tuple[WrongForm, ...] = ()
    """What is said where files are missing, the first that is found."""
    image_bytes: int | None = Field(default=None, ge=1)
    """Mean size of an image file, roughly: for the space that they take."""

    @property
    def published(self) -> bool:
        return bool(self.train.git_blobs)

    @property
    def parts(self) -> dict[str, ImageList]:
        """The parts that it has, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {part: images for part, images in parts.items() if images is not None}

    def beside(self, folder: Path) -> FolderSource:
        """The same with paths that were relative to a folder."""
        lists: dict[str, object] = {part: images.beside(folder) for part, images in self.parts.items()}
        names = None if self.class_names is None else _beside(self.class_names, folder)
        return self.model_copy(update={**lists, "folder": _beside(self.folder, folder), "class_names": names})


def _beside(path: str, folder: Path) -> str:
    return str((folder / path).resolve())


class Known(Settings):
    """What a split with subset seed 0 must be, from the literature."""

    profile: Profile | None = None
    factor: Factor | None = None
    total: int = Field(ge=1)
    largest: int | None = None
    """Training images of the largest class."""
    smallest: int | None = None
    groups: tuple[int, int, int] | None = None
    """Classes of many, medium and few images."""
    counts_sha256: str | None = None
    """Of the training images of all classes in label order, joined by commas."""
    index_sha256: str | None = None


class Card(Looks):
    """Everything the suite knows about one data set."""

    name: str
    version: int = Field(ge=1)
    title: str
    source: Annotated[DigitsSource | CifarSource | FolderSource, Field(discriminator="kind")]
    classes: int = Field(ge=2, le=MAX_CLASSES)
    class_names: tuple[str, ...] | None = None
    """In label order; names in the data must agree. None: they are found in the data, or made."""
    image_size: Side
    """Height and width in pixels; of image files what they are brought to."""
    profile: Profile | None = None
    """Default profile; None, of image files: exponential."""
    n_max: int | None = Field(default=None, ge=1)
    """Default images of the largest class, where a split is drawn."""
    factor: Factor | None = None
    """Default imbalance factor, largest over smallest class. None, of image files: nothing is drawn."""
    licence: str
    citation: str
    papers: tuple[str, ...] = ()
    """Keys of `recipes/papers.yaml`."""
    notes: str = ""
    known: tuple[Known, ...] = ()

    @model_validator(mode="after")
    def _says_what_is_done(self) -> Self:
        for contradiction in self._contradictions():
            raise ValueError(contradiction)
        return self

    def _contradictions(self) -> Iterator[str]:
        source = self.source
        if isinstance(source, FolderSource):
            yield from self._undrawn(source)
            if self.class_names and source.class_names:
                yield "class_names: source.class_names names a file of them already"
        elif self.profile is None or self.n_max is None:
            yield "profile and n_max are needed, for a split is drawn from this kind of source"
        if self.class_names is not None:
            yield from _faults(self.class_names, self.classes)

    def _undrawn(self, source: FolderSource) -> Iterator[str]:
        """What a card of image files says of a split that nobody draws."""
        said = [name for name in ("profile", "n_max", "factor") if getattr(self, name) is not None]
        if said and source.published:
            yield f"{said[0]}: published list files are the split, nothing is drawn from them"
        elif self.profile is not None and self.factor is None:
            yield "profile: nothing is drawn without a factor"
        elif self.factor is not None and self.n_max is None:
            yield "n_max is needed where a factor asks for a drawn split"
        elif self.factor is not None and source.validation is not None:
            yield "factor: source.validation is a part of the natural counts; leave one of the two out"

    @property
    def looks(self) -> Looks:
        return Looks(mean=self.mean, std=self.std, flip=self.flip)

    @property
    def test_fingerprint(self) -> str | None:
        """Of the test part, see `Fingerprint`. None for image files, whose list has them in one order."""
        return None if isinstance(self.source, FolderSource) else self.source.fingerprint.test

    def expected(self, profile: Profile | None, factor: float | None, n_max: int | None, seed: int) -> Known | None:
        """The published facts of one split, None where there are none."""
        if seed != 0 or n_max != self.n_max:
            return None
        return next((k for k in self.known if (k.profile, k.factor) == (profile, factor)), None)


FILE = "card.yaml"
"""Of a set of one's own, in the folder of its name."""
_named: dict[Path, None] = {}
"""Folders of one's own sets that were named by path, in order; see `remember`."""


def card_names() -> list[str]:
    """All data sets that ship."""
    return sorted(shipped_files(resource_folder("datasets")))


def own_names() -> list[str]:
    """The sets of one's own in the working folder."""
    return sorted(path.parent.name for path in Path().glob(f"*/{FILE}"))


def remember(folder: Path) -> None:
    """Find the card in a folder from now on, by the folder's name, wherever the folder is."""
    _named[folder.absolute()] = None


def remembered() -> tuple[Path, ...]:
    """The folders that were named by path, which another process has to be told of."""
    return tuple(_named)


def named_card(word: str) -> str:
    """The name of the set that a word of the command line stands for; a path, of its folder or card, is remembered."""
    folder = Path(word).absolute()
    folder = folder.parent if folder.name == FILE else folder
    if ("/" in word or word == FILE or len(Path(word).parts) > 1) and (folder / FILE).is_file():
        remember(folder)
        return folder.name
    return word


def load_card(name: str) -> Card:
    """Read a card that ships or is one's own. Raises UserError with the nearest valid name.

    One's own lies in the working folder or in a folder that was named by path, and its name is its own.
    """
    shipped, own = name in card_names(), _own_folder(name)
    if shipped and own is not None:
        raise UserError(f"{own / FILE}: {name} is a data set that ships; rename the folder, the card and what names it")
    if shipped:
        path = resource_folder("datasets") / f"{name}.yaml"
        return _called(name, read_card(path), path, "file")
    if own is None:
        told = unknown("data set", name, [*card_names(), *own_names()])
        raise UserError(told if "did you mean" in told else f"{told}; one of your own has to lie in the working folder")
    card = _called(name, read_card(own / FILE), own / FILE, "folder")
    if not isinstance(card.source, FolderSource):
        raise UserError(f"{own / FILE}: source.kind: a card of one's own has image-folder, found {card.source.kind}")
    return card.model_copy(update={"source": card.source.beside(own)})


def _own_folder(name: str) -> Path | None:
    """Where the card of one's own with this name lies. Raises UserError if there are two."""
    places = [Path(name), *(folder for folder in _named if folder.name == name)]
    found = {place.resolve(): place for place in places if _plain(name) and (place / FILE).is_file()}
    if len(found) > 1:
        raise UserError(f"{name}: there is a card of this name in {' and in '.join(map(str, found))}; rename one")
    return next(iter(found.values()), None)


def _plain(name: str) -> bool:
    """Whether a name can be that of a folder in the working folder."""
    return len(name) <= MAX_NAME and "\0" not in name and Path(name).parts == (name,) and name not in ("..", "/")


def _called(name: str, card: Card, path: Path, what: str) -> Card:
    if card.name != name:
        raise UserError(f"{path}: name: {card.name!r} is not the name of the {what}")
    return card


def read_card(path: Path) -> Card:
    """Read the card in a file. Raises UserError with the first field that is wrong."""
    return _card(read_text(path), path)


@lru_cache(maxsize=64)
def _card(text: str, path: Path) -> Card:
    """Made once of a text: to read one recipe takes its card three times."""
    try:
        return Card.read(parse_mapping(text, path))
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in (path, ".".join(map(str, first["loc"]))) if part)
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(place + " ".join(message.split())) from None


def _faults(names: tuple[str, ...], classes: int) -> Iterator[str]:
    try:
        check(names, classes, [f"class_names.{k}" for k in range(len(names))])
    except UserError as error:
        yield str(error)
