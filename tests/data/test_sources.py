from __future__ import annotations

import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_data import NAMES, TEST, TRAIN, Exploding, encode, png, tiny_card, trust, use_card, write_archive, write_hub

from lt_bench.data import DataSpec, open_split
from lt_bench.data.arrays import ArrayPart
from lt_bench.data.cards import load_card
from lt_bench.data.sources import digits, download, enlarge, open_pool
from lt_bench.errors import UserError


@pytest.mark.parametrize(
    ("columns", "kind"), [(("img", "label"), "PNG"), (("image", "fine_label"), "WEBP"), (("img", "label"), "BMP")]
)
def test_hub_parquet_is_read_pixel_by_pixel(tmp_path: Path, cache: Path, columns: tuple[str, str], kind: str) -> None:
    write_hub(tmp_path, columns, kind)
    for _ in range(2):  # decoded, then from the cache
        pool = open_pool(tiny_card(), tmp_path, cache)
        np.testing.assert_array_equal(pool.train.images, TRAIN.images)
        np.testing.assert_array_equal(pool.test.labels, TEST.labels)
        assert list(pool.class_names) == NAMES


def test_the_cache_is_used_and_a_damaged_one_is_made_anew(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hub(tmp_path)
    open_pool(tiny_card(), tmp_path, cache)
    stored = next(path for path in cache.rglob("images.npy") if np.load(path).shape[0] == len(TRAIN.labels))
    flipped = bytearray(stored.read_bytes())
    flipped[-1] ^= 1
    stored.write_bytes(flipped)
    np.testing.assert_array_equal(open_pool(tiny_card(), tmp_path, cache).train.images, TRAIN.images)
    monkeypatch.setattr("lt_bench.data.sources.decode_table", None)  # decoding again would fail
    open_pool(tiny_card(), tmp_path, cache)


def test_missing_data_says_where_it_was_looked_for(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere \(there is no such folder\): no data for cifar10-lt: .*--data-root"):
        open_split(DataSpec(name="cifar10-lt"), tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"cifar10/plain_text/{train,test}"):
        open_split(DataSpec(name="cifar10-lt"), tmp_path)


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("keep", [0, 3, 1000])
def test_a_truncated_parquet_is_named(tmp_path: Path, cache: Path, keep: int) -> None:
    path = next(write_hub(tmp_path).glob("train-*"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a readable parquet file") as error:
        open_pool(tiny_card(), tmp_path, cache)
    assert str(path) in one_line(error)
    assert not list(cache.rglob("*.npy"))


def rewrite(path: Path, images: list[bytes], labels: np.ndarray, column: str = "img") -> None:
    table = pq.read_table(path)
    cells = [{"bytes": image, "path": None} for image in images]
    pq.write_table(type(table).from_pydict({column: cells, "label": labels}), path)


@pytest.mark.parametrize("change", ["pixel", "label"])
def test_one_altered_pixel_or_label_is_found(tmp_path: Path, cache: Path, change: str) -> None:
    path = next(write_hub(tmp_path).glob("test-*"))
    images, labels = TEST.images.copy(), TEST.labels.copy()
    if change == "pixel":
        images[7, 3, 3, 1] ^= 1
    else:
        labels[[0, -1]] = (labels[[0, -1]] + 1) % 10
    rewrite(path, [encode(image) for image in images], labels)
    with pytest.raises(UserError, match="altered: the fingerprint of the test part"):
        open_pool(tiny_card(), tmp_path, cache)


@pytest.mark.parametrize("image", [b"", b"not an image", encode(TRAIN.images[0])[:100]])
def test_an_unreadable_image_is_an_error_in_one_line(tmp_path: Path, cache: Path, image: bytes) -> None:
    path = next(write_hub(tmp_path).glob("test-*"))
    rewrite(path, [image], np.array([0]))
    with pytest.raises(UserError, match=r"test-.*parquet: row 0: not a readable image: ") as error:
        open_pool(tiny_card(), tmp_path, cache)
    one_line(error)


def test_images_as_bytes_without_a_struct(tmp_path: Path, cache: Path) -> None:
    for path, part in zip(sorted(write_hub(tmp_path).iterdir()), (TEST, TRAIN), strict=True):
        pq.write_table(pa.table({"img": [encode(image) for image in part.images], "label": part.labels}), path)
    pool = open_pool(tiny_card(), tmp_path, cache)
    np.testing.assert_array_equal(pool.train.images, TRAIN.images)
    assert list(pool.class_names) == NAMES  # the card's: the file has none


IMAGE = encode(TRAIN.images[0])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": ["text"], "label": [0]}, "column img must hold images as bytes, found string"),
        (
            {"img": [{"path": "a.png"}], "label": [0]},
            "column img must hold images as bytes, found struct<path: string>",
        ),
        ({"img": [IMAGE, None], "label": [0, 1]}, r"row 1: holds no image \(its bytes are missing\)"),
        (
            {"img": [IMAGE, encode(TRAIN.images[0, :9, :8])], "label": [0, 1]},
            "row 1: an image of 8 x 9 pixels, expected",
        ),
        ({"img": [png(2, 8, TRAIN.images[0], 20_000, 20_000)], "label": [0]}, "row 0: .*400000000 pixels"),
        ({"img": [IMAGE], "label": [None]}, "column label must hold a whole number in every row"),
        ({"img": [IMAGE], "label": [0.5]}, "column label must hold a whole number in every row, found double"),
        ({"img": [IMAGE], "label": ["cat"]}, "column label must hold a whole number in every row, found string"),
        ({"img": [IMAGE], "label": [256]}, r"labels must lie in 0..255, found 256..256"),
        ({"img": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "labels .*, found no rows"),
    ],
)
def test_a_column_that_holds_something_else(
    tmp_path: Path, cache: Path, columns: dict[str, object], message: str
) -> None:
    path = next(write_hub(tmp_path).glob("train-*"))
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=message) as error:
        open_pool(tiny_card(), tmp_path, cache)
    assert str(path) in one_line(error)


def test_names_in_another_order_than_the_cards(tmp_path: Path, cache: Path) -> None:
    write_hub(tmp_path)
    card = tiny_card().model_copy(update={"class_names": (*NAMES[1:], NAMES[0])})
    with pytest.raises(UserError, match="class 0 is called 'class 0', on the card of cifar10-lt 'class 1'"):
        open_pool(card, tmp_path, cache)


@pytest.mark.parametrize("change", [{"classes": 9}, {"classes": 11}])
def test_a_card_with_another_number_of_classes(tmp_path: Path, cache: Path, change: dict[str, int]) -> None:
    write_hub(tmp_path)
    with pytest.raises(UserError, match=r"holds 10 classes of images of 32 pixels, the card of cifar10-lt says"):
        open_pool(tiny_card().model_copy(update={**change, "class_names": None}), tmp_path, cache)


def test_a_pipe_among_the_parquet_files(tmp_path: Path, cache: Path) -> None:
    path = next(write_hub(tmp_path).glob("train-*"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"train-.*parquet: not readable: not a regular file"):
        open_pool(tiny_card(), tmp_path, cache)


def test_a_parquet_of_something_else_is_refused(tmp_path: Path, cache: Path) -> None:
    path = next(write_hub(tmp_path).glob("train-*"))
    rewrite(path, [b""], np.array([0]), column="picture")
    with pytest.raises(UserError, match=r"no column img or image \(found picture, label\)"):
        open_pool(tiny_card(), tmp_path, cache)


def test_the_order_of_the_rows_does_not_make_data_altered() -> None:
    order = np.random.default_rng(0).permutation(len(TRAIN.labels))
    assert TRAIN.take(order).fingerprint() == TRAIN.fingerprint()
    assert ArrayPart(TRAIN.images, TRAIN.labels[order]).fingerprint() != TRAIN.fingerprint()


def test_an_unwritable_cache_is_an_error_in_one_line(tmp_path: Path) -> None:
    write_hub(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written: .*LT_BENCH_CACHE") as error:
        open_pool(tiny_card(), tmp_path, tmp_path / "file")
    one_line(error)


# torchvision's archive


def pack(root: Path) -> Path:
    archive = root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / "cifar-10-batches-py", "cifar-10-batches-py")
    for path in (root / "cifar-10-batches-py").iterdir():
        path.unlink()
    (root / "cifar-10-batches-py").rmdir()
    return archive


@pytest.mark.parametrize("packed", [False, True])
def test_the_archive_gives_the_same_split_as_the_parquet_files(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    use_card(monkeypatch, tiny_card())
    root = tmp_path / "archive"
    trust(monkeypatch, write_archive(root))
    if packed:
        from torchvision.datasets import CIFAR10
        from torchvision.datasets.utils import calculate_md5

        monkeypatch.setattr(CIFAR10, "tgz_md5", calculate_md5(str(pack(root))))
    write_hub(tmp_path / "hub")
    split = open_split(DataSpec(name="cifar10-lt"), root)
    assert "cifar-10-batches-py" in split.origin
    assert split.digest == open_split(DataSpec(name="cifar10-lt"), tmp_path / "hub").digest
    assert list(split.class_names) == NAMES
    assert list(root.iterdir()) == [root / ("cifar-10-python.tar.gz" if packed else "cifar-10-batches-py")]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_wrong_hash_never_reaches_the_unpickler(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, file: str, packed: bool
) -> None:
    root, trap = tmp_path / "archive", tmp_path / "sprung"
    trust(monkeypatch, write_archive(root))
    (root / "cifar-10-batches-py" / file).write_bytes(pickle.dumps(Exploding(Path.touch, str(trap))))
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    if packed:
        pack(root)
    with pytest.raises(UserError, match=r"altered .its md5 is not"):
        open_pool(tiny_card(), root, cache)
    assert not trap.exists()


# digits


def test_digits_are_enlarged_bilinearly_and_exactly() -> None:
    ramp = np.tile(np.arange(8.0), (1, 8, 1))
    row = enlarge(ramp * 2)[0, 0, :, 0]  # half-pixel centres: two copies of the edge, then steps of a quarter pixel
    expected = np.floor(np.clip((np.arange(32) - 1.5) / 4, 0, 7) * 2 * 255 / 16 + 0.5)
    assert row.tolist() == expected.tolist()
    assert enlarge(np.full((1, 8, 8), 16.0)).min() == 255
    assert enlarge(ramp).shape == (1, 32, 32, 3)


def test_digits_are_the_same_everywhere_and_every_time(cache: Path) -> None:
    train, test = digits(60)
    assert np.bincount(test.part.labels).tolist() == [60] * 10
    assert len(train.part.labels) + len(test.part.labels) == 1797
    split = open_split(DataSpec(name="digits-lt"))
    assert split.counts.tolist() == [110, 78, 56, 40, 29, 20, 14, 10, 7, 5]
    assert split.content_sha256 == "c9a9aa886633db75a7fe8a278963511e144f29c5a3c3ff72c72cd469e4d8d6f0"
    held_out = open_split(DataSpec(name="digits-lt", validation_per_class=4))
    assert held_out.content_sha256 == split.content_sha256
    assert held_out.validation is not None
    assert np.bincount(held_out.validation.labels).tolist() == [4] * 10
    assert not set(held_out.validation_indices) & set(held_out.train_indices)


# download


def test_download_asks_torchvision_for_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("torchvision.datasets.CIFAR100", lambda **settings: asked.append(settings))
    download(load_card("cifar100-lt"), tmp_path)
    assert asked == [{"root": str(tmp_path), "download": True}]


def test_a_failed_or_impossible_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**settings: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", unreachable)
    with pytest.raises(UserError, match="the archive of CIFAR-10-LT could not be fetched: no route to host"):
        download(load_card("cifar10-lt"), tmp_path)
    with pytest.raises(UserError, match="imagenet-lt cannot be downloaded"):
        download(load_card("imagenet-lt"), tmp_path)
    download(load_card("digits-lt"), tmp_path)
    assert not list(tmp_path.iterdir())
