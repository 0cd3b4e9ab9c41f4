from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from tiny_data import NAMES, tiny_card, use_card, write_hub

from lt_bench.data import DataSpec, Split, export_split, open_split
from lt_bench.data.folder import FilePart
from lt_bench.errors import UserError

SPEC = DataSpec(name="cifar10-lt", factor=5.0, validation_per_class=3)


@pytest.fixture
def split(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    use_card(monkeypatch, tiny_card())
    write_hub(tmp_path / "hub")
    return open_split(SPEC, tmp_path / "hub")


@pytest.mark.parametrize("as_folder", [False, True])
def test_an_exported_split_is_read_back_unchanged(split: Split, tmp_path: Path, as_folder: bool) -> None:
    (tmp_path / "carried").mkdir()
    path = tmp_path / "carried" / "split.parquet"
    export_split(split, path)
    back = open_split(SPEC, path.parent if as_folder else path)
    assert list(path.parent.iterdir()) == [path]
    assert back.origin == str(path)
    assert (back.index_sha256, back.content_sha256, back.digest) == (
        split.index_sha256,
        split.content_sha256,
        split.digest,
    )
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(back, name).images, getattr(split, name).images)
        np.testing.assert_array_equal(getattr(back, name).labels, getattr(split, name).labels)
    assert (back.class_names, back.spec) == (split.class_names, split.spec)


def test_the_file_has_the_hubs_layout(split: Split, tmp_path: Path) -> None:
    export_split(split, tmp_path / "split.parquet")
    table = pq.read_table(tmp_path / "split.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert table.column_names == ["image", "label", "part", "index"]
    assert features["label"]["names"] == list(split.class_names)
    assert table.schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert table.column("image")[0].as_py()["bytes"].startswith(b"\x89PNG")


def test_positions_for_other_code(split: Split, tmp_path: Path) -> None:
    export_split(split, tmp_path / "split.csv")
    with (tmp_path / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for part, indices in (("train", split.train_indices), ("validation", split.validation_indices)):
        of_part = [row for row in rows if row["part"] == part]
        assert [int(row["index"]) for row in of_part] == indices.tolist()
        assert [int(row["label"]) for row in of_part] == getattr(split, part).labels.tolist()
    assert list(rows[0]) == ["part", "index", "label"]
    noisy = replace(split, given=split.train.labels[::-1].copy())
    export_split(noisy, tmp_path / "split.csv")
    first, *_ = (tmp_path / "split.csv").read_text().splitlines()[1:]
    assert first == f"train,{split.train_indices[0]},{split.train.labels[0]},{split.train.labels[-1]}"


def test_positions_in_a_validation_list_of_its_own_are_those_in_the_list(split: Split, tmp_path: Path) -> None:
    files = FilePart(tmp_path, ("a.png", "b.png"), np.array([1, 0]))
    export_split(
        replace(split, train=files, train_indices=np.arange(2), validation=files, validation_indices=np.arange(0)),
        tmp_path / "split.csv",
    )
    lines = (tmp_path / "split.csv").read_text().splitlines()
    assert lines == ["part,index,label", "train,0,1", "train,1,0", "validation,0,1", "validation,1,0"]


def test_the_same_split_gives_the_same_file(split: Split, tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        export_split(split, tmp_path / name)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    "change", [{"factor": 2.0}, {"subset_seed": 1}, {"validation_per_class": 0}, {"profile": "step"}]
)
def test_another_split_than_the_one_asked_for_is_refused(
    split: Split, tmp_path: Path, change: dict[str, object]
) -> None:
    (tmp_path / "carried").mkdir()
    export_split(split, tmp_path / "carried" / "split.parquet")
    for root in (tmp_path / "carried", tmp_path / "carried" / "split.parquet"):
        with pytest.raises(UserError, match=r"split.parquet: holds cifar10-lt version 1 \(factor 5.0, .*asked for"):
            open_split(SPEC.model_copy(update=change), root)


def test_beside_the_whole_data_set_an_export_serves_only_its_own_split(split: Split, tmp_path: Path) -> None:
    export_split(split, tmp_path / "hub" / "split.parquet")
    assert open_split(SPEC, tmp_path / "hub").origin.endswith("split.parquet")
    assert open_split(SPEC.model_copy(update={"factor": 2.0}), tmp_path / "hub").origin.endswith("plain_text")


@pytest.mark.parametrize("rows", ["train", "validation", "test"])
@pytest.mark.parametrize("column", ["image", "label", "part", "index"])
def test_an_altered_export_is_refused(split: Split, tmp_path: Path, column: str, rows: str) -> None:
    path = tmp_path / "split.parquet"
    export_split(split, path)
    table = pq.read_table(path)
    values = table.column(column).to_pylist()
    first = table.column("part").to_pylist().index(rows)
    other = next(k for k, value in enumerate(values) if value != values[first])
    values[first], values[other] = values[other], values[first]
    position = table.column_names.index(column)
    changed = table.set_column(position, column, pa.array(values, table.schema.field(column).type))
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(UserError, match=r"split.parquet: altered"):
        open_split(SPEC, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns("part"), "altered: its column part must name train and test rows"),
        (lambda table: table.drop_columns("index"), "no column index"),
        (lambda table: table.drop_columns("image"), "no column img or image"),
        (lambda table: table.drop_columns("label"), "no column label or fine_label"),
        (lambda table: table.filter(pyarrow.compute.equal(table["part"], "train")), "must name train and test rows"),
        (lambda table: table.slice(0, 0), "must name train and test rows"),
        (lambda table: put(table, "part", [None] * len(table)), "must name train and test rows"),
        (lambda table: put(table, "part", [["train"]] * len(table)), "must name train and test rows"),
        (lambda table: put(table, "index", [None] * len(table)), "index must hold a whole number in every row"),
        (lambda table: put(table, "index", [0.5] * len(table)), "whole number in every row, found double"),
        (lambda table: table.replace_schema_metadata(named(table, ["a"] * 10)), "the class name 'a' is that of"),
        (lambda table: table.replace_schema_metadata(named(table, NAMES[::-1])), "class 0 is called 'class 9', on the"),
    ],
)
def test_an_export_with_something_missing(
    split: Split, tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    path = tmp_path / "split.parquet"
    export_split(split, path)
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(UserError, match=f"split.parquet.*{message}") as error:
        open_split(SPEC, path)
    assert "\n" not in str(error.value)


def put(table: pa.Table, column: str, values: list[object]) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, pa.array(values))


def named(table: pa.Table, names: list[str]) -> dict[bytes, bytes]:
    meta = dict(table.schema.metadata)
    features = json.loads(meta[b"huggingface"])
    features["info"]["features"]["label"]["names"] = names
    return meta | {b"huggingface": json.dumps(features).encode()}


@pytest.mark.parametrize("own", [b"[]", b"7", b"{}", b'{"card": 1}', b"[" * 100_000, b"\xff"])
def test_metadata_that_no_export_writes(split: Split, tmp_path: Path, own: bytes) -> None:
    path = tmp_path / "split.parquet"
    export_split(split, path)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(dict(table.schema.metadata) | {b"lt_bench": own}), path)
    with pytest.raises(UserError, match="neither a folder of data nor a split written by"):
        open_split(SPEC, path)


def test_a_pipe_named_like_an_export_is_not_waited_for(split: Split, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / "a.parquet")
    export_split(split, tmp_path / "data" / "b.parquet")
    assert open_split(SPEC, tmp_path / "data").origin.endswith("b.parquet")


def test_a_full_disk_leaves_the_older_export(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "out" / "split.parquet"
    path.parent.mkdir()
    export_split(split, path)
    older = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"split.parquet: cannot be written: No space left on device$"):
        export_split(split, path)
    assert path.read_bytes() == older
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", [f"{'n' * 300}.parquet", "nowhere/split.parquet"])
def test_a_name_that_cannot_be_written(split: Split, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"cannot be written: (File name too long|No such file)"):
        export_split(split, tmp_path / name)


def test_a_file_of_another_kind_is_not_overwritten(split: Split, tmp_path: Path) -> None:
    (tmp_path / "lists.txt").write_text("mine")
    with pytest.raises(UserError, match=r"lists\.txt: an export is a parquet file, .*: .*lists\.parquet"):
        export_split(split, tmp_path / "lists.txt")
    assert (tmp_path / "lists.txt").read_text() == "mine"
    images = next((tmp_path / "hub").rglob("train-*.parquet"))
    (table := tmp_path / "my.csv").write_text("part,mine\n")
    for mine in (images, table):
        before = mine.read_bytes()
        with pytest.raises(UserError, match="was not made by this command, so it is not overwritten"):
            export_split(split, mine)
        assert mine.read_bytes() == before
    for name in ("again.csv", "again.parquet"):
        export_split(split, tmp_path / name)
        export_split(split, tmp_path / name)


def test_files_that_are_not_exports(split: Split, tmp_path: Path) -> None:
    plain = next((tmp_path / "hub").rglob("train-*"))
    with pytest.raises(UserError, match="neither a folder of data nor a split written by"):
        open_split(SPEC, plain)
    plain.write_bytes(plain.read_bytes()[:500])
    with pytest.raises(UserError, match="not a readable parquet file"):
        open_split(SPEC, plain)


def test_a_failed_export_leaves_nothing_behind(split: Split, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        export_split(split, tmp_path / "nowhere" / "split.parquet")
    (tmp_path / "taken").mkdir()
    with pytest.raises(
        UserError, match=r"taken: is a folder; name the file to write, such as .*taken/cifar10-lt\.parquet"
    ):
        export_split(split, tmp_path / "taken")
    assert not list(tmp_path.glob(".*"))


def test_digits_can_be_carried_too(tmp_path: Path, cache: Path) -> None:
    spec = DataSpec(name="digits-lt", factor=10.0)
    split = open_split(spec)
    export_split(split, tmp_path / "digits.parquet")
    assert open_split(spec, tmp_path / "digits.parquet").digest == split.digest
