"""Data cards: what a data set is, where it comes from and what must come out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from lt_bench.data.class_names import check
from lt_bench.errors import UserError, unknown
from lt_bench.resources import resource_folder
from lt_bench.settings import Settings
from lt_bench.yaml_files import read_yaml

Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
Channels = tuple[float, float, float]
Factor = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=4096)]
Profile = Literal["exponential", "step"]


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
    """A list file of `relative/path label` lines."""

    file: str
    images: int = Field(ge=1)
    git_blobs: tuple[str, ...] = ()
    """What `git hash-object` prints for the known variants of the file. Empty: any file will do."""


class FolderSource(Settings):
    """Image files named by list files. `folder` lies below the data root, or as `folder`.tar beside it."""

    kind: Literal["image-folder"]
    folder: str
    train: ImageList
    validation: ImageList | None = None
    test: ImageList
    class_names: str | None = None
    """File of `class words` lines in label order, separated by a tab; or of plain names."""


class Known(Settings):
    """What a split with subset seed 0 must be, from the literature."""

    profile: Profile | None = None
    factor: Factor | None = None
    total: int = Field(ge=1)
    index_sha256: str | None = None


class Card(Settings):
    """Everything the suite knows about one data set."""

    name: str
    version: int = Field(ge=1)
    title: str
    source: Annotated[DigitsSource | CifarSource | FolderSource, Field(discriminator="kind")]
    classes: int = Field(ge=2, le=100_000)
    class_names: tuple[str, ...] | None = None
    """In label order; names in the data must agree. None: they are found in the data, or made."""
    image_size: Side
    """Height and width in pixels; of image files what they are brought to."""
    profile: Profile | None = None
    """Default profile; None: the training set is long-tailed by nature or by its list file."""
    n_max: int | None = Field(default=None, ge=1)
    """Default images of the largest class."""
    factor: Factor | None = None
    """Default imbalance factor, largest over smallest class."""
    mean: tuple[Mean, Mean, Mean]
    """Of red, green and blue, where 1 is the brightest."""
    std: tuple[Deviation, Deviation, Deviation]
    flip: bool
    """Whether a mirrored image still belongs to its class."""
    licence: str
    citation: str
    notes: str = ""
    known: tuple[Known, ...] = ()

    @model_validator(mode="after")
    def _says_what_is_done(self) -> Self:
        for contradiction in self._contradictions():
            raise ValueError(contradiction)
        return self

    def _contradictions(self) -> Iterator[str]:
        source, fields = self.source, ("profile", "n_max", "factor")
        if isinstance(source, FolderSource):
            drawn = [name for name in fields if getattr(self, name) is not None]
            if drawn:
                yield f"{drawn[0]}: the list files are the split, nothing is drawn from a set of image files"
            if self.class_names and source.class_names:
                yield "class_names: source.class_names names a file of them already"
        elif self.profile is None or self.n_max is None:
            yield "profile and n_max are needed, for a split is drawn from this kind of source"
        if self.class_names is not None:
            yield from _faults(self.class_names, self.classes)

    def expected(self, profile: Profile | None, factor: float | None, n_max: int | None, seed: int) -> Known | None:
        """The published facts of one split, None where there are none."""
        if seed != 0 or n_max != self.n_max:
            return None
        return next((k for k in self.known if (k.profile, k.factor) == (profile, factor)), None)


def card_names() -> list[str]:
    """All data sets there are cards for."""
    return sorted(path.stem for path in resource_folder("datasets").glob("*.yaml"))


def load_card(name: str) -> Card:
    """Read a card. Raises UserError with the nearest valid name."""
    if name not in card_names():
        raise UserError(unknown("data set", name, card_names()))
    path = resource_folder("datasets") / f"{name}.yaml"
    card = read_card(path)
    if card.name != name:
        raise UserError(f"{path}: name: {card.name!r} is not the name of the file")
    return card


def read_card(path: Path) -> Card:
    """Read the card in a file. Raises UserError with the first field that is wrong."""
    try:
        return Card.read(read_yaml(path))
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
