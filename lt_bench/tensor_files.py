"""Tensors and text in one safetensors file: written by rename, read without executing anything, and only as written.

The format has no checksum of its own: a byte that flips on a disk is another number to it.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lt_bench.data.reading import regular_size
from lt_bench.errors import UserError
from lt_bench.files import in_words, write_atomically

MOST_BYTES = 2**35
"""No network of this field has as many."""
SHA256 = "sha256"
"""Key, among the text, of the digest of all the rest."""
UNREADABLE = (OSError, SafetensorError, LookupError, ValueError, TypeError, RecursionError)
"""What reading such a file, and what stands in it, can raise."""


def write_tensors(path: Path, what: str, tensors: Mapping[str, Tensor], text: Mapping[str, str]) -> None:
    """Write tensors by name and text by key. Raises UserError, which calls them the `what`, leaving no file behind."""
    try:
        # Each in memory of its own, which the format asks for: a network may use one layer in two places.
        copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        write_atomically(path, save(copies, {**text, SHA256: content_sha256(copies, text)}))
    except Exception as error:  # of a user's own network, too
        said = in_words(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: the {what} could not be written: {' '.join(said.split())}") from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `write_tensors` wrote. Raises one of UNREADABLE for any other file and for one that was changed since."""
    if (size := regular_size(path)) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"{size:,} bytes, the most is {MOST_BYTES:,}")
    with safe_open(path, framework="pt") as file:
        text = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    if SHA256 not in text:
        raise ValueError("it has no sha256 of its contents: of another program, or of a version before it was kept")
    if text.pop(SHA256) != content_sha256(tensors, text):
        raise ValueError("its contents are not those that it was written with: their sha256 differs")
    return tensors, text


def content_sha256(tensors: Mapping[str, Tensor], text: Mapping[str, str]) -> str:
    """Of the text, and of each tensor's name, type, shape and bytes; those of contiguous ones are not copied."""
    found = hashlib.sha256(json.dumps(dict(text), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # Not in its own type, which NumPy may not know, such as bfloat16.
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
