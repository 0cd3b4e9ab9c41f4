"""Tensors come back as they were written, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lt_bench import tensor_files
from lt_bench.errors import UserError
from lt_bench.tensor_files import UNREADABLE, content_sha256, read_tensors, write_tensors

TENSORS = {
    "bfloat16": torch.linspace(-1, 1, 12).reshape(3, 4).to(torch.bfloat16),
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(7),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "mask": torch.tensor([True, False]),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tensors") / "x.safetensors"
    write_tensors(path, "tensors", TENSORS, {"seed": "3"})
    return path.read_bytes()


def test_any_type_and_shape_comes_back(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "x").write_bytes(stored)
    tensors, text = read_tensors(tmp_path / "x")
    assert text == {"seed": "3"}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=0)


@given(data=st.data())
def test_no_byte_can_change(tmp_path_factory: pytest.TempPathFactory, stored: bytes, data: st.DataObject) -> None:
    at, bit = data.draw(st.integers(0, len(stored) - 1)), data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("x") / "x"
    path.write_bytes(stored[:at] + bytes([stored[at] ^ 1 << bit]) + stored[at + 1 :])
    try:
        tensors, text = read_tensors(path)
    except UNREADABLE:
        return
    # A blank of the header can be another one.
    assert content_sha256(tensors, text) == content_sha256(
        {n: t.contiguous() for n, t in TENSORS.items()}, {"seed": "3"}
    )


def test_name_type_shape_and_text_count() -> None:
    zeros = torch.zeros(4)
    found = [
        content_sha256({"a": zeros}, {}),
        content_sha256({"b": zeros}, {}),
        content_sha256({"a": zeros.view(torch.int32)}, {}),
        content_sha256({"a": zeros.reshape(2, 2)}, {}),
        content_sha256({"a": zeros}, {"a": ""}),
    ]
    assert len(set(found)) == 5


def test_what_is_no_such_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    save_file({"a": torch.zeros(1)}, tmp_path / "unsigned")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "absent", tmp_path / "unsigned"):
        with pytest.raises(UNREADABLE):
            read_tensors(path)
    write_tensors(tmp_path / "large", "tensors", TENSORS, {})
    monkeypatch.setattr(tensor_files, "MOST_BYTES", 100)
    with pytest.raises(OSError, match="the most is 100"):
        read_tensors(tmp_path / "large")


def test_what_the_format_cannot_hold_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x: the weights could not be written: ") as caught:
        write_tensors(tmp_path / "x", "weights", {"a": torch.eye(3).to_sparse()}, {})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
