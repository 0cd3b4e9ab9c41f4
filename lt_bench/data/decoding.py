"""One image, whatever its format and depth, as 8-bit RGB."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from lt_bench.data.reading import reason

if TYPE_CHECKING:
    from PIL import Image

_FORMATS = ("PNG", "WEBP", "JPEG", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
"""In this order: Pillow's own order tries many others first, takes three times as long, and hands PostScript to
another program."""

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_SIXTEEN_BITS_IN_32 = ("PNG", "PPM")
"""Formats of at most 16 bits that Pillow may open in its 32-bit mode."""


class UnreadableError(Exception):
    """Why an image cannot be read: one line, without its name."""


def read_rgb(source: Path | IO[bytes]) -> Image.Image:
    """Decode an image into mode RGB, 8 bits a channel. Raises UnreadableError.

    The pixels are those of Pillow's `convert("RGB")`, as in torchvision's loaders: transparency is dropped and not
    laid over a colour, palettes, CMYK and YCbCr are converted, an animation gives its first frame, and a rotation
    noted in EXIF is not carried out. Deeper than eight bits, 16-bit grey is scaled by 1/257, where `convert` would
    clip it to white; of 16-bit colour Pillow gives the upper byte. 32-bit integers and floats, which have no range
    of their own, are refused.
    """
    with open_image(source) as image:
        return as_rgb(image)


def open_image(source: Path | IO[bytes]) -> Image.Image:
    """The image before it is decoded: its size and format. Raises UnreadableError."""
    from PIL import Image  # noqa: PLC0415 (tables that are cached do not need it)

    try:
        image = Image.open(source, formats=_FORMATS)
    except Exception as error:  # On damaged bytes the formats raise a dozen classes, struct.error among them.
        raise UnreadableError(_reason(error)) from None
    if 0 in image.size:
        raise UnreadableError(f"it is {image.width} x {image.height} pixels")
    return image


def as_rgb(image: Image.Image) -> Image.Image:
    """An opened image decoded, as `read_rgb` says. Raises UnreadableError."""
    try:
        return _to_rgb(image)
    except UnreadableError:
        raise
    except Exception as error:  # As above.
        raise UnreadableError(_reason(error)) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format in _SIXTEEN_BITS_IN_32):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise UnreadableError(f"its pixels are {kind}, which have no one brightness; save it with 8 or 16 bits")
    image.load()
    image.info.pop("transparency", None)  # `convert` would warn of every palette that it drops it
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255, rounded to the nearest."""
    from PIL import Image  # noqa: PLC0415

    grey = (np.asarray(image).astype(np.uint32) + 128) // 257
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError  # noqa: PLC0415

    if isinstance(error, UnidentifiedImageError):  # Its text is the address of a buffer.
        return f"none of the formats {', '.join(_FORMATS)}"
    return reason(error)
