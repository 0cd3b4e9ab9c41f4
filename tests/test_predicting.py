"""Images that belong to no data set get the class that the same pixels got in the test part."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from run_cases import RUN, only, refused

from lt_bench.data.loose_files import image_files
from lt_bench.data.opening import open_split
from lt_bench.errors import UserError
from lt_bench.training.weights import read_weights

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LtBench = Callable[..., Any]


@pytest.fixture
def trained(lt_bench: LtBench, working_folder: Path) -> Path:
    """Weights, and in `new` the first 40 test images of their data set."""
    assert lt_bench(*RUN, "--precision", "float32").code == 0
    weights = only(working_folder, "weights.safetensors")
    test = open_split(read_weights(weights).recipe.data, None).test
    Path("new/sub").mkdir(parents=True)
    for k, pixels in enumerate(test.images[:40]):
        Image.fromarray(pixels).save(f"new/{'sub/' * (k >= 30)}{k:02}.png")
    return weights


def evaluated(lt_bench: LtBench, weights: Path) -> Any:
    assert (
        lt_bench("evaluate", weights, "--device", "cpu", "--precision", "float32", "--predictions", "a.npz").code == 0
    )
    return np.load("a.npz", allow_pickle=False)


def test_they_are_told_as_the_test_part_is(lt_bench: LtBench, trained: Path) -> None:
    expected = evaluated(lt_bench, trained)
    done = lt_bench("predict", trained, "new", "--device", "cpu", "--out", "new.npz")
    assert (done.code, done.out, done.err) == (0, "new.npz: the classes of 40 images\n", "")
    with np.load("new.npz", allow_pickle=False) as found:
        assert sorted(found) == ["class_names", "confidence", "image", "logits", "predicted"]
        assert found["image"].tolist() == [f"new/{k:02}.png" for k in range(30)] + [
            f"new/sub/{k:02}.png" for k in range(30, 40)
        ]
        np.testing.assert_array_equal(found["predicted"], expected["predicted"][:40])
        np.testing.assert_allclose(found["logits"], expected["logits"][:40], rtol=1e-4, atol=1e-4)


def test_in_a_table_as_json_and_as_csv(lt_bench: LtBench, trained: Path) -> None:
    expected = evaluated(lt_bench, trained)
    rows = json.loads(lt_bench("predict", trained, "new/03.png", "new/01.png", "--device", "cpu", "--json").out)
    assert [row["image"] for row in rows] == ["new/03.png", "new/01.png"]
    assert [row["class"] for row in rows] == [str(expected["predicted"][k]) for k in (3, 1)]
    assert [row["confidence"] for row in rows] == pytest.approx(expected["confidence"][[3, 1]].tolist(), abs=1e-4)
    shown = lt_bench("predict", trained, "new/03.png", "--device", "cpu").out.split()
    assert shown[:3] == ["image", "class", "confidence"]
    assert shown[-3:] == ["new/03.png", rows[0]["class"], f"{100 * rows[0]['confidence']:.2f}"]
    assert lt_bench("predict", trained, "new", "--device", "cpu", "--out", "new.csv").code == 0
    table = pd.read_csv("new.csv", dtype={"class": str})
    assert [*table][:4] == ["image", "predicted", "confidence", "class"]
    assert table["class"].tolist() == expected["predicted"][:40].astype(str).tolist()
    np.testing.assert_allclose(table.filter(like="logit_"), expected["logits"][:40], rtol=1e-4, atol=1e-4)


def test_another_size_is_brought_to_that_of_the_network(lt_bench: LtBench, trained: Path) -> None:
    Image.open("new/00.png").resize((500, 400)).save("large.png")
    small, large = json.loads(lt_bench("predict", trained, "new/00.png", "large.png", "--device", "cpu", "--json").out)
    assert large["confidence"] == pytest.approx(small["confidence"], abs=0.1)


def test_what_is_refused(lt_bench: LtBench, trained: Path) -> None:
    Path("empty").mkdir()
    Path("text.png").write_text("no image")
    for images, said in (
        (("absent.png",), "absent.png: there is no such image or folder of images"),
        (("empty",), "empty: holds no images"),
        (("new", "text.png"), "text.png: not a readable image"),
        (("new", "--out", "all.txt"), "all.txt: '.txt' is not a known suffix of predictions"),
    ):
        refused(lt_bench("predict", trained, *images, "--device", "cpu"), said)
    refused(lt_bench("predict", "text.png", "new"), "text.png: not the weights of a run")


def test_damaged_images_are_left_out_and_named(lt_bench: LtBench, trained: Path) -> None:
    whole = Path("new/03.png").read_bytes()
    Path("new/03.png").write_bytes(whole[: len(whole) // 2])
    Path("new/sub/31.png").write_bytes(b"no image")
    refused(lt_bench("predict", trained, "new", "--device", "cpu"), "new/03.png: not a readable image")
    done = lt_bench("predict", trained, "new", "--device", "cpu", "--json", "--skip-unreadable")
    assert done.code == 0
    images = [row["image"] for row in json.loads(done.out)]
    assert images == [str(path) for path in image_files(Path("new")) if path not in ("new/03.png", "new/sub/31.png")]
    left_out = [line.partition(": ") for line in done.err.splitlines()]
    assert [file for file, _, _ in left_out] == ["new/03.png", "new/sub/31.png"]
    assert all(why.startswith("left out, not a readable image: ") for _, _, why in left_out)
    none = lt_bench("predict", trained, "new/03.png", "--device", "cpu", "--skip-unreadable")
    assert (none.code, none.err.splitlines()[-1]) == (2, "lt-bench: new/03.png: none of the images can be read")


def test_which_files_of_a_folder_are_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "sub/.cache/c.png", "sub/d.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to("sub")
    (tmp_path / "sub" / "round").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    found = [str(Path(file).relative_to(tmp_path)) for file in image_files(tmp_path)]
    assert found[:2] == ["a.png", "b.JPG"]
    assert [Path(file).name for file in found[2:]] == ["d.webp"]  # once, by whichever way


def test_a_name_that_no_table_can_hold(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).touch()
    with pytest.raises(UserError, match=r"udcff\.png': a name in no UTF-8"):
        list(image_files(tmp_path))
