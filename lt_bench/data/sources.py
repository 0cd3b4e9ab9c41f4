"""Where small images come from: scikit-learn's digits, torchvision's archives, the hub's parquet files."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_bench.data.arrays import ArrayPart, Decoded, Pixels, build_folder, cached, file_sha256
from lt_bench.data.cards import Card, CifarSource, DigitsSource
from lt_bench.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from lt_bench.data.types import IntArray

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label")


@dataclass(frozen=True)
class Pool:
    """The whole data set, from which a split is drawn."""

    train: ArrayPart
    test: ArrayPart
    class_names: tuple[str, ...]
    origin: str


def open_pool(card: Card, root: Path, cache: Path) -> Pool:
    """Decode the data set of a card and check it against the card. Raises UserError."""
    source = card.source
    if isinstance(source, DigitsSource):
        train, test, origin = *digits(source.test_per_class), "scikit-learn"
    elif isinstance(source, CifarSource):
        train, test, origin = _cifar(source, root, cache, card.name)
    else:
        raise TypeError(f"{card.name} is not a set of small images")
    for name, decoded in (("train", train), ("test", test)):
        if decoded.fingerprint != getattr(source.fingerprint, name):
            raise UserError(
                f"{origin}: the {name} part is not that of {card.name}: its fingerprint is {decoded.fingerprint[:16]},"
                f" the card says {getattr(source.fingerprint, name)[:16]}; fetch the data again"
            )
    names = train.class_names or tuple(map(str, range(card.classes)))
    return Pool(train.part, test.part, names, origin)


def digits(test_per_class: int) -> tuple[Decoded, Decoded]:
    """Training pool and balanced test part of the digits, 32x32.

    Of each class a permutation of NumPy's legacy generator with seed 0, class by class, puts the first
    `test_per_class` into the test part; both parts keep the order of the file.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415 (slow to import)

    bunch = load_digits()
    images, labels = enlarge(bunch.images), bunch.target.astype(np.int64)
    rng = np.random.RandomState(0)
    test = np.zeros(len(labels), dtype=bool)
    for c in range(10):
        test[rng.permutation(np.flatnonzero(labels == c))[:test_per_class]] = True
    names = tuple(map(str, range(10)))
    return Decoded.of(images[~test], labels[~test], names), Decoded.of(images[test], labels[test], names)


def enlarge(images: np.ndarray) -> Pixels:
    """Bilinear 8x8 -> 32x32, values 0..16 -> 0..255, grey -> RGB.

    The weights are multiples of 1/8, so every product and sum is exact in float64: all machines agree.
    """
    at = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(8)))  # [32, 8]
    grey = np.floor(weights @ images @ weights.T * 255 / 16 + 0.5).astype(np.uint8)  # [N, 32, 32]
    return np.repeat(grey[..., None], 3, axis=-1)


def _cifar(source: CifarSource, root: Path, cache: Path, name: str) -> tuple[Decoded, Decoded, str]:
    reference = _torchvision_class(source, root)
    if reference is not None:
        # The archive's order is the original one, which the field's splits are defined on: it comes first.
        folder = root / reference.base_folder
        if not folder.is_dir():
            folder = extract_checked(root / reference.filename, reference.tgz_md5, cache) / reference.base_folder
        return *(_archive_part(reference, folder, cache, train) for train in (True, False)), str(folder)
    hub = root / source.hub
    parts = [sorted(hub.glob(f"{part}-*.parquet")) for part in ("train", "test")]
    if not all(parts):
        raise UserError(
            f"{root}: no data for {name}: looked for {source.hub}/{{train,test}}-*.parquet and for torchvision's"
            f" archive of {source.torchvision}; name the folder with --data-root or LT_BENCH_DATA"
        )
    train, test = (cached(file_sha256(*paths), cache, lambda paths=paths: _parquet_part(paths)) for paths in parts)
    return train, test, str(hub)


def _torchvision_class(source: CifarSource, root: Path) -> Any:
    """torchvision's class for the data set when its files lie in the root. Imports torch only then."""
    stem = {"CIFAR10": "cifar-10", "CIFAR100": "cifar-100"}[source.torchvision]
    if not any(root.glob(f"{stem}-*")):
        return None
    from torchvision import datasets  # noqa: PLC0415 (slow to import)

    reference = getattr(datasets, source.torchvision)
    found = (root / reference.base_folder).is_dir() or (root / reference.filename).is_file()
    return reference if found else None


def _archive_part(reference: Any, folder: Path, cache: Path, train: bool) -> Decoded:
    """Decode one part of an extracted archive; every file's md5 is checked before anything is unpickled."""
    from torchvision.datasets.utils import check_integrity  # noqa: PLC0415 (slow to import)

    files = [*reference.train_list, *reference.test_list, (reference.meta["filename"], reference.meta["md5"])]
    for file, md5 in files:
        if not check_integrity(str(folder / file), md5):
            raise UserError(f"{folder / file}: missing or altered (its md5 is not torchvision's); extract it again")

    def decode() -> Decoded:
        data = reference(root=str(folder.parent), train=train, download=False)
        return Decoded.of(data.data, np.asarray(data.targets, dtype=np.int64), tuple(data.classes))

    wanted = reference.train_list if train else reference.test_list
    return cached(file_sha256(*(folder / file for file, _ in wanted)), cache, decode)


def extract_checked(archive: Path, md5: str | None, cache: Path) -> Path:
    """Extract an archive into the cache once; no member may leave its folder. Returns the folder.

    Raises UserError when the md5 is given and differs, or when the archive cannot be read.
    """
    from torchvision.datasets.utils import check_integrity  # noqa: PLC0415 (slow to import)

    if md5 is not None and not check_integrity(str(archive), md5):
        raise UserError(f"{archive}: altered or cut off (its md5 is not {md5}); download it again")
    target = cache / "archives" / file_sha256(archive)

    def build(scratch: Path) -> None:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")
        except (tarfile.TarError, EOFError, UnicodeError) as error:
            raise UserError(f"{archive}: not a safe and complete tar archive: {error}") from None

    build_folder(target, build)
    return target


def _parquet_part(paths: Sequence[Path]) -> Decoded:
    tables = [read_table(path) for path in paths]
    parts = [decode_table(table, path) for table, path in zip(tables, paths, strict=True)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Decoded.of(images, labels, class_names(tables[0].schema))


def read_table(path: Path) -> pa.Table:
    """Read a parquet file. Raises UserError in one line."""
    import pyarrow as pa  # noqa: PLC0415 (slow to import)
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        # A plain file: the folder names on the way must not turn into columns.
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a readable parquet file: {' '.join(str(error).split())}") from None


def decode_table(table: pa.Table, path: Path) -> tuple[Pixels, IntArray]:
    """Images uint8 [N, H, W, 3] and labels int64 [N] of a table in the hub's layout. Raises UserError."""
    image_column, label_column = (_column(table, names, path) for names in (_IMAGE_COLUMNS, _LABEL_COLUMNS))
    try:
        encoded = table.column(image_column).combine_chunks().field("bytes")
        images = np.stack([_pixels(cell.as_py()) for cell in _with_progress(encoded, f"decode {path.name}")])
        labels = table.column(label_column).to_numpy().astype(np.int64)
    except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
        raise UserError(f"{path}: holds an image or label that cannot be read: {error}") from None
    if len(labels) and not 0 <= labels.min() <= labels.max() < 256:
        raise UserError(f"{path}: labels must lie in 0..255, found {labels.min()}..{labels.max()}")
    return images, labels


def class_names(schema: pa.Schema) -> tuple[str, ...]:
    """Class names in the schema's `huggingface` metadata, empty where there are none."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return next(tuple(features[name]["names"]) for name in _LABEL_COLUMNS if name in features)
    except (TypeError, KeyError, ValueError, StopIteration):
        return ()


def _column(table: pa.Table, names: Iterable[str], path: Path) -> str:
    for name in names:
        if name in table.column_names:
            return name
    raise UserError(f"{path}: no column {' or '.join(names)} (found {', '.join(table.column_names)})")


def _pixels(encoded: bytes) -> Pixels:
    from PIL import Image  # noqa: PLC0415

    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))


def _with_progress(items: Any, description: str) -> Iterable[Any]:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import track  # noqa: PLC0415

    quiet = not sys.stderr.isatty()
    return track(items, description, total=len(items), console=Console(stderr=True), disable=quiet, transient=True)
