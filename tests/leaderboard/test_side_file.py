"""Predictions are read as what they have to be: no pickle, no bomb, no shape of its own; and regular files only."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records_factory import add_record

from lt_bench.errors import UserError
from lt_bench.leaderboard import load_predictions, load_record, load_records
from lt_bench.leaderboard.record import Record, to_json
from lt_bench.leaderboard.seal import sealed

IMAGES = 60


def archive(compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def array(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def claiming(shape: tuple[int, ...], dtype: str = "<i2") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


PREDICTED = np.repeat(np.arange(6), 10).astype("<i2")
CONFIDENCE = np.full(IMAGES, 0.5, "<f2")
RIGHT = {"predicted": array(PREDICTED), "confidence": array(CONFIDENCE)}

HOSTILE = {
    "a pickle": (pickle.dumps(print), "not readable as arrays"),
    "a pickle inside": (archive(**RIGHT | {"predicted": pickle.dumps(list(range(60)))}), "predicted"),
    "an array of objects": (archive(**RIGHT | {"predicted": claiming((IMAGES,), "|O") + b"." * 120}), "predicted"),
    "cut short": (archive(**RIGHT)[:300], "not readable as arrays"),
    "values missing": (archive(**RIGHT | {"predicted": array(PREDICTED)[:-1]}), "predicted: not int16 [60]"),
    "a shape without end": (
        archive(**RIGHT | {"predicted": claiming((10**15,)) + bytes(120)}),
        "predicted: not int16 [60]",
    ),
    "a bomb": (archive(**RIGHT | {"predicted": bytes(2**25)}), "33554432 bytes, which are not 60 values"),
    "another kind of archive": (archive(zipfile.ZIP_LZMA, **RIGHT), "compressed as no record's"),
    "one array": (archive(predicted=RIGHT["predicted"]), "confidence.npy"),
    "two axes": (archive(**RIGHT | {"predicted": array(PREDICTED.reshape(6, 10))}), "predicted: not int16 [60]"),
    "wider values": (archive(**RIGHT | {"predicted": array(PREDICTED.astype("<i8"))}), "predicted: not int16 [60]"),
    "one image less": (archive(predicted=array(PREDICTED[1:]), confidence=array(CONFIDENCE[1:])), "predicted: "),
    "a class too many": (archive(**RIGHT | {"predicted": array(PREDICTED + 1)}), "classes from 0 to 5"),
    "NaN": (archive(**RIGHT | {"confidence": array(CONFIDENCE * np.float16("nan"))}), "not all are finite"),
    "other counts": (archive(**RIGHT | {"predicted": array(PREDICTED * 0)}), "selections.last.correct"),
    "a header of nonsense": (
        archive(**RIGHT | {"predicted": b"\x93NUMPY\x01\x00\x10\x00(((((((((((((((\n" + bytes(120)}),
        "",
    ),
    "a later format": (archive(**RIGHT | {"predicted": b"\x93NUMPY\x09" + bytes(240)}), "predicted: not int16"),
}


def with_side_file(folder: Path, data: bytes) -> tuple[Path, Record]:
    """A record that confirms whatever its side file holds."""
    path = add_record(folder)
    stored = json.loads(path.read_bytes())
    del stored["sha256"]
    stored["predictions"]["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(sealed(to_json(Record.read(stored))))
    path.with_suffix(".npz").write_bytes(data)
    return path, load_record(path)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_confirmed_file_that_holds_something_else_is_one_line(case: str, tmp_path: Path) -> None:
    data, said = HOSTILE[case]
    path, record = with_side_file(tmp_path, data)
    with pytest.raises(UserError) as error:
        load_predictions(path, record)
    message = str(error.value)
    assert message.startswith(f"{path.with_suffix('.npz')}: ")
    assert said in message
    assert "\n" not in message


def test_what_belongs_there_is_read(tmp_path: Path) -> None:
    predicted, confidence = load_predictions(*with_side_file(tmp_path, archive(**RIGHT)))
    np.testing.assert_array_equal(predicted, PREDICTED)
    np.testing.assert_array_equal(confidence, CONFIDENCE)


@given(cut=st.integers(0, 600), byte=st.integers(0, 255))
def test_any_damaged_byte_is_refused_or_read(tmp_path_factory: pytest.TempPathFactory, cut: int, byte: int) -> None:
    data = bytearray(archive(**RIGHT))
    data[cut % len(data)] = byte
    path, record = with_side_file(tmp_path_factory.mktemp("damaged"), bytes(data))
    try:
        predicted, _ = load_predictions(path, record)
        assert predicted.shape == (IMAGES,)
    except UserError as error:
        assert "\n" not in str(error)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def zeros_without_end(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [a_pipe, zeros_without_end, a_folder])
@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_regular_files_only(suffix: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    path = add_record(tmp_path)
    odd = path.with_suffix(suffix)
    odd.unlink()
    make(odd)
    with pytest.raises(UserError) as error:
        load_record(path)
    kind = {".json": "record", ".npz": "side file"}[suffix]
    assert str(error.value) == f"{odd}: not a readable {kind}: not a regular file"
    if suffix == ".npz" or make is not a_folder:  # a folder of that name may hold records
        with pytest.raises(UserError, match="not a regular file"):
            load_records(tmp_path)


@pytest.mark.parametrize("inner", ["[]", "{}", "0", '""'])
def test_a_record_of_brackets_does_not_fill_memory(inner: str, tmp_path: Path) -> None:
    path = tmp_path / "brackets.json"
    path.write_text('{"recipe": {"a": [' + ",".join([inner] * (2_000_000 // (len(inner) + 1))) + "]}}")
    code = (
        "import sys; from pathlib import Path; from lt_bench.errors import UserError\n"
        "from lt_bench.leaderboard import load_record\n"
        "try: load_record(Path(sys.argv[1]))\n"
        "except UserError: print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    shown = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert path.stat().st_size < 2 * 2**20
    assert int(shown.stdout) < 300_000  # kB, of which a third is Python and NumPy


def test_the_largest_records_fit(tmp_path: Path) -> None:
    """As many classes as iNaturalist 2018 has, with names of 40 characters, and 400 epochs."""
    classes = 8142
    correct = (3,) * classes
    path = add_record(
        tmp_path,
        correct=correct,
        best=(4,) * classes,
        dataset={"class_names": [f"{k:040}" for k in range(classes)], "train_counts": [1000] * classes},
    )
    assert path.stat().st_size < 2**20
    assert load_record(path).test_images == 10 * classes
