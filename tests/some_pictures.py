"""A folder of pictures of no class, for a mix that lays such over images."""

from __future__ import annotations

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from PIL import Image


@cache
def some_pictures() -> Path:
    """Three of them, of sizes of their own, in two folders; there until the process ends."""
    folder = Path(mkdtemp(prefix="pictures"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    draw(folder)
    return folder


def draw(folder: Path) -> None:
    """Write them."""
    for index, (name, size) in enumerate({"a.png": (40, 60), "more/b.png": (64, 48), "more/c.jpg": (36, 36)}.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows, columns = np.mgrid[: size[1], : size[0]]
        pixels = np.stack([rows * (index + 2), columns * 5, rows * columns], -1) % 256
        Image.fromarray(pixels.astype(np.uint8)).save(path)
