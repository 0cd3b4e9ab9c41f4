"""Lists of image files are read as they were written, or refused in one line."""

from __future__ import annotations

import contextlib
import posixpath
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_bench.data.cards import ImageList
from lt_bench.data.folder import read_list
from lt_bench.errors import UserError


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.JPEG", r"list.txt:2: expected 'relative/path label' with a label from 0, found 'a.JPEG'"),
        ("a.JPEG x", "list.txt:2: expected 'relative/path label'"),
        ("a.JPEG 3", r"label 3 is not in 0..2"),
        ("../a.JPEG 1", "leaves the data folder"),
        ("/etc/passwd 1", "leaves the data folder"),
        ("", "lists 1 images, expected 2"),
    ],
)
def test_a_wrong_list_names_its_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "list.txt").write_text(f"first.JPEG 0\n{line}\n")
    with pytest.raises(UserError, match=message):
        read_list(tmp_path, ImageList(file="list.txt", images=2), 3)


def test_lists_with_commas_tabs_and_spaces_in_paths(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a/b.jpg,1\r\na/c d.jpg\t0\na/e.jpg  2")
    part = read_list(tmp_path, ImageList(file="list.txt", images=3), 3)
    assert part.files == ("a/b.jpg", "a/c d.jpg", "a/e.jpg")
    assert part.labels.tolist() == [1, 0, 2]


def test_only_the_published_list_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"hello\n")
    blob = "ce013625030ba8dba906f756967f9e9ca394464a"  # printf 'hello\n' | git hash-object --stdin
    with pytest.raises(UserError, match=r"list.txt:1: expected"):
        read_list(tmp_path, ImageList(file="list.txt", images=1, git_blobs=(blob,)), 3)
    with pytest.raises(UserError, match=f"not the published list .git blob {blob}"):
        read_list(tmp_path, ImageList(file="list.txt", images=1, git_blobs=("0" * 40,)), 3)


def is_name(text: str) -> bool:
    """Whether a list can hold the name: a relative path without a separator at its ends."""
    inside = not text.startswith("/") and ".." not in text.split("/")
    return inside and text == text.strip(" \t") and text == text.rstrip(" \t,") and text[0] != "\ufeff"


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), min_size=1).filter(is_name),
            st.integers(0, 9),
        ),
        min_size=1,
        unique_by=lambda row: posixpath.normpath(row[0]),
    ),
    st.sampled_from([" ", "\t", ",", ", ", " \t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
)
def test_a_list_is_read_back(rows: list[tuple[str, int]], separator: str, end: str, mark: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = (f"{name}{separator}{label}{end}" for name, label in rows)
        (Path(folder) / "list.txt").write_bytes((mark + "".join(lines)).encode())
        part = read_list(Path(folder), ImageList(file="list.txt", images=len(rows)), 10)
    assert list(zip(part.files, part.labels.tolist(), strict=True)) == rows


@given(
    st.lists(st.binary(max_size=6) | st.sampled_from([b"a 0\n", b"b.jpg", b"\r\n", b" ", b"9" * 20, b"..", b"/"])).map(
        b"".join
    )
)
def test_any_bytes_are_a_list_or_told_in_one_line(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "list.txt").write_bytes(data)
        lines = len([line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()])
        try:
            part = read_list(Path(folder), ImageList(file="list.txt", images=max(lines, 1)), 3)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert len(part.files) == lines
            assert set(part.labels.tolist()) <= {0, 1, 2}
            assert not any(file.startswith("/") or ".." in file.split("/") or "\0" in file for file in part.files)


@pytest.mark.parametrize("filler", [" ", ",", " ,", "\t", "x ", "9 ", "\u3000"])
@pytest.mark.parametrize("end", ["", " 1", "x"])
def test_a_line_of_blanks_is_read_at_once(tmp_path: Path, filler: str, end: str) -> None:
    # Twenty million of them: what tries every one from every other would not end.
    (tmp_path / "list.txt").write_text("a" + filler * (20_000_000 // len(filler)) + end + "\n")
    begin = time.process_time()
    with contextlib.suppress(UserError):
        read_list(tmp_path, ImageList(file="list.txt", images=1), 10)
    assert time.process_time() - begin < 20


def test_a_file_has_one_label(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg 0\nb.jpg 1\na.jpg 0\n./a.jpg 1\n")
    with pytest.raises(UserError, match=r"list.txt:4: ./a.jpg has the label 1 here and 0 before"):
        read_list(tmp_path, ImageList(file="list.txt", images=4), 2)
    (tmp_path / "list.txt").write_text("a.jpg 0\nb.jpg 1\na.jpg 0\n")
    assert read_list(tmp_path, ImageList(file="list.txt", images=3), 2).files == ("a.jpg", "b.jpg", "a.jpg")
