"""Damaged splits, caches, weights, checkpoints, images and lists: one line, or the very result of the intact file."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import damage
import numpy as np
from harness import Trial, Verdict
from kills import AtMove
from processes import Done, here, judged, succeed
from scenarios import HERE, SCENARIOS, SHORT, SPLIT, fill, kernels

LIMIT_S = 20
DESCRIBE = ("data", "describe", "digits-lt", "factor=10", "--data-root", SPLIT, "--json")
CE = ("run", "digits-lt/ce", *SHORT, *HERE)
IMAGES = ("run", "images.yaml", "--data-root", ".", "--workers", "0", *HERE)
IMAGE_COLUMN = "image"

CARD = """\
name: campaign
version: 1
title: images of the campaign
source:
  kind: image-folder
  folder: images
  train: {file: train.txt, images: 9}
  test: {file: test.txt, images: 6}
  class_names: classes.txt
classes: 3
image_size: 16
mean: [0.485, 0.456, 0.406]
std: [0.229, 0.224, 0.225]
flip: true
licence: none
citation: none
"""
RECIPE = """\
protocol: imagenet-mini-20ep
data: {name: campaign}
model: {backbone: resnet10, head: linear}
"""
QUICK = ("protocol.epochs=1", "protocol.batch_size=3", "protocol.augmentation.size=16", "protocol.evaluate_every=1")


@dataclass(frozen=True)
class Target:
    """A kind of file, the command that reads it, and what that command says of an intact one."""

    name: str
    template: Path
    pattern: str
    """Which files of the folder are damaged."""
    command: tuple[str, ...]
    acts: tuple[damage.Damage, ...]
    right: str | None
    """What the command says of an intact file; None: nothing tells a changed one from an intact one."""
    must_work: bool = False
    """Whether the file can be made anew, so that nothing is refused."""


def part(trial: Trial) -> Iterator[Verdict]:
    targets = [make(trial.scratch) for make in (splits, caches, weights, checkpoints, images, lists)]
    yield from judged(
        trial.cases, lambda case, announce: _judge(trial, case, targets, announce), trial.scratch, LIMIT_S
    )


def _judge(trial: Trial, case: int, targets: list[Target], announce: Callable[[str], None]) -> Verdict:
    rng = trial.rng(case)
    target = targets[case % len(targets)]
    folder = trial.scratch / f"case{case}"
    shutil.copytree(target.template, folder)
    before = Path.cwd()
    os.chdir(folder)
    os.environ["LT_BENCH_CACHE"] = str(folder / "cache")
    try:
        path = rng.choice(sorted(folder.glob(target.pattern)))
        act = rng.choice(target.acts)
        announce(title := f"{target.name}: {act.__name__.strip('_')}")
        act(rng, path)
        done = here(*target.command)
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)
    return Verdict(case, title, bool(done.code), done.fault or _wrong(target, done), path.name)


def _wrong(target: Target, done: Done) -> str:
    if done.code:
        return f"not made anew: {done.complaint}" if target.must_work else ""
    if target.right is None or _essence(done) == target.right:
        return ""
    found, right = (
        json.loads(text) if text.startswith("{") else {"result": text} for text in (_essence(done), target.right)
    )
    key = next(key for key in {**right, **found} if found.get(key) != right.get(key))
    return f"another {key} ({str(found.get(key))[:60]} for {str(right.get(key))[:60]})"


def _essence(done: Done) -> str:
    """What a command says, but for the folder it says it of."""
    said = re.search(r"top-1 [\d.]+", done.out)
    if said or not done.out.startswith("{"):
        return said[0] if said else done.out
    return json.dumps({key: value for key, value in json.loads(done.out).items() if key != "origin"})


def _template(scratch: Path, name: str, scenario: str) -> Path:
    folder = scratch / name
    fill(next(one for one in SCENARIOS if one.name == scenario), folder, scratch)
    return folder


# --- splits and their cache --------------------------------------------------------------------------


def splits(scratch: Path) -> Target:
    folder = _template(scratch, "splits", "data prepare")
    right = _essence(succeed(*DESCRIBE, folder=folder))
    shutil.rmtree(folder / "cache")
    acts = (*damage.BYTES, *damage.IRREGULAR, *(_parquet,) * 8)
    return Target("split", folder, SPLIT, DESCRIBE, acts, right)


def caches(scratch: Path) -> Target:
    folder = _template(scratch, "caches", "data prepare")
    right = _essence(succeed(*DESCRIBE, folder=folder))
    acts = (*damage.BYTES, *damage.IRREGULAR, damage.gone, _other_file)
    return Target("cache", folder, "cache/arrays/*/*.*", DESCRIBE, acts, right, must_work=True)


def _other_file(rng: random.Random, path: Path) -> None:
    """Readable, but something else: a list for a mapping, a zip for an array."""
    if path.suffix == ".json":
        path.write_text(rng.choice(("[]", "[1]", '"x"', "1", "null", '{"crc": 1}', '{"crc": [], "class_names": 1}')))
    else:
        rng.choice((_as_zip, _as_scalar, _as_objects))(path)


def _as_zip(path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    path.write_bytes(buffer.getvalue())


def _as_scalar(path: Path) -> None:
    np.save(path, np.float32(1))


def _as_objects(path: Path) -> None:
    np.save(path, np.array([None, {}], dtype=object))


def _parquet(rng: random.Random, path: Path) -> None:
    """A readable table that is not the one which was exported."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pq.read_table(path)
    meta, names = whole.schema.metadata, whole.column_names
    name = rng.choice(names)
    column, place = whole[name], names.index(name)
    bytes_only = pa.array([cell["bytes"] for cell in whole[IMAGE_COLUMN].to_pylist()], pa.binary())
    nothing = pa.nulls(whole.num_rows, column.type)
    tables = (
        *(whole.drop_columns([name]), whole.slice(0, 10), whole.slice(0, 0), whole.replace_schema_metadata(None)),
        *(whole.set_column(place, name, nothing), whole.set_column(place, name, pa.array(range(whole.num_rows)))),
        *(whole.set_column(names.index(IMAGE_COLUMN), IMAGE_COLUMN, bytes_only), whole.rename_columns(names[::-1])),
        *(whole.set_column(place, name, whole[name].take(list(range(whole.num_rows))[::-1])), _told(rng, whole, meta)),
        *(_told(rng, whole, meta), pa.concat_tables([whole, whole.slice(0, 1)])),
    )
    pq.write_table(rng.choice(tables), path)


def _told(rng: random.Random, whole: Any, meta: dict[bytes, bytes]) -> Any:
    """The table with other metadata."""
    key = rng.choice(sorted(meta))
    scratch = Path("metadata.json")
    scratch.write_bytes(meta[key])
    rng.choice((damage.change_field, damage.garbage, damage.flip))(rng, scratch)
    return whole.replace_schema_metadata({**meta, key: scratch.read_bytes()})


# --- weights and checkpoints -------------------------------------------------------------------------


def weights(scratch: Path) -> Target:
    folder = _template(scratch, "weights", "run --force")
    found = next(folder.rglob("weights.safetensors"))
    shutil.copy(found, folder / "weights.safetensors")
    command = ("evaluate", "weights.safetensors", "--device", "cpu", "--json")
    right = _essence(succeed(*command, folder=folder))
    acts = (*damage.BYTES, *damage.IRREGULAR, *(_header,) * 6)
    return Target("weights", folder, "weights.safetensors", command, acts, right)


def _header(rng: random.Random, path: Path) -> None:
    """Another metadata, or other tensors, in an intact file."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    with safe_open(path, framework="np") as file:
        about = dict(file.metadata())
    name = rng.choice(sorted(tensors))
    kind = rng.choice(("metadata", "without", "text", "missing", "shape", "type", "extra", "nan"))
    if kind in ("metadata", "text"):
        key = rng.choice(sorted(about))
        about[key] = rng.choice(("", "null", "[]", "{}", "-1", "1e400", "9" * 5000, "x", '{"name": 1}', "nan"))
    elif kind == "without":
        del about[rng.choice(sorted(about))]
    elif kind == "missing":
        del tensors[name]
    elif kind == "extra":
        tensors["extra"] = np.zeros(3)
    else:
        values = {"shape": np.zeros((2, 2)), "type": tensors[name].astype(np.int8), "nan": tensors[name] * np.nan}
        tensors[name] = values[kind]
    save_file(tensors, path, about)


def checkpoints(scratch: Path) -> Target:
    """Of a run that was killed when two of its three epochs were done, beside one of another recipe and seed."""
    folder = _template(scratch, "checkpoints", "run")
    for others in (("digits-lt/mixup",), ("digits-lt/ce", "--seeds", "1"), ("digits-lt/ce",)):
        command = ("run", *others, *SHORT, *HERE)
        seed = others[-1] if len(others) > 1 else "0"
        place = f"runs/digits-lt/digits-demo/{others[0].partition('/')[2]}/seed{seed}-#"
        move = f"open {place}/log.jsonl"
        AtMove(move, 2, 1).start(command, folder).wait(60)
    reference = scratch / "checkpoints-reference"
    shutil.copytree(folder, reference)
    right = _essence(succeed(*CE, folder=reference))
    acts = (*damage.BYTES, *damage.IRREGULAR, *(_of_another_run,) * 4, *(_longer_than_training,) * 2, *(_content,) * 4)
    return Target("checkpoint", folder, "runs/digits-lt/*/ce/seed0-*/checkpoint.pt", CE, acts, right)


def _of_another_run(rng: random.Random, path: Path) -> None:
    others = [other for other in path.parents[2].glob("*/*/checkpoint.pt") if other != path]
    shutil.copy(rng.choice(sorted(others)), path)


def _longer_than_training(rng: random.Random, path: Path) -> None:
    import torch

    content = torch.load(path, weights_only=True)
    content["curve"] = content["curve"] * rng.choice((2, 5))
    torch.save(content, path)


def _content(rng: random.Random, path: Path) -> None:
    """An intact file that holds something else."""
    import torch

    content = torch.load(path, weights_only=True)
    key = rng.choice(sorted(content))
    kind = rng.choice(("without", "other", "other", "whole"))
    if kind == "without":
        del content[key]
    else:
        content[key] = rng.choice((None, [], {}, -1, "x", float("nan"), [None], {"x": 1}, 10**30))
    torch.save(content if kind != "whole" else rng.choice(([], 3, {}, {"curve": []})), path)


# --- images and their lists --------------------------------------------------------------------------


def images(scratch: Path) -> Target:
    folder = _image_set(scratch, "images-set")
    acts = (*damage.BYTES, *damage.IRREGULAR, damage.gone, *(_other_image,) * 8, _giant, _archive)
    return Target("image", folder, "images/t*.png", (*IMAGES, *QUICK), acts, None)


def lists(scratch: Path) -> Target:
    folder = _image_set(scratch, "lists-set")
    acts = (*damage.BYTES, *damage.IRREGULAR, damage.gone, *(_line,) * 8)
    return Target("list", folder, "images/*.txt", (*IMAGES, *QUICK), acts, None)


def _image_set(scratch: Path, name: str) -> Path:
    """A folder of images with its lists, its recipe, and a card that the commands know."""
    from PIL import Image

    from lt_bench.data import cards
    from lt_bench.resources import resource_folder

    folder = scratch / name
    (folder / "images").mkdir(parents=True)
    shutil.copytree(kernels(scratch), folder / "cache" / "native")
    rng = np.random.default_rng(0)
    for part, labels in (("train", [0] * 4 + [1] * 3 + [2] * 2), ("test", [0, 0, 1, 1, 2, 2])):
        rows = [f"{part}{k}.png {label}" for k, label in enumerate(labels)]
        (folder / "images" / f"{part}.txt").write_text("\n".join(rows) + "\n")
        for k in range(len(labels)):
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / "images" / f"{part}{k}.png")
    (folder / "images" / "classes.txt").write_text("a\tapple\nb\tbear\nc\tcat\n")
    (folder / "images.yaml").write_text(RECIPE)
    known = scratch / "cards"
    if not known.exists():
        shutil.copytree(resource_folder("datasets"), known)
        (known / "campaign.yaml").write_text(CARD)
        cards.resource_folder = lambda _: known
    succeed(*IMAGES, *QUICK, folder=folder)
    for written in ("runs", "records"):
        shutil.rmtree(folder / written)
    return folder


def _other_image(rng: random.Random, path: Path) -> None:
    """An intact image of another kind."""
    from PIL import Image

    modes = ("1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16")
    image = Image.open(path).convert("RGB")
    mode = rng.choice(modes)
    changed = image.convert("L").convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    changed = changed.resize(rng.choice(((1, 1), (1, 300), (24, 20), (2000, 3))))
    for kind in rng.sample(("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "TGA", "ICO", "SGI", "PCX"), 11):
        try:
            changed.save(path, kind)
        except (OSError, ValueError):
            continue
        return


def _giant(rng: random.Random, path: Path) -> None:
    """Few bytes that declare a great many pixels."""
    import zlib

    side = rng.choice((20_000, 2**31 - 1, 12_000))
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    chunk = (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT\x35\xaf\x06\x1e")


def _archive(_: random.Random, path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("../x"))


def _line(rng: random.Random, path: Path) -> None:
    """A line that a person or a program may write, or the ways in which a file comes from another system."""
    lines = path.read_text().splitlines()
    k = rng.randrange(len(lines))
    name, _, label = lines[k].rpartition(" ")
    lines[k] = rng.choice(
        (
            *("", " ", f"{name}", f"{name} -1", f"{name} 3", f"{name} {'9' * 400}", f"{name} 1.0", f"/etc/{name} 0"),
            *(
                f"../{name} 0",
                f"{name}\0 {label}",
                f"{name}{' ' * 60_000}{label}",
                f"{name}{',' * 60_000}",
                f"é{name} 1",
            ),
            *(f"a\u2028{name} {label}", f"a\x85{name} {label}", f"{name}\t{label}", f"{name},{label}", lines[k - 1]),
            *(f"{name} {label} {label}", " " * 60_000, f"{'a/' * 3000}{name} 0", f"~/{name} 0", f"{name} ٣", "x" * 600),
        )
    )
    end = rng.choice(("\n", "\n", "\n", "\r\n", "\r", "\n\n"))
    path.write_bytes((rng.choice(("", "", "", "\ufeff")) + end.join(lines) + end).encode())
