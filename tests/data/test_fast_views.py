"""The compiled way shows Pillow's very pixels, and is left aside where it would not."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from lt_bench.data import Augmentation, fast_views
from lt_bench.data.augment import Interpolation
from lt_bench.data.decoding import UnreadableError, as_rgb, open_image
from lt_bench.data.fast_views import FILTERS, Compiled, show
from lt_bench.data.views import Chooser, FixedView, RandomView, View, WholeView, by_pillow
from lt_bench.native import NoCompilerError

LATEST_PILLOW = 13
"""The last whose pixels are known to be imitated."""
MODES = [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC]


def choices(interpolation: Interpolation) -> list[Chooser]:
    settings = Augmentation(kind="resized-crop", size=40, interpolation=interpolation)
    fixed = FixedView(40, 46, interpolation), WholeView(40, interpolation)
    return [*[RandomView(settings, flip=True)] * 4, *fixed]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).resize((width, height))
    return Image.fromarray(np.clip(np.asarray(coarse) + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def compiled() -> Compiled:
    try:
        fast_views._resampler()
    except NoCompilerError as error:
        pytest.skip(f"the views cannot be compiled here: {error}")
    found = fast_views.fast()
    if found is None and int(PIL.__version__.partition(".")[0]) > LATEST_PILLOW:
        pytest.skip(f"Pillow {PIL.__version__} is newer than what is imitated, and Pillow itself is used")
    assert found is not None, "compiled, and other pixels than Pillow's"
    # Where the decoder can be compiled it is taken.
    assert (found.jpeg is None) == (fast_views._jpeg() is None)
    return found


def assert_the_same(data: bytes, choices: list[Chooser], seed: int = 0) -> None:
    torch.manual_seed(seed)
    for choose in choices:
        image = open_image(io.BytesIO(data))
        view = choose(image)
        found = torch.full((3, view.side, view.side), 7, dtype=torch.uint8)
        compiled().show(data, image, view, found)
        assert torch.equal(found, by_pillow(as_rgb(open_image(io.BytesIO(data))), view)), view


def files() -> Iterator[bytes]:
    for k, size in enumerate([(160, 120), (97, 211), (41, 45), (30, 20), (400, 61)]):
        image = picture(*size, seed=k)
        yield from (encoded(image, quality=85, subsampling=s, progressive=s == 1) for s in range(3))
        yield encoded(image.convert("L"))
        yield encoded(image.convert("CMYK"))
        yield encoded(image, "PNG")


@pytest.mark.parametrize("interpolation", FILTERS)
def test_pixels_are_pillows_to_the_bit(interpolation: Interpolation) -> None:
    for seed, data in enumerate(files()):
        assert_the_same(data, choices(interpolation), seed)


def test_what_a_bicubic_sum_has_beyond_black_and_white_is_cut_off() -> None:
    columns, rows = np.meshgrid(np.arange(60) // 7 % 2, np.arange(50) // 5 % 2)
    data = encoded(Image.fromarray(np.repeat((columns ^ rows)[..., None] * 255, 3, 2).astype(np.uint8)), "PNG")
    assert_the_same(data, [WholeView(40, "bicubic"), WholeView(97, "bicubic")])


@pytest.mark.data
def test_pixels_of_photographs_are_pillows_to_the_bit(data_root: Path) -> None:
    settings = [Augmentation(kind="resized-crop", size=224, interpolation=each) for each in FILTERS]
    with tarfile.open(data_root / "imagenet-sample.tar") as tar:
        photographs = [tar.extractfile(member) for member in tar if member.isfile()]
        for seed, file in enumerate(photographs[::4]):
            assert file is not None
            shown = [RandomView(each, flip=True) for each in settings]
            assert_the_same(file.read(), [*shown, FixedView(224, 256), FixedView(224, 256, "bicubic")], seed)


@pytest.mark.parametrize("mode", MODES)
def test_a_view_in_the_middle_is_torchvisions(mode: InterpolationMode) -> None:
    for size in ((160, 121), (97, 211), (64, 64)):
        image = picture(*size)
        theirs = v2.Compose([v2.Resize(46, mode), v2.CenterCrop(40), v2.PILToTensor()])(image)
        assert torch.equal(by_pillow(image, FixedView(40, 46, mode.value)(image)), theirs)


def test_a_view_says_what_is_seen() -> None:
    view = View((20, 10, 100, 40), (50, 20), (10, 5), 10, mirrored=True)
    assert view.shown(200, 100) == pytest.approx([0.2, 0.2, 0.3, 0.4, 1.0])


def test_what_differs_from_pillow_is_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    way = compiled()
    assert way.agrees()
    assert not Compiled(way.resampler, way.jpeg, not way.tall_first).agrees()


@pytest.mark.parametrize("lacking", ["resample.cpp", "jpeg.cpp"])
def test_without_a_compiler_or_headers_the_pixels_are_the_same(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    load = fast_views.load_native

    def lacks(source: Path, *flags: str) -> object:
        if source.name == lacking:
            raise NoCompilerError("none")
        return load(source, *flags)

    monkeypatch.setattr(fast_views, "load_native", lacks)
    way = fast_views.fast.__wrapped__()
    assert way is None if lacking == "resample.cpp" else way is None or way.jpeg is None
    monkeypatch.setattr(fast_views, "fast", lambda: way)
    data = encoded(picture(160, 120), quality=85)
    image = open_image(io.BytesIO(data))
    view, found = FixedView(40, 46)(image), torch.empty(3, 40, 40, dtype=torch.uint8)
    show(data, image, view, found)
    assert torch.equal(found, by_pillow(as_rgb(open_image(io.BytesIO(data))), view))


@pytest.mark.parametrize("damage", ["cut", "no end", "other size"])
def test_damaged_files_are_pillows_to_judge(damage: str) -> None:
    data = encoded(picture(160, 120), quality=85)
    data = {"cut": data[:900], "no end": data[:-2], "other size": data[:-40] + data[-2:]}[damage]
    view = View((0, 0, 160, 120), (40, 40), (0, 0), 40)

    def outcome(way: object) -> object:
        try:
            image, found = open_image(io.BytesIO(data)), torch.empty(3, 40, 40, dtype=torch.uint8)
            if way is None:
                return by_pillow(as_rgb(image), view).tolist()
            compiled().show(data, image, view, found)
        except UnreadableError as error:
            return str(error)
        return found.tolist()

    assert outcome(compiled()) == outcome(None)
