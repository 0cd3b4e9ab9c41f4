"""What a run keeps of its epochs: which files, what is in them, and the picture the command line draws of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_cases import COUNTS, TINY, at_epoch, no_space, once, only, tiny, train, until_done
from safetensors.torch import load_file, save_file

from lt_bench import tensor_files
from lt_bench.diagnostics import draw_distances, kept_epochs, read_distances, save_diagnostics
from lt_bench.errors import UserError
from lt_bench.mixing.class_distance import class_distances
from lt_bench.recipe import Recipe, load_recipe
from lt_bench.tensor_files import write_tensors

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LtBench = Callable[..., Any]

DISTANCE = ("digits-lt/class-distance-mix-ours", *TINY, "mix.warmup_epochs=2")
PICTURES = (b"\x89PNG\r", b"%PDF-", b"<?xml")


def kept(folder: Path) -> dict[str, Any]:
    """All diagnostics below a folder, by the name of their file."""
    return {path.name: load_file(path) for path in sorted(folder.rglob("diagnostics/*"))}


def folder_with(folder: Path, *matrices: torch.Tensor, first: int = 1, **about: Any) -> Path:
    """A run's folder that holds these distances of consecutive epochs."""
    folder.mkdir(exist_ok=True)
    defaults: dict[str, Any] = {"train_counts": torch.tensor([3, 30, 300]), "recipe": tiny(), "seed": 0}
    for epoch, matrix in enumerate(matrices, first):
        save_diagnostics(folder, epoch, {"distance": matrix}, **(defaults | about))
    return folder


# --- what a run keeps --------------------------------------------------------------------------------


def test_a_run_keeps_one_file_for_each_epoch_that_measured(tmp_path: Path) -> None:
    train(tiny("class-distance-mix-ours", "mix.warmup_epochs=2"), tmp_path)
    found = kept(tmp_path)
    assert list(found) == [
        "epoch-002.safetensors",
        "epoch-003.safetensors",
        *(f"epoch-00{i}.safetensors" for i in (4, 5)),
    ]
    for tensors in found.values():
        assert {name: tensor.shape for name, tensor in tensors.items()} == {
            "distance": (10, 10),
            "probability": (10, 10),
            "accuracy": (10,),
            "partner_share": (10,),
        }
        expected = class_distances(tensors["probability"], "l2").float()
        torch.testing.assert_close(tensors["distance"], expected)
        torch.testing.assert_close(tensors["probability"].sum(dim=1), torch.ones(10))
    distances = read_distances(only(tmp_path, "epoch-003.safetensors"))
    assert (distances.epoch, distances.seed, tuple(distances.train_counts)) == (3, 0, COUNTS)
    assert distances.recipe == Recipe.read(json.loads(only(tmp_path, "recipe.json").read_text()))


@pytest.mark.parametrize("generator", ["{name: cmo, start_epoch: 0, stop_before_end: 0}", "remix"])
def test_an_interrupted_run_keeps_the_same(generator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("class-distance-mix-ours", "mix.warmup_epochs=2", f"mix.generator={generator}")
    train(recipe, tmp_path / "whole")
    at_epoch(monkeypatch, before=once(3, 5), after=once(2, 4))
    assert until_done(recipe, tmp_path / "cut") == 4
    left, right = kept(tmp_path / "cut"), kept(tmp_path / "whole")
    assert list(left) == list(right)
    for name, tensors in left.items():
        assert all(torch.equal(tensor, right[name][key]) for key, tensor in tensors.items())


def test_an_epoch_is_kept_before_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a crash between the two would leave it out for ever."""
    from lt_bench.training import run as run_module

    saved: list[int] = []
    real = run_module.save_checkpoint

    def save(path: Path, *rest: Any) -> None:
        saved.append(len(kept(tmp_path)))
        real(path, *rest)

    monkeypatch.setattr(run_module, "save_checkpoint", save)
    train(tiny("class-distance-mix-ours", "mix.warmup_epochs=2"), tmp_path)
    assert saved == [0, 1, 2, 3, 4]


def test_all_that_a_run_leaves_has_the_modes_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o026)
    try:
        train(tiny("class-distance-mix-ours", "mix.warmup_epochs=2"), tmp_path)
    finally:
        os.umask(before)
    assert kept(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o640}


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_files, "write_atomically", no_space)
    with pytest.raises(
        UserError, match=r"epoch-001.safetensors: the diagnostics could not be written: .*No space left"
    ):
        folder_with(tmp_path / "run", torch.zeros(3, 3))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "diagnostics").touch()
    with pytest.raises(UserError, match="the diagnostics could not be written"):
        folder_with(tmp_path, torch.zeros(3, 3))


def test_nothing_to_keep_leaves_no_folder(tmp_path: Path) -> None:
    save_diagnostics(tmp_path, 1, {}, torch.ones(3), tiny(), 0)
    assert not list(tmp_path.iterdir())


# --- the picture -------------------------------------------------------------------------------------


def axes_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures drawn from now on, instead of files."""
    from matplotlib.figure import Figure

    drawn: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    return drawn


def test_classes_stand_by_size_and_the_mean_by_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = axes_of(monkeypatch)
    matrix = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])  # the sizes are 3, 30, 300
    folder = folder_with(tmp_path / "run", matrix / 2, matrix, matrix * 2)
    assert draw_distances(folder, Path("unused.png"), epoch=2) == 2
    (figure,) = drawn
    left, right, bar = figure.axes
    shown = left.images[0].get_array()
    np.testing.assert_array_equal(shown, [[0, 3, 2], [3, 0, 1], [2, 1, 0]])
    assert [label.get_text() for label in left.get_yticklabels()] == ["2 (300)", "1 (30)", "0 (3)"]
    assert right.lines[0].get_xydata().tolist() == [[1, 1], [2, 2], [3, 4]]
    assert "ce on digits-lt (factor 4), seed 0: after epoch 2 of 5" in figure.get_suptitle()
    assert bar.get_ylabel() == "distance"  # that of ce, which has none of its own


@pytest.mark.parametrize(("distance", "unit"), [("l2", "at most √2"), ("jensen-shannon", "nats, at most log 2")])
def test_the_colour_bar_has_the_unit(distance: str, unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = axes_of(monkeypatch)
    recipe = load_recipe("imagenet-lt/ce", [f"mix={{name: class-distance-mix-ours, distance: {distance}}}"])
    counts = torch.arange(1000) + 5
    folder = folder_with(tmp_path / "run", torch.rand(1000, 1000), recipe=recipe, train_counts=counts)
    draw_distances(folder, Path("unused.png"))
    left, bar = drawn[0].axes  # one epoch: no curve
    assert unit in bar.get_ylabel()
    assert [label.get_text() for label in left.get_xticklabels()] == ["many", "medium", "few"]
    assert "factor" not in drawn[0].get_suptitle()


def test_the_command_draws(lt_bench: LtBench, working_folder: Path) -> None:
    assert lt_bench("run", *DISTANCE, "--device", "cpu").code == 0
    run_folder = only(working_folder, "log.jsonl").parent
    done = lt_bench("diagnostics", run_folder)
    assert (done.code, done.out) == (0, f"{run_folder / 'distance.png'}: the distances between classes after epoch 5\n")
    assert (run_folder / "distance.png").read_bytes()[:5] in PICTURES
    for name in ("a.pdf", "a.svg", "without-suffix"):
        done = lt_bench("diagnostics", run_folder, "--out", name, "--epoch", "2")
        assert (done.code, done.out) == (0, f"{name}: the distances between classes after epoch 2\n")
        assert Path(name).read_bytes()[:5] in PICTURES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["x" * 3000], "longer than a name (255 bytes) or a path (4095) can be"),
        (["a\nb"], "a b: there is no such folder"),
        (["file"], "file: there is no such folder"),
        (["empty"], "empty: holds no diagnostics of a run; runs with the mix class-distance-mix-ours keep them"),
        (["strange"], "strange: holds no diagnostics of a run"),
        (["run", "--epoch", "7"], "run: nothing was kept after epoch 7, only from 2 to 3"),
        (["run", "--epoch", "-1"], "run: nothing was kept after epoch -1, only from 2 to 3"),
        (["run", "--out", "file/a.png"], "file/a.png: the figure cannot be written"),
        (["run", "--out", "a.txt"], "a.txt: the figure cannot be written"),
        (["run", "--out", "empty"], "the figure cannot be written"),
        (["broken"], "epoch-001.safetensors: holds no class distances of a run (SafetensorError: "),
        (["without"], "epoch-001.safetensors: holds no class distances of a run (KeyError: 'distance')"),
        (["unsigned"], "epoch-001.safetensors: holds no class distances of a run (ValueError: it has no sha256"),
        (["anonymous"], "epoch-001.safetensors: holds no class distances of a run (KeyError: 'train_counts')"),
        (
            ["other"],
            "epoch-001.safetensors: holds no class distances of a run (ValueError: a matrix (2, 2) for 3 classes)",
        ),
    ],
)
def test_wrong_input(lt_bench: LtBench, working_folder: Path, arguments: list[str], said: str) -> None:
    (working_folder / "file").touch()
    (working_folder / "empty").mkdir()
    folder_with(working_folder / "run", torch.zeros(3, 3), torch.ones(3, 3), first=2)
    folder_with(working_folder / "other", torch.zeros(2, 2))
    for name in ("broken", "without", "anonymous", "unsigned", "strange"):
        (working_folder / name / "diagnostics").mkdir(parents=True)
    (working_folder / "strange/diagnostics/epoch-x.safetensors").touch()
    (working_folder / "broken/diagnostics/epoch-001.safetensors").write_bytes(b"not tensors")
    for name, tensors in {"without": {"a": torch.zeros(3)}, "anonymous": {"distance": torch.zeros(3, 3)}}.items():
        write_tensors(working_folder / name / "diagnostics/epoch-001.safetensors", "diagnostics", tensors, {})
    save_file({"distance": torch.zeros(3, 3)}, working_folder / "unsigned/diagnostics/epoch-001.safetensors")
    done = lt_bench("diagnostics", *arguments)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert said in done.err


def test_a_run_without_diagnostics(lt_bench: LtBench, working_folder: Path) -> None:
    assert lt_bench("run", "digits-lt/ce", *TINY, "--device", "cpu").code == 0
    done = lt_bench("diagnostics", only(working_folder, "log.jsonl").parent)
    assert done.code == 2
    assert re.fullmatch(r"lt-bench: .*: holds no diagnostics of a run; .*\n", done.err)


def test_epochs_are_in_their_order(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", *[torch.zeros(3, 3)] * 3, first=998)
    assert list(kept_epochs(folder)) == [998, 999, 1000]
