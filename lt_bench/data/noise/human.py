"""CIFAR-10N: labels that people gave to the CIFAR-10 training images (Wei et al., ICLR 2022)."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_bench.data.cards import Card, CifarSource
from lt_bench.data.noise import Cifar10N
from lt_bench.data.reading import read_bytes, reason
from lt_bench.errors import MissingDataError, UserError

if TYPE_CHECKING:
    from lt_bench.data.types import IntArray

FOLDER = "cifar10n"
FILES = ("cifar10n.npz", "CIFAR-10_human.pt")
"""The labels as a NumPy archive, or the authors' own file; below the data root, or in its folder cifar10n."""
SOURCE = "the authors' CIFAR-10_human.pt is in data/ of github.com/UCSC-REAL/cifar-10-100n"
MOST_BYTES = 2**25
KEYS = {
    "aggregate": "aggre_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
    "worst": "worse_label",
}
CLEAN = "clean_label"
SHA256 = {
    "clean_label": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "aggre_label": "2bd5e02e39c9c79772cf4c794f7b74630ac1aaeeac4b807a63c11e9a375f8404",
    "random_label1": "8d01b5a5af048e84bf6e964c86e1133e95d5b22c07763e23705b714ad0f32d8b",
    "random_label2": "7ea04c887750912f49669282a75e78df380077766b361fb6cb5200999ad6dcda",
    "random_label3": "cdbfad7e15bfc8fc83bc7c6e30b692e2aa1186660d82738b7543a6012d6ca46f",
    "worse_label": "11a306ed336e3bc81aaac36322ddf12de379d0df1883aa43e10ba562a98f6b2a",
}
"""Of the 50,000 labels as bytes, in the order of the original archive."""


def human_labels(card: Card, noise: Cifar10N, right: IntArray, indices: IntArray, root: Path) -> IntArray:
    """The labels of the images at `indices` of the original training set, whose right labels are `right`; int64 [N].

    Raises UserError for other images than CIFAR-10's, and for a file that is missing or altered.
    """
    if not (isinstance(card.source, CifarSource) and card.source.torchvision == "CIFAR10"):
        raise UserError(f"data.noise.name: cifar10n has labels of the CIFAR-10 training images, not of {card.name}")
    path = find_file(root)
    clean, given = (read_labels(path, key) for key in (CLEAN, KEYS[noise.labels]))
    if not np.array_equal(clean[indices], right):
        raise UserError(f"{path}: is in the order of the original archive, and the images at hand are not")
    chosen: IntArray = given[indices].astype(np.int64)
    return chosen


def find_file(root: Path) -> Path:
    """The file of the labels. Raises MissingDataError that says where to get it."""
    places = [folder / name for folder in (root / FOLDER, root) for name in FILES]
    found = next((path for path in places if path.exists()), None)
    if found is None:
        raise MissingDataError(f"{root}: no labels of CIFAR-10N: looked for {FOLDER}/{' and '.join(FILES)}; {SOURCE}")
    return found


def read_labels(path: Path, key: str) -> np.ndarray:
    """One kind of the labels, uint8 [50000], checked by their digest. Nothing in the file is executed."""
    data = read_bytes(path, "file of labels", MOST_BYTES)
    try:
        found = _tensors(data) if path.suffix == ".pt" else np.load(io.BytesIO(data), allow_pickle=False)
        labels = np.asarray(found[key]).astype(np.uint8)
    except Exception as error:  # Whatever zip, NumPy and torch raise of a damaged or foreign file.
        raise UserError(f"{path}: not the labels of CIFAR-10N: {reason(error)[:200]}") from None
    if hashlib.sha256(labels.tobytes()).hexdigest() != SHA256[key]:
        raise UserError(f"{path}: altered: {key} is not what the authors published; fetch the file again")
    return labels


def _tensors(data: bytes) -> dict[str, np.ndarray]:
    """What `torch.save` wrote of a mapping to arrays, read without executing anything else."""
    import torch  # noqa: PLC0415 (slow to import)

    # How an array begins, under its name of today and that before NumPy 2, by which the authors wrote theirs.
    array = np.empty(0).__reduce__()[0]
    names = [f"numpy.{core}.multiarray._reconstruct" for core in ("_core", "core")]
    allowed: list[Any] = [*((array, name) for name in names), np.ndarray, np.dtype]
    allowed += [type(np.dtype(kind)) for kind in ("u1", "i4", "i8")]
    with torch.serialization.safe_globals(allowed):
        found: dict[str, np.ndarray] = torch.load(io.BytesIO(data), weights_only=True)
    return found
