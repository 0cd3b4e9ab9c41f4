"""Where small images come from: scikit-learn's digits, torchvision's archives, the hub's parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lt_bench.data.arrays import ArrayPart, Decoded, Pixels, cached, extract, file_sha256
from lt_bench.data.cards import Card, CifarSource, DigitsSource
from lt_bench.data.class_names import agreed
from lt_bench.data.reading import reason
from lt_bench.data.tables import class_names, decode_table, read_table
from lt_bench.errors import NoDataError, UserError


@dataclass(frozen=True)
class Pool:
    """The whole data set, from which a split is drawn."""

    train: ArrayPart
    test: ArrayPart
    class_names: tuple[str, ...]
    origin: str


def has_pool(card: Card, root: Path) -> bool:
    """Whether the whole data set of a card is there."""
    source = card.source
    if isinstance(source, CifarSource):
        return all(_hub_files(source, root)) or _reference(source, root) is not None
    return isinstance(source, DigitsSource)


def open_pool(card: Card, root: Path, cache: Path) -> Pool:
    """Decode the data set of a card and check it against the card. Raises UserError.

    Its fingerprint makes it the published one, and the near-duplicates that CIFAR's parts share stay in.
    """
    source = card.source
    if isinstance(source, DigitsSource):
        train, test, origin = *digits(source.test_per_class), "scikit-learn"
    elif isinstance(source, CifarSource):
        train, test, origin = _cifar(card, source, root, cache)
    else:
        raise TypeError(f"{card.name} is not a set of small images")
    for name, decoded in (("train", train), ("test", test)):
        wanted = getattr(source.fingerprint, name)
        if decoded.fingerprint != wanted:
            raise UserError(
                f"{origin}: altered: the fingerprint of the {name} part is {decoded.fingerprint[:16]}, that of"
                f" {card.name} is {wanted[:16]}; fetch the data again"
            )
        _check_card(card, decoded.part, origin)
    names = [agreed(card, decoded.class_names, origin) for decoded in (train, test)]
    return Pool(train.part, test.part, names[0], origin)


def _check_card(card: Card, part: ArrayPart, origin: str) -> None:
    """Whether a card that has the fingerprint of the data tells the truth about it."""
    classes, side = len(np.unique(part.labels)), part.images.shape[1]
    if (classes, part.labels.max() + 1, side) != (card.classes, card.classes, card.image_size):
        raise UserError(
            f"{origin}: holds {classes} classes of images of {side} pixels, the card of {card.name} says"
            f" {card.classes} and {card.image_size}"
        )


def download(card: Card, root: Path) -> None:
    """Fetch the archive of a CIFAR card into `root` with torchvision, which checks its md5. Raises UserError."""
    source = card.source
    if isinstance(source, DigitsSource):
        return
    if not isinstance(source, CifarSource):
        raise UserError(
            f"{card.name} cannot be downloaded: {card.title} has to be fetched by hand;"
            f" lt-bench data describe {card.name} tells how"
        )
    from torchvision import datasets  # noqa: PLC0415 (slow to import)

    try:
        getattr(datasets, source.torchvision)(root=str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{root}: the archive of {card.title} could not be fetched: {reason(error)}") from None


def digits(test_per_class: int) -> tuple[Decoded, Decoded]:
    """Training pool and balanced test part of the digits, 32x32.

    Of each class a permutation of NumPy's legacy generator with seed 0, class by class, puts the first
    `test_per_class` into the test part; both parts keep the order of the file.
    """
    rows = np.loadtxt(_digits_file(), delimiter=",")  # [N, 65]
    images, labels = enlarge(rows[:, :-1].reshape(-1, 8, 8)), rows[:, -1].astype(np.int64)
    rng = np.random.RandomState(0)
    test = np.zeros(len(labels), dtype=bool)
    for c in range(10):
        test[rng.permutation(np.flatnonzero(labels == c))[:test_per_class]] = True
    names = tuple(map(str, range(10)))
    return Decoded.of(images[~test], labels[~test], names), Decoded.of(images[test], labels[test], names)


def _digits_file() -> Path:
    """The file that `sklearn.datasets.load_digits` reads. The fingerprint proves it; to import that takes a second."""
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


def enlarge(images: np.ndarray) -> Pixels:
    """Bilinear 8x8 -> 32x32, values 0..16 -> 0..255, grey -> RGB.

    The weights are multiples of 1/8, so every product and sum is exact in float64: all machines agree.
    """
    at = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(8)))  # [32, 8]
    grey = np.floor(weights @ images @ weights.T * 255 / 16 + 0.5).astype(np.uint8)  # [N, 32, 32]
    return np.repeat(grey[..., None], 3, axis=-1)


def _cifar(card: Card, source: CifarSource, root: Path, cache: Path) -> tuple[Decoded, Decoded, str]:
    reference = _reference(source, root)
    if reference is not None:
        # Before the parquet files: the archive's order is the one that the field's splits are defined on.
        folder = _archive_folder(reference, root, cache)
        return (
            _archive_part(reference, folder, cache, True),
            _archive_part(reference, folder, cache, False),
            str(folder),
        )
    train, test = _hub_files(source, root)
    if not (train and test):
        missing = "" if root.is_dir() else " (there is no such folder)"
        raise NoDataError(
            f"{root}{missing}: no data for {card.name}: looked for {source.hub}/{{train,test}}-*.parquet and for"
            f" torchvision's archive of {source.torchvision}; name the folder with --data-root or LT_BENCH_DATA"
        )
    side = card.image_size
    return _parquet_part(train, cache, side), _parquet_part(test, cache, side), str(root / source.hub)


def _hub_files(source: CifarSource, root: Path) -> tuple[list[Path], list[Path]]:
    folder = root / source.hub
    return sorted(folder.glob("train-*.parquet")), sorted(folder.glob("test-*.parquet"))


def _parquet_part(paths: Sequence[Path], cache: Path, side: int) -> Decoded:
    def decode() -> Decoded:
        tables = [read_table(path) for path in paths]
        parts = [decode_table(table, path, side) for table, path in zip(tables, paths, strict=True)]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Decoded.of(images, labels, class_names(tables[0].schema))

    return cached(file_sha256(*paths), cache, decode)


def _reference(source: CifarSource, root: Path) -> Any:
    """The class of torchvision for the data set when its archive lies in the root, packed or not."""
    if not any(root.glob("cifar-*")):
        return None
    from torchvision import datasets  # noqa: PLC0415 (slow to import)

    reference = getattr(datasets, source.torchvision)
    found = (root / reference.base_folder).is_dir() or (root / reference.filename).is_file()
    return reference if found else None


def _archive_folder(reference: Any, root: Path, cache: Path) -> Path:
    """The extracted archive, every file's md5 checked: nothing is unpickled before."""
    folder: Path = root / reference.base_folder
    if not folder.is_dir():
        archive = root / reference.filename
        _check_md5(archive, reference.tgz_md5)
        folder = extract(archive, cache) / reference.base_folder
    for file, md5 in (*reference.train_list, *reference.test_list, (reference.meta["filename"], reference.meta["md5"])):
        _check_md5(folder / file, md5)
    return folder


def _archive_part(reference: Any, folder: Path, cache: Path, train: bool) -> Decoded:
    def decode() -> Decoded:
        data = reference(root=str(folder.parent), train=train, download=False)
        return Decoded.of(data.data, np.asarray(data.targets, dtype=np.int64), tuple(data.classes))

    files = reference.train_list if train else reference.test_list
    return cached(file_sha256(*(folder / file for file, _ in files)), cache, decode)


def _check_md5(path: Path, md5: str) -> None:
    from torchvision.datasets.utils import check_integrity  # noqa: PLC0415 (slow to import)

    if not check_integrity(str(path), md5):
        raise UserError(f"{path}: missing, cut off or altered (its md5 is not {md5}); fetch it again")
