"""The pixels of views several times as fast as Pillow makes them, and the same to the bit.

Of a JPEG only what the view shows is decoded, by libjpeg-turbo; it is resized and coloured in compiled code. That is
held against Pillow once in a process and left aside where a pixel differs, as it is without a compiler; without the
headers of libjpeg-turbo Pillow decodes, all of the image.
"""

from __future__ import annotations

import ctypes
import io
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lt_bench.data.augment import Interpolation
from lt_bench.data.decoding import as_rgb, open_image
from lt_bench.data.views import LIGHT, View, by_pillow
from lt_bench.native import NoCompilerError, load_native

FILTERS: tuple[Interpolation, ...] = ("bilinear", "bicubic")
"""Interpolations, in the order of resample.cpp."""
_END = b"\xff\xd9"
"""Of a whole JPEG. Others are left to Pillow, which knows what to say of them."""
_FOLDER = Path(__file__).parent


def show(data: bytes, image: Image.Image, view: View, out: Tensor) -> None:
    """Write a view of an image to `out`, uint8 [3, side, side]. Raises UnreadableError.

    The image was opened from a file's bytes `data`, or is in memory and has none.
    """
    compiled = fast()
    if compiled is None:
        out.copy_(by_pillow(as_rgb(image), view))
    else:
        compiled.show(data, image, view, out)


class Compiled:
    """The compiled way; `jpeg` is None where Pillow decodes."""

    def __init__(self, resampler: ctypes.CDLL, jpeg: ctypes.CDLL | None, tall_first: bool) -> None:
        self.resampler, self.jpeg = resampler, jpeg
        self.tall_first = tall_first
        """Whether what shrinks far more in height than in width is resized by columns first, as by Pillow 13."""

    def show(self, data: bytes, image: Image.Image, view: View, out: Tensor) -> None:
        left, top, *size = view.box
        part = self._needed(view)
        pixels = self._decoded(data, image, part)
        if pixels is None:
            x, y, width, height = part
            seen = np.asarray(as_rgb(image).crop((x, y, x + width, y + height)).convert("RGBX"))
            pixels = seen.ctypes.data
        lost = [length - resized for length, resized in zip(size, view.resized, strict=True)]
        columns_first = self.tall_first and lost[1] > max(0, 2 * lost[0])
        kind = FILTERS.index(view.interpolation)
        place = (kind, part[0] - left, part[1] - top, *size, *view.resized, *view.corner, view.side)
        self.resampler.resample(pixels, part[2], *place, view.mirrored, columns_first, out.data_ptr())
        for name, factor in view.light:
            getattr(self.resampler, name)(out.data_ptr(), view.side**2, factor)

    def _needed(self, view: View) -> ctypes.Array[ctypes.c_uint]:
        """Left, top, width and height of what a view depends on."""
        part, ends, kind = (ctypes.c_uint * 4)(), (ctypes.c_int * 2)(), FILTERS.index(view.interpolation)
        for axis in range(2):
            self.resampler.needed(kind, view.box[2 + axis], view.resized[axis], view.corner[axis], view.side, ends)
            part[axis], part[2 + axis] = view.box[axis] + ends[0], ends[1] - ends[0]
        return part

    def _decoded(self, data: bytes, image: Image.Image, part: ctypes.Array[ctypes.c_uint]) -> int | None:
        """Address of pixels of a part, which may get wider; None where Pillow has to decode."""
        if self.jpeg is None or image.format != "JPEG" or image.mode not in ("RGB", "L") or not data.endswith(_END):
            return None
        found: int | None = self.jpeg.decode(data, len(data), *image.size, part)
        return found

    def agrees(self) -> bool:
        """Whether it gives Pillow's pixels, of images and views that reach all of its code."""
        return all(self._agrees(data, view) for data, view in product(_probes(), _VIEWS))

    def _agrees(self, data: bytes, view: View) -> bool:
        found = torch.empty(3, view.side, view.side, dtype=torch.uint8)
        self.show(data, open_image(io.BytesIO(data)), view, found)
        return torch.equal(found, by_pillow(as_rgb(open_image(io.BytesIO(data))), view))


_BILINEAR = [
    View((21, 40, 61, 75), (48, 48), (0, 0), 48, True, (("contrast", 1.3), ("brightness", 0.7), ("saturation", 1.4))),
    View((50, 7, 52, 151), (48, 48), (0, 0), 48, False, (("saturation", 0.6), ("brightness", 1.4), ("contrast", 0.8))),
    View((3, 5, 30, 23), (48, 48), (0, 0), 48),
    View((0, 0, 120, 170), (60, 85), (6, 18), 48),
]
_VIEWS = [view._replace(interpolation=filter_) for view in _BILINEAR for filter_ in FILTERS]


def _probes() -> list[bytes]:
    """Noise with large and small waves, black and white in places, in the ways in which colours are subsampled."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(-100, 300, (17, 12, 3)).repeat(10, 0).repeat(10, 1)
    image = Image.fromarray(np.clip(coarse + rng.integers(0, 56, coarse.shape), 0, 255).astype(np.uint8))
    files = [io.BytesIO() for _ in range(4)]
    for subsampling, file in enumerate(files[:3]):
        image.save(file, "JPEG", quality=90, subsampling=subsampling)
    image.convert("L").save(files[3], "JPEG", quality=90, progressive=True)
    return [file.getvalue() for file in files]


@cache
def fast() -> Compiled | None:
    """The compiled way, where there is one that agrees with Pillow."""
    try:
        resampler = _resampler()
    except NoCompilerError:
        return None
    ways = (Compiled(resampler, jpeg, tall) for jpeg, tall in product(dict.fromkeys((_jpeg(), None)), (True, False)))
    return next((way for way in ways if way.agrees()), None)


def _resampler() -> ctypes.CDLL:
    library = load_native(_FOLDER / "resample.cpp", "-ffp-contract=off")
    pointer, number, many = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    library.needed.argtypes, library.needed.restype = [*[number] * 5, pointer], None
    places = [number] * 10
    library.resample.argtypes = [pointer, many, *places, ctypes.c_bool, ctypes.c_bool, pointer]
    library.resample.restype = None
    for name in LIGHT:
        kernel = getattr(library, name)
        kernel.argtypes, kernel.restype = [pointer, many, ctypes.c_float], None
    return library


def _jpeg() -> ctypes.CDLL | None:
    try:
        library = load_native(_FOLDER / "jpeg.cpp", "-ljpeg")
    except NoCompilerError:
        return None
    library.decode.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p]
    library.decode.restype = ctypes.c_void_p
    return library
