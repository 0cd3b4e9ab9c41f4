"""Every kind of image becomes 8-bit RGB in the one way, or is refused in one line."""

from __future__ import annotations

import io
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_data import png

from lt_bench.data.decoding import UnreadableError, read_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    image = read_rgb(io.BytesIO(data))
    assert image.mode == "RGB"
    return np.asarray(image)


TURNED = Image.Exif()
TURNED[0x0112] = 6  # the orientation: a quarter turn

EIGHT_BITS = {
    "RGB": saved(RGB),
    "JPEG": saved(RGB, "JPEG"),
    "grey": saved(RGB.convert("L")),
    "1 bit": saved(RGB.convert("1")),
    "palette": saved(RGB.quantize(16)),
    "palette, one colour transparent": saved(RGB.quantize(16), transparency=3),
    "palette, transparent by degrees": saved(RGB.quantize(16), transparency=bytes(range(0, 256, 16))),
    "grey, one value transparent": saved(RGB.convert("L"), transparency=7),
    "grey with alpha": saved(RGB.convert("LA")),
    "RGB with alpha": saved(Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]))),
    "CMYK": saved(RGB.convert("CMYK"), "JPEG"),
    "CMYK TIFF": saved(RGB.convert("CMYK"), "TIFF"),
    "YCbCr": saved(RGB.convert("YCbCr"), "TIFF"),
    "GIF": saved(RGB, "GIF", save_all=True, append_images=[RGB.rotate(180)]),
    "WebP": saved(RGB, "WEBP"),
    "turned by EXIF": saved(RGB, "JPEG", exif=TURNED.tobytes()),
}


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_eight_bits_are_what_torchvisions_loader_gives(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of transparency that is dropped
        expected = np.asarray(Image.open(io.BytesIO(EIGHT_BITS[name])).convert("RGB"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(decoded(EIGHT_BITS[name]), expected)
    assert expected.shape == (9, 12, 3)


def test_transparency_is_dropped_and_exif_does_not_turn() -> None:
    np.testing.assert_array_equal(decoded(EIGHT_BITS["RGB with alpha"]), PIXELS)
    with Image.open(io.BytesIO(EIGHT_BITS["turned by EXIF"])) as image:
        assert image.getexif()[0x0112] == 6


GREY = np.arange(65536, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "big-endian TIFF", "PPM", "JPEG2000"])
def test_sixteen_bit_grey_is_scaled(kind: str) -> None:
    image = Image.fromarray(GREY)
    if kind == "big-endian TIFF":
        image, kind = Image.frombytes("I;16B", (256, 256), GREY.astype(">u2").tobytes()), "TIFF"
    pixels = decoded(saved(image, kind))
    np.testing.assert_array_equal(pixels[..., 0], np.round(GREY / 257))
    assert (pixels == pixels[..., :1]).all()
    assert pixels.reshape(-1, 3)[[0, 128, 129, 257, 32768, 65535], 0].tolist() == [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_colour_is_the_eight_bits_it_was_made_of(color_type: int, channels: int) -> None:
    eight = np.resize(PIXELS, (9, 12, channels))
    pixels = decoded(png(color_type, 16, (eight.astype(np.uint16) * 257).astype(">u2")))
    np.testing.assert_array_equal(pixels, eight[..., :3] if channels > 2 else np.repeat(eight[..., :1], 3, axis=-1))


@pytest.mark.parametrize(("kind", "words"), [(np.int32, "32-bit integers"), (np.float32, "floating-point numbers")])
def test_numbers_without_a_range_are_refused(kind: type, words: str) -> None:
    with pytest.raises(UnreadableError, match=f"its pixels are {words}, which have no one brightness"):
        decoded(saved(Image.fromarray(GREY.astype(kind)), "TIFF"))


def test_an_image_that_declares_more_than_it_holds() -> None:
    with pytest.raises(UnreadableError, match=r"400000000 pixels"):
        decoded(png(2, 8, PIXELS, 20_000, 20_000))
    with pytest.raises(UnreadableError, match=r"truncated"):
        decoded(EIGHT_BITS["JPEG"][:-100])


def test_what_is_no_image_says_so_without_an_address() -> None:
    with pytest.raises(UnreadableError, match=r"^none of the formats PNG, "):
        decoded(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


def test_a_missing_file_is_said_without_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"^No such file or directory$"):
        read_rgb(tmp_path / "a.png")


FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000")


def one_line_or_an_image(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata
        try:
            assert decoded(data).ndim == 3
        except UnreadableError as error:
            assert len(str(error).splitlines()) == 1


def damaged(data: bytes, draw: st.DataObject) -> bytes:
    """Cut, or with other bytes at some places; the first ones, which say the most, more often than the rest."""
    changed = bytearray(data[: draw.draw(st.integers(0, len(data)) | st.just(len(data)))])
    places = st.integers(0, max(0, min(len(changed), 200) - 1)) | st.integers(0, max(0, len(changed) - 1))
    for place, value in draw.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)) if changed else ():
        changed[place] = value
    return bytes(changed)


@pytest.mark.parametrize("kind", FORMATS)
@given(draw=st.data())
def test_damaged_images(kind: str, draw: st.DataObject) -> None:
    one_line_or_an_image(damaged(saved(RGB, kind), draw))


@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"BM", b"II*\0", b"P6 "]), st.binary())
def test_any_bytes(head: bytes, rest: bytes) -> None:
    one_line_or_an_image(head + rest)


@pytest.fixture(scope="module")
def photograph(data_root: Path) -> Image.Image:
    with tarfile.open(data_root / "imagenet-mini.tar") as tar:
        member = next(one for one in tar if one.name.endswith(".JPEG"))
        file = tar.extractfile(member)
        assert file is not None
        return Image.open(io.BytesIO(file.read())).convert("RGB")


@pytest.mark.data
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@given(draw=st.data())
def test_damaged_photographs(photograph: Image.Image, kind: str, draw: st.DataObject) -> None:
    one_line_or_an_image(damaged(saved(photograph, kind), draw))
