"""Files as bad disks, bad copies, bad programs and bad people leave them."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Damage = Callable[[random.Random, Path], None]

STRANGE = (
    *(None, True, False, 0, 1, -1, 10**12, 10**400, 1.5, -0.5, 1e308, float("nan"), float("inf"), -0.0),
    *("", " ", "0", "nan", "a\nb", "\0", "\u2028", "=cmd|x", "<script>", "../x", "x" * 600, "é"),
    *([], {}, [None], [[]], {"": 0}, [1] * 1000),
)
"""Values that a field may hold when something went wrong before it was written."""


# --- bytes -------------------------------------------------------------------------------------------


def flip(rng: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 2, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(rng: random.Random, path: Path) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def empty(_: random.Random, path: Path) -> None:
    path.write_bytes(b"")


def zeros(rng: random.Random, path: Path) -> None:
    """A block that never reached the disk."""
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.choice((16, 512, 4096)))
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)


def repeat(rng: random.Random, path: Path) -> None:
    """A part written twice."""
    data = path.read_bytes()
    start = rng.randrange(len(data))
    path.write_bytes(data[:start] + data[max(0, start - rng.randrange(1, 400)) :])


def garbage(rng: random.Random, path: Path) -> None:
    path.write_bytes(
        rng.choice((rng.randbytes(500), b"[" * 10**6, b'{"a":' * 10**5, b"null", b"[]", b"<html>", b"\xff"))
    )


def brackets(_: random.Random, path: Path) -> None:
    """As large as is read at all."""
    path.write_bytes(b"[" * (31 * 2**20))


BYTES: tuple[Damage, ...] = (flip, flip, flip, cut, empty, zeros, repeat, garbage)


# --- what is no regular file -------------------------------------------------------------------------


def pipe(_: random.Random, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(_: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def dangling(_: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def folder(_: random.Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def gone(_: random.Random, path: Path) -> None:
    path.unlink()


IRREGULAR: tuple[Damage, ...] = (pipe, endless, dangling, folder)


# --- fields of JSON ----------------------------------------------------------------------------------


def places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all that lies in a tree of mappings and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from places(value, (*above, key))


def change_field(rng: random.Random, path: Path) -> None:
    """One field of a JSON file dropped, renamed, doubled, or another value."""
    data = json.loads(path.read_bytes())
    *above, key = rng.choice(list(places(data)))
    holder = data
    for part in above:
        holder = holder[part]
    rng.choice((_other_value, _other_value, _near_value, _near_value, _without, _renamed))(rng, holder, key)
    path.write_text(json.dumps(data), encoding="utf-8")


def _other_value(rng: random.Random, holder: Any, key: Any) -> None:
    holder[key] = copy.deepcopy(rng.choice(STRANGE))


def _near_value(rng: random.Random, holder: Any, key: Any) -> None:
    """Of the same kind, so that only its meaning can be wrong."""
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, int | float):
        holder[key] = rng.choice((value + 1, value - 1, -value, value * 2, 0, value / 2))
    elif isinstance(value, str) and value:
        at = rng.randrange(len(value))
        holder[key] = value[:at] + rng.choice("0123456789abcdef") + value[at + 1 :]
    elif isinstance(value, list) and len(value) > 1:
        holder[key] = rng.choice((value[::-1], value[1:], [*value, value[-1]]))
    elif isinstance(value, dict) and len(value) > 1:
        first, second = rng.sample(sorted(value), 2)
        value[first], value[second] = value[second], value[first]


def _without(_: random.Random, holder: Any, key: Any) -> None:
    del holder[key]


def _renamed(_: random.Random, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)


# --- arrays ------------------------------------------------------------------------------------------


def claimed_shape(_: random.Random, path: Path) -> None:
    """A side file whose arrays say that they hold 10^15 elements."""
    header = b"{'descr': '<i2', 'fortran_order': False, 'shape': (1000000000000000,), }"
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    _zip(path, {"predicted.npy": b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header})


def bomb(_: random.Random, path: Path) -> None:
    """Two megabytes that unpack to two gigabytes."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (2147483648,), }"
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)  # its making counts as time
    with archive, archive.open("predicted.npy", "w", force_zip64=True) as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        for _ in range(128):
            file.write(bytes(16 * 2**20))


def other_arrays(rng: random.Random, path: Path) -> None:
    """A readable file with arrays that are not those which belong there."""
    with np.load(path) as arrays:
        held = dict(arrays)
    name = rng.choice(sorted(held))
    values = held[name]
    changes = (
        values[:-1],
        values[::-1],
        values.astype(np.float64),
        values.reshape(2, -1),
        values.astype(str),
        values[:0],
    )
    held[name] = rng.choice((*changes, np.array(None, dtype=object), np.full_like(values, -1), np.zeros((0,) * 30)))
    if rng.random() < 0.2:
        held[f"{name}x"] = held.pop(name)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **held)
    path.write_bytes(buffer.getvalue())


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


ARRAYS: tuple[Damage, ...] = (claimed_shape, other_arrays, other_arrays, other_arrays)
