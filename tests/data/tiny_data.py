"""Small data sets in the layouts of the real ones, with cards that fit them."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.cards import Card, FolderSource, Known, load_card

NAMES = [f"class {c}" for c in range(10)]


def random_part(per_class: int, seed: int) -> ArrayPart:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(10), per_class)).astype(np.int64)
    return ArrayPart(rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8), labels)


TRAIN, TEST = random_part(20, 0), random_part(3, 1)


def tiny_card() -> Card:
    """CIFAR-10's card for 20 + 3 random images a class."""
    card = load_card("cifar10-lt")
    prints = {"train": TRAIN.fingerprint(), "test": TEST.fingerprint()}
    source = card.source.model_copy(update={"fingerprint": card.source.fingerprint.model_copy(update=prints)})
    return card.model_copy(
        update={"source": source, "class_names": tuple(NAMES), "n_max": 15, "factor": 5.0, "known": ()}
    )


def use_card(monkeypatch: pytest.MonkeyPatch, card: Card) -> None:
    monkeypatch.setattr("lt_bench.data.opening.load_card", lambda name: card)


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def png(color_type: int, depth: int, samples: np.ndarray, width: int = 0, height: int = 0) -> bytes:
    """A PNG written by hand; samples [H, W, C], big-endian where they have 16 bits."""
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    size = (width or samples.shape[1], height or samples.shape[0])
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color_type, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in (*parts, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def write_hub(root: Path, columns: tuple[str, str] = ("img", "label"), kind: str = "PNG") -> Path:
    """The hub's layout below `root`; returns the folder of the parquet files."""
    folder = root / "cifar10" / "plain_text"
    folder.mkdir(parents=True)
    features = {columns[0]: {"_type": "Image"}, columns[1]: {"names": NAMES, "_type": "ClassLabel"}}
    for name, part in (("train", TRAIN), ("test", TEST)):
        cells = [{"bytes": encode(pixels, kind), "path": None} for pixels in part.images]
        table = pa.table({columns[0]: cells, columns[1]: part.labels})
        meta = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(table.replace_schema_metadata(meta), folder / f"{name}-00000-of-00001.parquet")
    return folder


def write_archive(root: Path) -> dict[str, str]:
    """The folder inside CIFAR-10's archive; returns the md5 of each file."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rows = TRAIN.images.transpose(0, 3, 1, 2).reshape(len(TRAIN.images), -1)
    batches = {
        f"data_batch_{k + 1}": {"data": data, "labels": labels.tolist()}
        for k, (data, labels) in enumerate(zip(np.split(rows, 5), np.split(TRAIN.labels, 5), strict=True))
    }
    test = TEST.images.transpose(0, 3, 1, 2).reshape(len(TEST.images), -1)
    batches["test_batch"] = {"data": test, "labels": TEST.labels.tolist()}
    batches["batches.meta"] = {"label_names": NAMES}
    for name, content in batches.items():
        (folder / name).write_bytes(pickle.dumps(content))
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in batches}


def trust(monkeypatch: pytest.MonkeyPatch, md5: dict[str, str]) -> None:
    """Make torchvision take a fake archive for the real one."""
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{k}", md5[f"data_batch_{k}"]] for k in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})


class Exploding:
    """Unpickling it calls `trap`."""

    def __init__(self, trap: Callable[[str], object], argument: str) -> None:
        self.trap, self.argument = trap, argument

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return self.trap, (self.argument,)


# --- image files -------------------------------------------------------------------------------------

WNIDS = ("n01440764", "n01443537", "n01484850")
"""Classes of ImageNet."""
SIZES = {"wren": 20, "Great Tit, male": 14, "oiseau été": 10, "カラス": 8, "robin": 6, "heron": 4}
"""Photos of the classes of a set of one's own."""
PIXELS = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))


def picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIXELS.save(path)


def move(folder: Path, source: str, target: str) -> None:
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    (folder / source).rename(folder / target)


def small(name: str, classes: int, known: Known, **images: int) -> Card:
    """A shipped card with the counts of a small tree, and any list."""
    card = load_card(name)
    assert isinstance(card.source, FolderSource)
    per_class = {"train": None, "validation": 1, "test": 1}
    lists = {
        part: listed.model_copy(update={"images": images[part], "per_class": per_class[part], "git_blobs": ()})
        for part, listed in card.source.parts.items()
    }
    source = card.source.model_copy(update=lists)
    return card.model_copy(update={"source": source, "classes": classes, "known": (known,)})
