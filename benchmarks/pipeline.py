"""The input pipeline of image files beside torchvision's reference loader: epochs of crops that nobody trains on.

The reference is that of torchvision's classification script: files decoded by Pillow, random resized crop, flip,
tensor, normalisation, batches put together by the loader. The suite's way is timed with Pillow alone, with compiled
code, and with that from a pack. All take turns, round after round, in as many workers of one thread each; ratios are
taken within a round.

    python benchmarks/pipeline.py --images FOLDER [--copies 16] [--workers 2] [--rounds 5] [--jitter 0.4] [--cold]

FOLDER holds photographs, which are copied into a temporary folder. With --cold the page cache forgets them before every
epoch. With --stages it prints where a processor's milliseconds go instead.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F
from train_step import ratio

from lt_bench.data import Augmentation, load_card
from lt_bench.data.fast_views import fast, show
from lt_bench.data.folder import FilePart
from lt_bench.data.packed import Files, pack
from lt_bench.data.types import generator
from lt_bench.data.view_set import ViewSet
from lt_bench.data.views import RandomView

SIDE = 224
CARD = load_card("imagenet-lt")
CPU = torch.device("cpu")


def copied(images: Path, copies: int, folder: Path) -> FilePart:
    """Every photograph as often as asked for, in a class folder of its own."""
    names = []
    for number, path in enumerate(sorted(images.iterdir())):
        (folder / f"c{number:04}").mkdir(parents=True)
        for copy in range(copies):
            names.append(f"c{number:04}/{copy}.JPEG")
            shutil.copyfile(path, folder / names[-1])
    return FilePart(folder, tuple(names), np.arange(len(names), dtype=np.int64) // copies)


def reference(part: FilePart, arguments: argparse.Namespace) -> Iterator[int]:
    """Sizes of the reference loader's batches."""
    jitter = [v2.ColorJitter(*[arguments.jitter] * 3)] if arguments.jitter else []
    steps = [v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), *jitter, v2.PILToTensor()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(CARD.mean, CARD.std), v2.ToPureTensor()]
    images = ImageFolder(str(part.folder), v2.Compose(steps))
    loader = DataLoader(images, arguments.batch, shuffle=True, num_workers=arguments.workers)
    return (len(labels) for _, labels in loader)


def suite(part: FilePart, arguments: argparse.Namespace, compiled: bool, packed: bool) -> Iterator[int]:
    """Sizes of the suite's batches, as a training step gets them."""
    settings = Augmentation(kind="resized-crop", size=SIDE, color_jitter=arguments.jitter)
    order = np.random.default_rng(0).permutation(len(part.labels))
    with ExitStack() as changed:
        if not compiled:
            changed.enter_context(patch("lt_bench.data.fast_views.fast", lambda: None))
        if not packed:
            changed.enter_context(patch("lt_bench.data.pictures.source_of", lambda part, cache: Files(part)))
        images = ViewSet(part, CARD, settings, CPU, arguments.workers)
        for batch in images.stream(order, arguments.batch, generator(0, "images")):
            yield len(batch.labels)


WAYS: dict[str, Callable[[FilePart, argparse.Namespace], Iterator[int]]] = {
    "torchvision's reference": reference,
    "suite, files, Pillow alone": partial(suite, compiled=False, packed=False),
    "suite, files": partial(suite, compiled=True, packed=False),
    "suite, pack": partial(suite, compiled=True, packed=True),
}


def forget(paths: Sequence[Path]) -> None:
    """Drop files from the page cache."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def processor_seconds() -> float:
    """Of this process and of the workers that have ended."""
    return sum(os.times()[:4])


def epoch(way: Callable[..., Iterator[int]], part: FilePart, arguments: argparse.Namespace) -> tuple[float, float]:
    """images/s of an epoch by the clock, and images per second of one processor."""
    start, used = time.perf_counter(), processor_seconds()
    count = sum(way(part, arguments))
    return count / (time.perf_counter() - start), count / (processor_seconds() - used)


def table(part: FilePart, cache: Path, arguments: argparse.Namespace) -> Iterator[str]:
    way = fast()
    os.environ["LT_BENCH_CACHE"] = str(cache)  # where a run looks for the pack
    place, index = pack(part.folder, part.files, cache)
    on_disk = [*(part.folder / file for file in part.files), place / "images.pack"]
    said = "Pillow" if way is None else "compiled" if way.jpeg else "compiled, but decoded by Pillow"
    yield f"{len(part.files)} files, {index.end / 1e6:.0f} MB, {arguments.workers} workers, {said}\n"
    wall: dict[str, list[float]] = {name: [] for name in WAYS}
    used: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(arguments.rounds):
        for name, each in WAYS.items():
            forget(on_disk if arguments.cold else [])
            by_clock, by_processor = epoch(each, part, arguments)
            wall[name].append(by_clock)
            used[name].append(by_processor)
    yield "| | images/s | against the reference | processor ms an image | against the reference |"
    yield "| :-- | --: | --: | --: | --: |"
    against = next(iter(WAYS))
    for name in WAYS:
        times = ["{:.2f} ({:.2f} to {:.2f})".format(*ratio(found[name], found[against])) for found in (wall, used)]
        cost = 1e3 / statistics.median(used[name])
        yield f"| {name} | {statistics.median(wall[name]):.0f} | {times[0]} | {cost:.2f} | {times[1]} |"


Stage = tuple[Callable[[Any], object], Sequence[Any]]
"""A function and what it is called with, one after the other."""


def decoding(paths: Sequence[Path], files: Sequence[bytes]) -> dict[str, Stage]:
    def drafted(data: bytes, scale: int) -> None:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (image.width // scale, image.height // scale))
        image.load()

    return {
        "read": (Path.read_bytes, paths),
        "header, by Pillow": (lambda data: Image.open(io.BytesIO(data)), files),
        "decode, by Pillow": (lambda data: Image.open(io.BytesIO(data)).load(), files),
        "the same, at half the size": (lambda data: drafted(data, 2), files),
        "the same, at an eighth: the entropy code": (lambda data: drafted(data, 8), files),
        "decode, by torchvision": (lambda data: decode_jpeg(data, mode=ImageReadMode.RGB), list(map(bytes_of, files))),
    }


def bytes_of(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def afterwards(files: Sequence[bytes], jitter: float) -> dict[str, Stage]:
    opened = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
    crop, cubic = v2.RandomResizedCrop(SIDE), v2.RandomResizedCrop(SIDE, interpolation=InterpolationMode.BICUBIC)
    cropped = [(image, crop.make_params([image])) for image in opened]
    small = [crop.transform(*pair) for pair in cropped]
    decoded = [decode_jpeg(bytes_of(data), mode=ImageReadMode.RGB) for data in files]
    pixels = [(image, box) for image, (_, box) in zip(decoded, cropped, strict=True)]
    normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(CARD.mean, CARD.std)])
    return {
        "crop and resize, by Pillow": (lambda pair: crop.transform(*pair), cropped),
        "the same, by torch on bytes": (lambda pair: crop.transform(*pair), pixels),
        "the same, bicubic, by Pillow": (lambda pair: cubic.transform(*pair), cropped),
        "flip": (F.horizontal_flip, small),
        "jitter, by Pillow": (v2.ColorJitter(jitter, jitter, jitter), small),
        "tensor": (F.pil_to_tensor, small),
        "float32 and normalisation": (normalise, list(map(F.pil_to_tensor, small))),
    }


def compiled(files: Sequence[bytes], jitter: float) -> dict[str, Stage]:
    fast()  # found before it is timed
    out = torch.empty(3, SIDE, SIDE, dtype=torch.uint8)

    def shown(changes: dict[str, Any]) -> None:
        torch.manual_seed(0)  # the same crops by every interpolation
        settings = {"kind": "resized-crop", "size": SIDE, "color_jitter": 0.0, **changes}
        choose = RandomView(Augmentation.read(settings), flip=True)
        headers = [Image.open(io.BytesIO(data)) for data in files]
        for data, image, view in zip(files, headers, list(map(choose, headers)), strict=True):
            show(data, image, view, out)

    return {
        "**header, decode, crop, resize and flip, compiled**": (shown, [{}]),
        "**the same with jitter**": (shown, [{"color_jitter": jitter}]),
        "**the same, bicubic, without jitter**": (shown, [{"interpolation": "bicubic"}]),
    }


def stages(paths: Sequence[Path], arguments: argparse.Namespace) -> Iterator[str]:
    """Processor time of each stage alone, in one thread: the median over rounds of the mean over the photographs."""
    files = [path.read_bytes() for path in paths]
    parts = decoding(paths, files) | afterwards(files, arguments.jitter) | compiled(files, arguments.jitter)
    return stage_rows(parts, len(files), arguments.rounds)


def stage_rows(parts: dict[str, Stage], images: int, rounds: int) -> Iterator[str]:
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, (function, items) in parts.items():
            start = time.process_time()
            for item in items:
                function(item)
            times[name].append(1e3 * (time.process_time() - start) / images)
    yield "| stage | ms an image |\n| :-- | --: |"
    for name, found in times.items():
        yield f"| {name} | {statistics.median(found):.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs, JPEG")
    parser.add_argument("--copies", type=int, default=16, help="of each of them")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32, help="as in torchvision's script")
    parser.add_argument("--jitter", type=float, default=0.4, help="of colours, as in ImageNet-LT's protocol; 0: none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="the page cache forgets all files before every epoch")
    parser.add_argument("--stages", action="store_true", help="where the processor's time goes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        if arguments.stages:
            lines = stages(sorted(arguments.images.iterdir()), arguments)
        else:
            part = copied(arguments.images, arguments.copies, Path(folder) / "images")
            lines = table(part, Path(folder) / "cache", arguments)
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
