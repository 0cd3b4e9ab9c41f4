from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_bench.data.arrays import cache_folder, file_sha256
from lt_bench.data.opening import data_folder
from lt_bench.data.reading import lines_of, read_bytes, regular_size
from lt_bench.data.tables import read_table
from lt_bench.errors import UserError

READERS: dict[str, Callable[[Path], object]] = {
    "list": lambda path: read_bytes(path, "list"),
    "digest": file_sha256,
    "table": read_table,
}


def special(folder: Path, kind: str) -> Path:
    path = folder / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_neither_waited_for_nor_read(
    tmp_path: Path, kind: str, read: Callable[[Path], None]
) -> None:
    path = special(tmp_path, kind)
    with pytest.raises(UserError, match=r"file: not .*readable.*: not a regular file$"):
        read(path)


def test_a_file_of_a_terabyte_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "list").open("wb") as file:
        file.truncate(2**40)
    assert regular_size(tmp_path / "list") == 2**40
    with pytest.raises(UserError, match="1,099,511,627,776 bytes, the most is 1,073,741,824"):
        read_bytes(tmp_path / "list", "list")


@pytest.mark.parametrize("name", ["missing", "nul\0", "n" * 256])
def test_a_name_that_nothing_has(tmp_path: Path, name: str) -> None:
    for read in READERS.values():
        with pytest.raises(UserError, match=r"not .*readable") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\nb", ["a", "b"]),
        (b"\xef\xbb\xbfa\r\nb\r\n", ["a", "b"]),
        ("a\u2028b\x0bc\x0cd\x85e\x1cf\rg\n".encode(), ["a\u2028b\x0bc\x0cd\x85e\x1cf\rg"]),
    ],
)
def test_lines_end_where_editors_end_them(data: bytes, lines: list[str]) -> None:
    assert lines_of(data, Path("list"), "list") == lines


@pytest.mark.parametrize(
    ("path", "message"), [("~nobody-of-this-name/data", "no user of that name"), ("n" * 300, "longer than a name")]
)
def test_folders_that_cannot_be(path: str, message: str) -> None:
    for folder in (data_folder, cache_folder):
        with pytest.raises(UserError, match=message):
            folder(Path(path))
    assert data_folder(Path("/nowhere/at/all")) == Path("/nowhere/at/all")
