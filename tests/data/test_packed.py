"""Packed image files: the same bytes, found by a run only while they are, and packed whatever ended an earlier try."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import tiny_card
from typer.testing import CliRunner

from lt_bench.cli import app
from lt_bench.data import Augmentation, packed
from lt_bench.data.folder import FilePart
from lt_bench.data.packed import Files, Index, PackedFiles, pack, pack_folder, source_of
from lt_bench.data.types import generator
from lt_bench.data.view_set import ViewSet
from lt_bench.errors import UserError

NAMES = tuple(f"c{k % 2}/{k}.JPEG" for k in range(7))


@pytest.fixture
def part(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FilePart:
    """Seven images in two classes, of which the journal is told two at once."""
    folder = tmp_path / "images"
    images = np.random.default_rng(0).integers(0, 256, (len(NAMES), 20, 24, 3), dtype=np.uint8)
    write(folder, {name: jpeg(image) for name, image in zip(NAMES, images, strict=True)})
    monkeypatch.setattr(packed, "AT_ONCE", 2)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a busy disk takes its time
    return FilePart(folder, NAMES, np.arange(len(NAMES)) % 2)


def jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG")
    return file.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def originals(part: FilePart, names: Sequence[str] = NAMES) -> bytes:
    return b"".join((part.folder / name).read_bytes() for name in names)


def test_a_pack_is_the_files_and_their_digests(part: FilePart, cache: Path) -> None:
    place, index = pack(part.folder, NAMES[:4], cache)
    assert (place / "images.pack").read_bytes() == originals(part, NAMES[:4])
    assert index.digests[3].tobytes() == hashlib.sha256((part.folder / NAMES[3]).read_bytes()).digest()
    whole = pack(part.folder, (*NAMES[2:], NAMES[3]), cache)[1]  # another split of the same folder
    assert (place / "images.pack").read_bytes() == originals(part)
    assert whole.names == list(NAMES)
    assert Index.load(place).sha256() == whole.sha256() != index.sha256()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_sees_the_same_images_in_a_pack(part: FilePart, cache: Path, workers: int) -> None:
    def batches() -> list[torch.Tensor]:
        settings = Augmentation(kind="resized-crop", size=16)
        images = ViewSet(part, tiny_card(), settings, torch.device("cpu"), workers)
        order = np.array([6, 0, 3, 3, 5])
        return [type(images.pictures.source), *(b.images for b in images.stream(order, 3, generator(0, "a")))]

    loose = batches()
    pack(part.folder, NAMES, cache)
    from_pack = batches()
    assert (loose[0], from_pack[0]) == (Files, PackedFiles)
    assert all(map(torch.equal, loose[1:], from_pack[1:]))


@pytest.mark.parametrize("change", ["bytes", "time", "gone", "more"])
def test_a_pack_that_no_longer_fits_is_named_and_not_read(
    part: FilePart, cache: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(part.folder, NAMES[:6], cache)
    six = part.take(np.arange(6))
    assert isinstance(source_of(six, cache), PackedFiles)
    path = part.folder / NAMES[4]
    if change == "bytes":
        path.write_bytes(path.read_bytes() + b"\0")
    elif change == "time":
        os.utime(path, ns=(0, 0))
    elif change == "gone":
        path.unlink()
    wanted = part if change == "more" else six
    capsys.readouterr()
    assert isinstance(source_of(wanted, cache), Files)
    said = capsys.readouterr().err
    assert f"1 of {len(wanted.files)} images changed or are not in this pack, the first is" in said
    assert said.count("\n") == 1
    if change != "gone":
        place, _ = pack(part.folder, wanted.files, cache)
        assert isinstance(source_of(wanted, cache), PackedFiles)
        assert (place / "images.pack").read_bytes() == originals(part, wanted.files)
        assert source_of(wanted, cache).read(4) == path.read_bytes()


def test_packing_goes_on_after_a_kill_at_any_byte(part: FilePart, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = pack_folder(part.folder, cache)
    monkeypatch.setattr(Index, "save", lambda *_: stop())

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(part.folder, NAMES, cache)
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", lambda _: None)
    journal, packed_bytes = (place / "journal").read_bytes(), (place / "images.pack").read_bytes()
    ends = [0, *np.cumsum([len((part.folder / name).read_bytes()) for name in NAMES]).tolist()]
    read: list[Path] = []
    plain = packed._read
    monkeypatch.setattr(packed, "_read", lambda path: (read.append(path), plain(path))[1])
    for cut in range(0, len(journal) + 1, 41):
        rows = journal[:cut].count(b"\n")
        for file in place.iterdir():
            file.unlink()
        (place / "journal").write_bytes(journal[:cut])
        (place / "images.pack").write_bytes(packed_bytes[: ends[rows]] + b"part of the next" * (cut % 3))
        read.clear()
        _, index = pack(part.folder, NAMES, cache)
        assert index.names == list(NAMES)
        assert (place / "images.pack").read_bytes() == originals(part)
        assert len(read) == len(NAMES) - rows  # what is safe is not read again


def test_a_kill_while_a_pack_grows_leaves_the_old_one(
    part: FilePart, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(part.folder, NAMES[:3], cache)
    calls = iter(range(3))
    monkeypatch.setattr(packed, "_to_disk", lambda file: (file.flush(), next(calls)))
    with pytest.raises((StopIteration, RuntimeError)):
        pack(part.folder, NAMES, cache)
    three = source_of(part.take(np.arange(3)), cache)
    assert isinstance(three, PackedFiles)
    assert three.read(2) == (part.folder / NAMES[2]).read_bytes()
    monkeypatch.setattr(packed, "_to_disk", lambda file: file.flush())
    place, index = pack(part.folder, NAMES, cache)
    assert index.names == list(NAMES)
    assert (place / "images.pack").read_bytes() == originals(part)
    assert not (place / "journal").exists()


@pytest.mark.parametrize("damaged", ["images.pack", "index.npz"])
def test_damage_is_found_and_packed_over(part: FilePart, cache: Path, damaged: str) -> None:
    place, _ = pack(part.folder, NAMES, cache)
    data = bytearray((place / damaged).read_bytes())
    data[len(data) // 2] ^= 1
    (place / damaged).write_bytes(data)
    if damaged == "images.pack":
        with pytest.raises(UserError, match=r"the bytes of c.*JPEG are damaged; the pack is removed"):
            pack(part.folder, NAMES, cache)
    assert isinstance(source_of(part, cache), Files)
    pack(part.folder, NAMES, cache)
    assert isinstance(source_of(part, cache), PackedFiles)


def test_a_full_disk_and_missing_files_are_one_line(
    part: FilePart, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"c9.JPEG: not readable: No such file"):
        pack(part.folder, [*NAMES, "c9.JPEG"], cache)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packed, "_to_disk", full)
    with pytest.raises(UserError, match=r"not packed: No space left on device \(LT_BENCH_CACHE"):
        pack(part.folder, NAMES, cache)
    assert isinstance(source_of(part, cache), Files)


def test_what_is_no_image_file_is_not_packed(cache: Path) -> None:
    done = CliRunner().invoke(app, ["data", "prepare", "digits-lt", "--pack"])
    assert done.exit_code == 2
    assert "digits-lt has no image files to pack; its images are kept decoded already" in done.output
    assert not cache.exists()


@pytest.mark.data
def test_prepare_packs_all_parts(cache: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    done = CliRunner().invoke(app, ["data", "prepare", "imagenet-mini", "--pack", "--data-root", str(data_root)])
    assert done.exit_code == 0
    assert "7788 image files" in done.output
