"""A split as one self-contained parquet file in the hub's layout, to be carried to another machine, or as positions."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_bench.csv_text import csv_text
from lt_bench.data.arrays import ArrayPart, Decoded, cached, file_sha256, with_progress
from lt_bench.data.cards import Card, FolderSource
from lt_bench.data.class_names import agreed
from lt_bench.data.reading import regular_size
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import Split, pixel_sha256
from lt_bench.data.tables import class_names, decode_table, integers, read_table
from lt_bench.errors import UserError
from lt_bench.files import in_words, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

    from lt_bench.data.types import IntArray

_KEY = b"lt_bench"
_CSV_HEAD = b"part,index,label"
_PARTS = ("train", "validation", "test")


def export_split(split: Split, path: Path) -> None:
    """Write a split: as `.parquet` all of it, as `.csv` the labels and original positions of its images.

    The first has PNG images, labels, part and original position, and in the metadata what it is. The second, for other
    code, is not read back: a line an image of the training and validation parts, under label noise with the given label
    too; positions in a validation list of its own count in that list. The file appears under its name only when
    complete. Raises UserError for another ending, where the file that is there is no export, for the images of a set of
    image files or under label noise, and when the file cannot be written.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; name the file to write, such as {path / split.card.name}.parquet")
        if path.suffix not in (".parquet", ".csv"):
            raise UserError(
                f"{path}: an export is a parquet file, and found by that ending: {path.with_suffix('.parquet')}; "
                "or a .csv of positions"
            )
        if path.exists() and not _is_export(path):
            raise UserError(f"{path}: was not made by this command, so it is not overwritten")
        write_atomically(path, _positions(split) if path.suffix == ".csv" else _parquet(split))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {in_words(error)}") from None


def _is_export(path: Path) -> bool:
    if path.suffix == ".parquet":
        return _metadata(path) is not None
    regular_size(path)
    with path.open("rb") as file:
        return file.readline().startswith(_CSV_HEAD)


def _positions(split: Split) -> bytes:
    columns = {"index": split.train_indices, "label": split.train.labels}
    if split.given is not None:
        columns["given"] = split.given
    rows = _lines("train", columns)
    if split.validation is not None:
        labels, indices = split.validation.labels, split.validation_indices
        rows += _lines("validation", {"index": indices if len(indices) else np.arange(len(labels)), "label": labels})
    return csv_text(rows).encode()


def _lines(part: str, columns: dict[str, IntArray]) -> list[dict[str, object]]:
    return [{"part": part, **dict(zip(columns, row, strict=True))} for row in zip(*columns.values(), strict=True)]


def _parquet(split: Split) -> bytes:
    import pyarrow.parquet as pq  # noqa: PLC0415 (slow to import)

    if split.given is not None:
        raise UserError("data.noise: is not exported; export the split without, and draw the noise from the file")
    file = io.BytesIO()
    pq.write_table(_table(split), file, row_group_size=1000)
    return file.getvalue()


def find_exported(card: Card, spec: DataSpec, root: Path) -> tuple[Path | None, str]:
    """The exported split in `root`, a file or a folder, that is the one asked for; else None and what was found."""
    files = [root] if root.is_file() else sorted(root.glob("*.parquet"))
    found = ""
    for path in files:
        meta = _metadata(path)
        if meta is None or (path != root and meta["card"] != card.name):
            continue
        if (meta["card"], meta["version"], DataSpec.read(meta["spec"])) == (card.name, card.version, spec):
            return path, ""
        found = (
            f"{path}: holds {_name(meta['version'], meta['spec'])}, asked for {_name(card.version, spec.model_dump())}"
        )
    if root.is_file():
        read_table(root, [])  # a damaged file is told from a foreign one
        raise UserError(found or f"{root}: neither a folder of data nor a split written by `lt-bench data export`")
    return None, found


def read_exported(card: Card, spec: DataSpec, path: Path, cache: Path) -> Split:
    """The split in an exported file. Raises UserError when its contents are not what its digests say."""
    assert not isinstance(card.source, FolderSource)
    meta = _metadata(path)
    assert meta is not None
    table = read_table(path, ["part", "index"])
    part_of, indices = _parts(table, path), integers(table, "index", path)
    decoded = cached(file_sha256(path), cache, lambda: _decode(path, card.image_size))
    parts = {name: decoded.part.take(np.flatnonzero(part_of == name)) for name in _PARTS}
    split = Split(
        card=card,
        spec=spec,
        class_names=agreed(card, decoded.class_names, str(path)),
        train=parts["train"],
        validation=parts["validation"] if len(parts["validation"].labels) else None,
        test=parts["test"],
        train_indices=indices[part_of == "train"],
        validation_indices=indices[part_of == "validation"],
        content_sha256=pixel_sha256(parts["train"]),
        origin=str(path),
    )
    fingerprints = _fingerprints(split)
    intact = (split.digest, fingerprints) == (meta["digest"], meta["fingerprints"])
    if not intact or fingerprints["test"] != card.source.fingerprint.test:
        raise UserError(f"{path}: altered: its images are not those its digests stand for; export the split again")
    return split


def _table(split: Split) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415 (slow to import)

    arrays = _arrays(split)
    positions = (split.train_indices, split.validation_indices, np.arange(len(split.test.labels)))
    labels = np.concatenate([part.labels for part in arrays.values()])
    names = [name for name, part in arrays.items() for _ in part.labels]
    pixels = [image for part in arrays.values() for image in part.images]
    images = [
        {"bytes": _png(image), "path": f"{name}/{k:05d}.png"}
        for k, (image, name) in enumerate(zip(with_progress(pixels, "encode images"), names, strict=True))
    ]
    table = pa.table(
        {
            "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array(labels, pa.int64()),
            "part": pa.array(names, pa.string()),
            "index": pa.array(np.concatenate(positions), pa.int32()),
        }
    )
    return table.replace_schema_metadata(_describe(split))


def _parts(table: pa.Table, path: Path) -> np.ndarray:
    """The part of every row. Raises UserError."""
    names = table.column("part").to_pylist() if "part" in table.column_names else []
    if not set(_PARTS) >= set(map(str, names)) >= {"train", "test"}:
        raise UserError(f"{path}: altered: its column part must name train and test rows; export the split again")
    return np.asarray(names)


def _arrays(split: Split) -> dict[str, ArrayPart]:
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    arrays = {name: part for name, part in parts.items() if isinstance(part, ArrayPart)}
    if "train" not in arrays:
        raise UserError(f"{split.card.name}: a set of image files is not exported; its list files are the split")
    return arrays


def _fingerprints(split: Split) -> dict[str, str]:
    return {name: part.fingerprint() for name, part in _arrays(split).items()}


def _describe(split: Split) -> dict[bytes, bytes]:
    features = {
        "image": {"_type": "Image"},
        "label": {"names": split.class_names, "_type": "ClassLabel"},
        "part": {"dtype": "string", "_type": "Value"},
        "index": {"dtype": "int32", "_type": "Value"},
    }
    own = {
        "card": split.card.name,
        "version": split.card.version,
        "spec": split.spec.model_dump(),
        "index_sha256": split.index_sha256,
        "content_sha256": split.content_sha256,
        "digest": split.digest,
        "fingerprints": _fingerprints(split),
    }
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode(), _KEY: json.dumps(own).encode()}


def _metadata(path: Path) -> dict[str, Any] | None:
    """What `export_split` wrote about a file, None for another file."""
    import pyarrow.parquet as pq  # noqa: PLC0415 (slow to import)

    try:
        regular_size(path)
        meta = json.loads((pq.read_schema(path).metadata or {})[_KEY])
        DataSpec.read(meta["spec"])
        return {key: meta[key] for key in ("card", "version", "spec", "digest", "fingerprints")}
    except Exception:  # Whatever pyarrow and JSON raise of a damaged or foreign file.
        return None


def _decode(path: Path, side: int) -> Decoded:
    table = read_table(path)
    return Decoded.of(*decode_table(table, path, side), class_names(table.schema))


def _name(version: int, spec: dict[str, Any]) -> str:
    fields = ", ".join(f"{key} {value}" for key, value in spec.items() if key != "name")
    return f"{spec['name']} version {version} ({fields})"


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image  # noqa: PLC0415

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
