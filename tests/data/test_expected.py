"""What is said where the files of a set are not there, and that every refusal leads to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lt_bench.data.new_set import new_from_folder

LtBench = Callable[..., Any]


def test_a_set_of_which_nothing_is_there(lt_bench: LtBench, working_folder: Path) -> None:
    done = lt_bench("data", "describe", "imagenet-lt", "--data-root", "nowhere")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "ImageNet-LT: 1,000 classes, 185,846 images, about 24 GB; not all of it is there"
    assert lines[2:6] == [
        "nowhere/imagenet: missing, as is imagenet.tar in its place",
        "  ImageNet_LT_train.txt  missing: list of the 115,846 training images",
        "  ImageNet_LT_val.txt    missing: list of the 20,000 validation images",
        "  ImageNet_LT_test.txt   missing: list of the 50,000 test images",
    ]
    assert "image-net.org" in done.out
    assert "classifier-balancing" in done.out
    assert not list(working_folder.iterdir())


def test_what_is_there_is_told_apart(lt_bench: LtBench, working_folder: Path) -> None:
    folder = working_folder / "data" / "imagenet"
    folder.mkdir(parents=True)
    (folder / "ImageNet_LT_val.txt").write_text("train/n01440764/n01440764_190.JPEG 0\n")
    lines = lt_bench("data", "describe", "imagenet-lt").out.splitlines()
    assert lines[2] == f"{Path('data/imagenet')}: there"
    assert lines[3].endswith("missing: list of the 115,846 training images")
    assert lines[4].startswith("  ImageNet_LT_val.txt    not the published list (git blob ")


def test_images_that_are_missing_are_counted(lt_bench: LtBench, working_folder: Path) -> None:
    for k in range(12):
        path = working_folder / "photos" / f"c{k % 2}" / f"{k:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, 0, 0)).save(path)
    new_from_folder("mine", working_folder / "photos", test_per_class=2)
    gone = (working_folder / "mine" / "test.txt").read_text().split()[0]
    (working_folder / "photos" / gone).unlink()
    said = lt_bench("data", "describe", "mine").out
    assert "train.txt  there: list of the 8 training images, all there\n" in said
    assert f"test.txt   there: list of the 4 test images; 1 of them are missing, the first is {gone}\n" in said
    assert "--data-root" not in said  # where the images are stands on the card


@pytest.mark.parametrize("command", ["verify", "prepare", "describe --json", "describe --plot sizes.png"])
def test_a_refusal_leads_to_the_description(lt_bench: LtBench, command: str) -> None:
    word, *options = command.split()
    done = lt_bench("data", word, "imagenet-lt", *options, "--data-root", "nowhere")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("lt-bench: nowhere: no data for imagenet-lt: ")
    assert line.endswith("; lt-bench data describe imagenet-lt tells what is expected")


def test_a_set_that_cannot_be_fetched(lt_bench: LtBench) -> None:
    done = lt_bench("data", "prepare", "imagenet-lt", "--download")
    assert done.code == 2
    assert "has to be fetched by hand; lt-bench data describe imagenet-lt tells how" in done.err
