"""A file is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lt_bench.files import TEMPORARY, beginning, in_words, write_atomically


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes, which ends a write half done as a full disk does."""
    limits, answer = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, answer)


def test_new_and_instead_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"first, the longer", b"", b"second"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_half_done_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    with largest_file(10), pytest.raises(OSError, match="File too large") as caught:
        write_atomically(path, b"x" * 1000)
    assert in_words(caught.value) == "File too large"
    assert path.read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        assert len(list(tmp_path.glob(TEMPORARY))) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert not list(tmp_path.iterdir())


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_name_as_long_as_a_name_can_be(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), b"data")
    with pytest.raises(OSError, match="File name too long"):
        write_atomically(tmp_path / ("n" * 256), b"data")


def test_only_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match="Not a regular file"):
            write_atomically(tmp_path / name, b"data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/some/file"), "No space left on device"),
        (OSError("two\nlines"), "two lines"),
        (OSError(), "OSError"),
    ],
)
def test_the_reason_in_words(error: OSError, words: str) -> None:
    assert in_words(error) == words


def test_the_beginning_of_a_file_that_has_no_end(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    os.mkfifo(tmp_path / "pipe")
    assert beginning(tmp_path / "sparse", 3) == bytes(3)
    assert [beginning(tmp_path / name, 3) for name in ("pipe", "absent")] == [None, None]
