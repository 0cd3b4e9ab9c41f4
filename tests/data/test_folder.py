"""Sets of image files: what is trained on and tested, in which batches, and what is refused in one line."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import png
from torchvision.transforms import v2

from lt_bench.data import Augmentation, DataSpec, ImageSets, describe, export_split, image_sets, load_card, open_split
from lt_bench.data.cards import Card, FolderSource, ImageList
from lt_bench.data.folder import read_list
from lt_bench.data.types import generator
from lt_bench.data.view_set import ViewSet
from lt_bench.data.views import RandomView, by_pillow
from lt_bench.errors import RunError, UserError

SPEC = DataSpec(name="imagenet-mini")
SETTINGS = Augmentation(kind="resized-crop", size=16)
TRAIN_LABELS = [0] * 5 + [1] * 3 + [2]


@pytest.fixture
def root(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine training and three test images of three classes in ImageNet's layout."""
    folder = tmp_path / "data" / "mini"
    rng = np.random.default_rng(0)
    for name, labels in (("train", TRAIN_LABELS), ("test", [0, 1, 2])):
        lines = []
        for k, label in enumerate(labels):
            path = folder / name / f"n{label}" / f"{k}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (24, 30) if k == 0 else (24, 30, 3)  # the first is grey
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
            lines.append(f"{name}/n{label}/{k}.JPEG {label}\n")
        (folder / f"{name}.txt").write_text("".join(lines))
    monkeypatch.setattr("lt_bench.data.opening.load_card", lambda name: mini_card())
    return tmp_path / "data"


def mini_card() -> Card:
    card = load_card("imagenet-mini")
    lists = {"train": ImageList(file="train.txt", images=9), "test": ImageList(file="test.txt", images=3)}
    source = card.source.model_copy(update={"folder": "mini", "class_names": None, **lists})
    return card.model_copy(update={"source": source, "classes": 3, "known": ()})


def sets(root: Path, workers: int = 0) -> ImageSets:
    return image_sets(open_split(SPEC, root), SETTINGS, torch.device("cpu"), workers)


def test_the_list_file_is_the_split(root: Path) -> None:
    split = open_split(SPEC, root)
    assert split.counts.tolist() == [5, 3, 1]
    assert split.train.labels.tolist() == TRAIN_LABELS
    assert split.class_names == ("n0", "n1", "n2")
    assert split.content_kind == "files"
    assert split.validation is None
    assert describe(split)["groups"] == {"many": 0, "medium": 0, "few": 3}


def test_a_replaced_image_changes_the_content_digest(root: Path) -> None:
    before = open_split(SPEC, root)
    Image.new("RGB", (8, 8)).save(root / "mini/train/n1/6.JPEG")
    after = open_split(SPEC, root)
    assert before.index_sha256 == after.index_sha256
    assert before.content_sha256 != after.content_sha256


def test_batches_do_not_depend_on_the_number_of_workers_nor_on_who_else_makes_parts_of_them(root: Path) -> None:
    order = np.array([8, 0, 3, 3, 5, 1, 7])
    state = torch.get_rng_state()
    runs = [list(sets(root, workers).train.stream(order, 3, generator(0, "a"))) for workers in (0, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    assert [len(batch.labels) for batch in runs[0]] == [3, 3, 1]
    for run in runs:
        assert torch.cat([b.labels for b in run]).tolist() == [TRAIN_LABELS[i] for i in order]
        assert torch.equal(torch.cat([b.images for b in run]), torch.cat([b.images for b in runs[0]]))
    halves = [[slice(0, 2), slice(3, 4), slice(6, 7)], [slice(2, 3), slice(4, 6)]]
    first, second = (list(sets(root).train.stream(order, 3, generator(0, "a"), 0.0, half)) for half in halves)
    for batch, one, other in zip(runs[0], first, second, strict=False):
        assert torch.equal(torch.cat([one.images, other.images]), batch.images)
    assert torch.equal(first[2].images, runs[0][2].images)
    same_image = runs[0][0].images[2], runs[0][1].images[0]
    assert not torch.equal(*same_image)
    other = list(sets(root).train.stream(order, 3, generator(0, "a", epoch=1)))
    assert not torch.equal(other[0].images, runs[0][0].images)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("jitter", [0.4, 0.0])
def test_a_random_view_is_torchvisions_and_says_what_is_seen(flip: bool, jitter: float) -> None:
    columns, rows = np.meshgrid(np.arange(200), np.arange(100))
    image = Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))
    settings = Augmentation(kind="resized-crop", size=32, color_jitter=jitter)
    steps = [v2.RandomResizedCrop(32, scale=settings.scale), *([v2.RandomHorizontalFlip()] if flip else [])]
    steps += [v2.ColorJitter(jitter, jitter, jitter)] if jitter else []
    theirs, view = v2.Compose([*steps, v2.PILToTensor()]), RandomView(settings, flip)
    for seed in range(12):
        torch.manual_seed(seed)
        expected = theirs(image)
        torch.manual_seed(seed)
        chosen = view(image)
        pixels = by_pillow(image, chosen)
        assert torch.equal(pixels, expected)
        left, top, right, bottom, mirrored = chosen.shown(*image.size)
        if not jitter:
            middle = pixels.float().mean((1, 2))  # of a ramp, that is the middle of the box
            assert middle[0].item() == pytest.approx((left + right) / 2 * 200 - 0.5, abs=1)
            assert middle[1].item() == pytest.approx((top + bottom) / 2 * 100 - 0.5, abs=1)
            assert (pixels[0, 0, 0] > pixels[0, 0, -1]).item() == bool(mirrored)


def test_whole_images_are_squares_in_order(root: Path) -> None:
    (images,) = sets(root).train.whole(9)
    assert images.shape == (9, 3, 16, 16)
    assert images.dtype == torch.uint8
    first = Image.open(root / "mini" / "train" / "n0" / "1.JPEG").resize((16, 16), Image.Resampling.BILINEAR)
    assert torch.equal(images[1], v2.functional.pil_to_tensor(first))


def test_test_images_are_resized_and_centre_cropped(root: Path) -> None:
    (batch,) = sets(root).test.clean(8)
    assert batch.images.shape == (3, 3, 16, 16)
    assert batch.labels.tolist() == [0, 1, 2]
    with Image.open(root / "mini/test/n1/1.JPEG") as image:
        resized = image.resize((22, 18), Image.Resampling.BILINEAR).crop((3, 1, 19, 17))  # 16 * 256 / 224 = 18
    card = load_card("imagenet-mini")
    expected = (np.asarray(resized) / 255 - card.mean) / card.std
    torch.testing.assert_close(
        batch.images[1].permute(1, 2, 0).double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5
    )


def test_what_is_not_varied_is_as_evaluation_sees_it(root: Path) -> None:
    further, cpu = {"random-erasing": {"probability": 1.0}}, torch.device("cpu")
    for varied in (True, False):
        train = image_sets(open_split(SPEC, root), SETTINGS, cpu, 0, further, varied=varied).train
        (seen,), (plain,) = train.stream(np.arange(9), 9, generator(0, "images")), train.clean(9)
        assert torch.equal(seen.images, plain.images) == (not varied)


def test_missing_images_are_counted_and_the_first_is_named(root: Path) -> None:
    for k in (5, 6):
        (root / f"mini/train/n1/{k}.JPEG").unlink()
    with pytest.raises(UserError, match=r"2 of 9 images are missing, the first is train/n1/5.JPEG"):
        open_split(SPEC, root)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_ends_the_run_in_one_line(root: Path, workers: int) -> None:
    path = root / "mini/train/n2/8.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, match=r"8.JPEG: not a readable image") as error:
        list(sets(root, workers).train.clean(4))
    assert "\n" not in str(error.value)


def pack(root: Path, *extra: tarfile.TarInfo) -> None:
    with tarfile.open(root / "mini.tar", "w") as tar:
        tar.add(root / "mini", "mini")
        for member in extra:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    (root / "mini").rename(root / "unpacked")


def test_a_tar_archive_is_extracted_once(root: Path, cache: Path) -> None:
    loose = open_split(SPEC, root).digest
    pack(root)
    packed = open_split(SPEC, root)
    assert packed.digest == loose
    assert str(cache) in packed.origin
    stamp = Path(packed.origin).stat().st_ctime_ns
    assert Path(open_split(SPEC, root).origin).stat().st_ctime_ns == stamp


@pytest.mark.parametrize("kind", ["file", "link", "device"])
def test_a_tar_member_that_leaves_the_folder_is_refused(root: Path, cache: Path, kind: str) -> None:
    member = tarfile.TarInfo("../../escaped" if kind == "file" else "mini/escaped")
    if kind == "file":
        member.size = 1
    else:
        member.type, member.linkname = (tarfile.SYMTYPE if kind == "link" else tarfile.CHRTYPE), "/etc"
    pack(root, member)
    with pytest.raises(UserError, match=r"mini.tar: not a safe and complete tar archive") as error:
        open_split(SPEC, root)
    assert "\n" not in str(error.value)
    assert not list(cache.rglob("*escaped"))
    assert not list(cache.rglob("*.JPEG"))


def test_a_truncated_tar_archive_is_refused(root: Path, cache: Path) -> None:
    pack(root)
    archive = root / "mini.tar"
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"mini.tar: not a safe and complete tar archive"):
        open_split(SPEC, root)


def test_missing_folder_and_misplaced_settings(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"looked for the folder mini and for mini.tar"):
        open_split(SPEC, tmp_path)
    split = open_split(SPEC, root)
    with pytest.raises(UserError, match="imagenet-mini needs resized-crop, found crop-flip"):
        image_sets(split, Augmentation(), torch.device("cpu"))
    with pytest.raises(UserError, match="not exported"):
        export_split(split, tmp_path / "x.parquet")


@pytest.mark.data
def test_imagenet_mini(data_root: Path, cache: Path) -> None:
    facts = describe(open_split(SPEC, data_root))
    counts = facts["counts"]
    assert (facts["total"], facts["test"], max(counts), min(counts)) == (5288, 2500, 200, 5)
    assert facts["groups"] == {"many": 19, "medium": 43, "few": 38}


# list files


def test_an_image_is_not_trained_on_and_tested(root: Path) -> None:
    path = root / "mini" / "test.txt"
    path.write_text(path.read_text().replace("test/n1/1.JPEG", "train//n1/6.JPEG"))
    with pytest.raises(UserError, match=r"test.txt:2: train//n1/6.JPEG is in train.txt too$"):
        open_split(SPEC, root)


def test_validation_images_are_neither_trained_on_nor_tested(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = mini_card()
    source = card.source.model_copy(update={"validation": ImageList(file="val.txt", images=1)})
    validated = card.model_copy(update={"source": source})
    monkeypatch.setattr("lt_bench.data.opening.load_card", lambda name: validated)
    (root / "mini" / "val.txt").write_text("test/n1/1.JPEG 1\n")
    with pytest.raises(UserError, match=r"test.txt:2: test/n1/1.JPEG is in val.txt too"):
        open_split(SPEC, root)
    (root / "mini" / "val.txt").write_text("train/n1/6.JPEG 1\n")
    with pytest.raises(UserError, match=r"val.txt:1: train/n1/6.JPEG is in train.txt too"):
        open_split(SPEC, root)


def test_published_lists_are_taken_as_they_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, line in (("test", "train/n1/6.JPEG 1"), ("train", "train/n1/6.JPEG 1")):
        path = root / "mini" / f"{name}.txt"
        path.write_text(f"{path.read_text()}{line}\n")
    card = mini_card()
    assert isinstance(card.source, FolderSource)
    lists = {
        name: ImageList(file=f"{name}.txt", images=images, git_blobs=(git_blob(root / "mini" / f"{name}.txt"),))
        for name, images in (("train", 10), ("test", 4))
    }
    published = card.model_copy(update={"source": card.source.model_copy(update=lists)})
    monkeypatch.setattr("lt_bench.data.opening.load_card", lambda name: published)
    assert open_split(SPEC, root).counts.tolist() == [5, 4, 1]


def git_blob(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_a_class_without_training_images_is_found_when_the_set_is_opened(root: Path) -> None:
    path = root / "mini" / "train.txt"
    path.write_text(path.read_text().replace("8.JPEG 2", "8.JPEG 1"))
    with pytest.raises(UserError, match=r"train.txt: 1 of 3 classes have no training image, the first is 2"):
        open_split(SPEC, root)


@pytest.mark.parametrize("name", ["train.txt", "classes.txt", "train/n1/6.JPEG", "mini.tar"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_never_hangs(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    card = mini_card()
    named = card.model_copy(update={"source": card.source.model_copy(update={"class_names": "classes.txt"})})
    monkeypatch.setattr("lt_bench.data.opening.load_card", lambda name: named)
    (root / "mini" / "classes.txt").write_text("n0\nn1\nn2\n")
    path = root / "mini" / name
    if name == "mini.tar":
        shutil.rmtree(root / "mini")
        path = root / name
    path.unlink(missing_ok=True)
    {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir}[kind](path)
    with pytest.raises(UserError, match=r"not a regular file|no regular file|looked for"):
        open_split(SPEC, root)


# images


def test_odd_names_and_deep_images_are_decoded(root: Path) -> None:
    image = Image.fromarray(np.full((20, 20), 128 * 257, np.uint16))
    names = ["a b.PNG", "a, b.png", "žába\u2028.TIF", "=1+1.Png"]
    for name in names:
        image.save(root / "mini" / "train" / name, "TIFF" if "TIF" in name else "PNG")
    lines = [f"train/{name} {label}\n" for name, label in zip(names, [0, 1, 2, 0], strict=True)]
    (root / "mini" / "train.txt").write_bytes("".join(lines).replace("\n", "\r\n").encode("utf-8-sig"))
    part = read_list(root / "mini", ImageList(file="train.txt", images=4), 3)
    assert len(part.sizes()) == 4
    batch = next(ViewSet(part, mini_card(), SETTINGS, torch.device("cpu"), 0).clean(4))
    card = mini_card()
    grey = torch.tensor([(128 / 255 - m) / s for m, s in zip(card.mean, card.std, strict=True)])
    torch.testing.assert_close(batch.images, grey[None, :, None, None].expand(4, 3, 16, 16), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_pillow_refuses_is_named(root: Path, workers: int) -> None:
    path = root / "mini/train/n2/8.JPEG"
    path.write_bytes(png(2, 8, np.zeros((1, 1, 3), np.uint8), 20_000, 20_000))
    with pytest.raises(RunError, match=r"8.JPEG: not a readable image: Image size \(400000000 pixels\)") as error:
        list(sets(root, workers).train.clean(4))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("end", ["killed", "error", "no room"])
def test_decoding_that_ends_says_so_in_one_line(root: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    def decode(_: io.BytesIO) -> Image.Image:
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if end == "error":
            raise RuntimeError("two\nlines")
        return Image.new("RGB", (20, 20))

    def full(_: torch.Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr("lt_bench.data.pictures.open_image", decode)
    if end == "no room":
        monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(RunError, match="fewer --workers need less") as error:
        list(sets(root, 0 if end == "error" else 1).train.clean(4))
    said = {"killed": "exited unexpectedly|killed", "error": "decoding ended: lines", "no room": "no room for a batch"}
    assert re.search(said[end], str(error.value))
    assert "\n" not in str(error.value)
