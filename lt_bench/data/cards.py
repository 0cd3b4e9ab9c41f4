"""Data cards: what a data set is, where it comes from and what must come out of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from lt_bench.errors import UserError, unknown
from lt_bench.resources import resource_folder
from lt_bench.settings import Settings
from lt_bench.yaml_files import read_yaml

Channels = tuple[float, float, float]
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
    images: int
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
    """File of `class words` lines in label order, separated by a tab."""


class Known(Settings):
    """What a split with subset seed 0 must be, from the literature."""

    profile: Profile | None = None
    factor: float | None = None
    total: int
    index_sha256: str | None = None


class Card(Settings):
    """Everything the suite knows about one data set."""

    name: str
    version: int
    title: str
    source: Annotated[DigitsSource | CifarSource | FolderSource, Field(discriminator="kind")]
    classes: int = Field(ge=2)
    image_size: int
    profile: Profile | None = None
    """Default profile; None: the training set is long-tailed by nature or by its list file."""
    n_max: int | None = None
    """Default images of the largest class."""
    factor: float | None = None
    """Default imbalance factor, largest over smallest class."""
    mean: Channels
    std: Channels
    flip: bool
    """Whether a mirrored image still belongs to its class."""
    licence: str
    citation: str
    notes: str = ""
    known: tuple[Known, ...] = ()

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
    try:
        return Card.read(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
