"""The cache of decoded images: what is damaged is made anew, and nothing in it is run, waited for or believed."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import NAMES, TEST, Exploding

from lt_bench.data.arrays import Decoded, build_folder, cached, extract
from lt_bench.errors import UserError

DECODED = Decoded.of(TEST.images, TEST.labels, tuple(NAMES))


def stored(cache: Path) -> Path:
    cached("key", cache, lambda: DECODED)
    return next((cache / "arrays").glob("key-*[0-9]"))


def put(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def put_array(name: str, array: np.ndarray) -> Callable[[Path], object]:
    """With the same bytes: only the form is another."""
    return lambda folder: np.save(folder / name, array)


def put_special(name: str, make: Callable[[Path], None]) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return act


def put_archive(folder: Path) -> None:
    with (folder / "images.npy").open("wb") as file:
        np.savez(file, TEST.images)


def put_meta(**changes: object) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        path = folder / "meta.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return act


def replace_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a list": put("meta.json", b"[1, 2]"),
    "a number": put("meta.json", b"7"),
    "nested": put("meta.json", b"[" * 100_000),
    "not text": put("meta.json", b"\xff\xfe"),
    "no digests": put("meta.json", b"{}"),
    "names that are a number": put_meta(class_names=7),
    "an archive": put_archive,
    "a pickle": put("images.npy", pickle.dumps(TEST.images)),
    "objects": put_array("labels.npy", np.array([{}] * len(TEST.labels))),
    "nothing": put("images.npy", b""),
    "other types": put_array("images.npy", TEST.images.view(np.int8)),
    "grey": put_array("images.npy", TEST.images.reshape(30, 32, -1)),
    "other shapes": put_array("images.npy", TEST.images.reshape(15, 64, 32, 3)),
    "labels in a square": put_array("labels.npy", TEST.labels.reshape(5, 6)),
    "labels as floats": put_array("labels.npy", TEST.labels.view(np.float64)),
    "a pipe": put_special("images.npy", os.mkfifo),
    "a device": put_special("meta.json", lambda path: path.symlink_to("/dev/zero")),
    "a folder": put_special("labels.npy", Path.mkdir),
    "a file instead of the folder": replace_folder,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_cache_is_made_anew(cache: Path, name: str) -> None:
    DAMAGES[name](stored(cache))
    made = []
    for _ in range(2):
        back = cached("key", cache, lambda: made.append(1) or DECODED)  # type: ignore[func-returns-value]
        np.testing.assert_array_equal(back.part.images, TEST.images)
        np.testing.assert_array_equal(back.part.labels, TEST.labels)
        assert (back.class_names, back.fingerprint) == (DECODED.class_names, DECODED.fingerprint)
    assert made == [1]


@given(
    st.sampled_from(["images.npy", "labels.npy", "meta.json"]), st.integers(0, 150), st.binary(min_size=1, max_size=4)
)
def test_any_bytes_anywhere(tmp_path_factory: pytest.TempPathFactory, name: str, place: int, data: bytes) -> None:
    folder = stored(tmp_path_factory.mktemp("cache"))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:place] + data + whole[place + len(data) :])
    back = cached("key", folder.parents[1], lambda: DECODED)
    np.testing.assert_array_equal(back.part.images, TEST.images)
    np.testing.assert_array_equal(back.part.labels, TEST.labels)


def test_a_pickle_in_the_cache_is_not_run(cache: Path, tmp_path: Path) -> None:
    folder = stored(cache)
    trap = pickle.dumps(Exploding(Path.touch, str(tmp_path / "sprung")))
    for name in ("images.npy", "labels.npy", "meta.json"):
        (folder / name).write_bytes(trap)
        cached("key", cache, lambda: DECODED)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError("92160 requested and 0 written"), "92160 requested and 0 written"),  # NumPy's, which has no number
    ],
)
def test_a_full_disk_is_told_in_words(cache: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match=f"cannot be written: {words} .LT_BENCH_CACHE names the cache"):
        stored(cache)
    assert [path.name for path in (cache / "arrays").iterdir() if path.suffix != ".lock"] == []


def tar_bytes(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        member = tarfile.TarInfo("set/a.txt")
        member.size = 3000
        tar.addfile(member, io.BytesIO(os.urandom(3000)))
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
@given(places=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4), keep=st.integers(0, 20_000))
def test_a_damaged_archive(
    tmp_path_factory: pytest.TempPathFactory, mode: str, places: list[tuple[int, int]], keep: int
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    data = bytearray(tar_bytes(mode))
    for place, value in places:
        data[place] = value
    (folder / "set.tar").write_bytes(data[:keep])
    try:
        extract(folder / "set.tar", folder / "cache")
    except UserError as error:
        assert "not a safe and complete tar archive" in str(error)
        assert "\n" not in str(error)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "cache" / "built"
    left = target.with_name(".built.building")
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    build_folder(target, lambda folder: (folder / "whole").touch(), Path.is_dir)
    assert [path.name for path in target.parent.iterdir() if not path.name.endswith(".lock")] == ["built"]
    assert [path.name for path in target.iterdir()] == ["whole"]
