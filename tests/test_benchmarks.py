"""The benchmarks start, are listed, and their verdicts follow from their figures. Nothing is timed here."""

from __future__ import annotations

import runpy
import sys
from collections import Counter
from operator import methodcaller
from pathlib import Path
from threading import Barrier
from time import perf_counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lt_bench.errors import UserError
from lt_bench.models import build_network
from lt_bench.native import NoCompilerError
from lt_bench.recipe import load_recipe
from lt_bench.registry import members
from lt_bench.training.options import Options
from lt_bench.training.runtime import Runtime

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.name != "plain.py")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_it_starts_and_the_readme_names_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(FOLDER)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert f"python benchmarks/{path.name}" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_ratios_are_taken_round_by_round(script: Any) -> None:
    assert script("train_step").ratio([2.0, 6.0, 8.0], [1.0, 2.0, 2.0]) == (3.0, 2.0, 4.0)


def test_a_verdict_of_equivalence(script: Any) -> None:
    equivalence = script("equivalence")
    plain = {seed: {"top-1": 60.0 + seed, "few": 30.0 + seed} for seed in range(5)}
    near = {seed: {"top-1": 60.0 + seed + 0.1 * (-1) ** seed, "few": 33.0 + seed + 0.1 * seed} for seed in range(5)}
    lines = equivalence.verdict(
        equivalence.Side("float32", plain), equivalence.Side("bf16", near), "a recipe"
    ).splitlines()
    top1, few = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[-2:])
    assert (top1[0], top1[-1]) == ("top-1", "yes")
    assert (few[0], few[-1]) == ("few", "not shown")  # three points off
    assert few[3].startswith("+3.20")


def test_the_hours_of_a_board(script: Any) -> None:
    """CIFAR-100-LT by its card: 10,847 images, 200 epochs, 40 evaluations of 10,000."""
    hours = script("hours")
    ce, balpoe, ncm = (load_recipe(f"cifar100-lt/{name}") for name in ("ce", "balpoe", "ncm"))
    work = hours.work_of(ce)
    assert (work.images, work.evaluated, work.cost) == (200 * 10_847, 40 * 10_000, 1)
    assert work.pflop == pytest.approx(1e-6 * work.gflop * (3 * 200 * 10_847 + 400_000))
    assert [hours.work_of(one).cost for one in (balpoe, ncm)] == [2.3, 0]
    a_second = hours.speed(1000, "resnet32", None)  # 3 times 1000 forward passes of the same network
    assert a_second == pytest.approx(3e-3 * work.gflop, rel=1e-3)
    *_, last = hours.table([ce], work.pflop / 7200, 3, 2.0)  # two hours a run
    assert last == "\nAll of them with 3 seeds: 6 GPU hours, price 12.00; 6 h on 1, 2 h on 8, 2 h on 64 GPUs"


def test_seeds_that_only_one_side_has_are_left_out(script: Any) -> None:
    equivalence = script("equivalence")
    plain = equivalence.Side("float32", {seed: {"top-1": 60.0} for seed in range(3)})
    other = equivalence.Side("bf16", {seed: {"top-1": 60.5} for seed in range(1, 5)})
    assert "seeds 1, 2;" in equivalence.verdict(plain, other, "a recipe")


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_limit_is_a_rate_of_whole_rounds(script: Any, precision: str) -> None:
    floors = script("floors")
    try:
        rate, unit = floors.limit(precision, tries=1)
    except NoCompilerError as error:
        pytest.skip(f"the loop of products cannot be compiled here: {error}")
    assert rate > 1  # GFLOP/s, of any machine that can run this
    assert precision in unit or "float32" in unit


def test_processes_run_at_once(script: Any) -> None:
    together = script("sharing").together
    assert sorted(together(2, methodcaller("wait"))) == [0, 1]  # the barrier numbers those that have come


@pytest.mark.parametrize("size", [1, 2, 8, 32])
@pytest.mark.parametrize("stride", [1, 2])
def test_taps_are_those_inside_the_image(script: Any, size: int, stride: int) -> None:
    met = F.conv2d(torch.ones(1, 1, size, size), torch.ones(1, 1, 3, 3), stride=stride, padding=1).sum()
    assert script("floors").taps(size, stride) ** 2 == met


@pytest.mark.parametrize("form", ["grouped", "dense"])
def test_one_convolution_for_four_seeds_is_theirs_side_by_side(script: Any, form: str) -> None:
    merged, passes = script("convolutions").merged, script("floors").passes
    images, weights = torch.randn(4, 2, 3, 6, 6).double(), torch.randn(4, 5, 3, 3, 3).double()
    plain = [passes(x, weight, 2) for x, weight in zip(images, weights, strict=True)]
    x, weight, groups = merged(form, images, weights)
    found = passes(x, weight, 2, groups)
    for name in ("forward", "data gradient"):
        torch.testing.assert_close(found[name](), torch.cat([one[name]() for one in plain], 1))
    gradient = found["weight gradient"]()
    if form == "dense":
        gradient = torch.cat([gradient[5 * k : 5 * k + 5, 3 * k : 3 * k + 3] for k in range(4)])
    torch.testing.assert_close(gradient, torch.cat([one["weight gradient"]() for one in plain]))


def test_convolutions_are_those_of_the_network(script: Any) -> None:
    from lt_bench.models.backbones.cifar_resnet import ResNet32

    shapes = []

    def note(conv: torch.nn.Conv2d, inputs: tuple[torch.Tensor]) -> None:
        shapes.append((conv.in_channels, conv.out_channels, inputs[0].shape[-1], conv.stride[0]))

    network = torch.nn.Sequential(ResNet32().trunk(), ResNet32().last_stage())
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(note)
    network(torch.randn(1, 3, 32, 32))
    assert Counter(shapes) == {tuple(shape): times for *shape, times in script("floors").CONVOLUTIONS}


def test_every_convolution_is_timed_and_summed_up_by_how_often_it_stands(script: Any) -> None:
    convolutions = script("convolutions")
    found = convolutions.work(convolutions.Settings("cpu", "float32", 1, 1), 1, Barrier(1))
    assert len(found) == 3 * (6 * 3 - 1)  # three forms, three passes, no gradient of the images
    assert all(ms > 0 for ms in found.values())
    assert len(convolutions.table(found, 1, 1)) == 2 + 3 * 6

    of_two_ms = dict.fromkeys(found, 2.0)
    cells = [cell.strip() for cell in convolutions.step_row(of_two_ms, "grouped", 1, 8).split("|")[1:-1]]
    # 31 convolutions of 3 passes without one, 2 ms each, for 8 processes of 4 seeds
    assert cells[:5] == ["8", "grouped", "32", "92", "184.000"]
    assert cells[-1] == "5.750"


def test_a_backbone_is_told_beside_its_arithmetic(script: Any) -> None:
    backbones = script("backbones")
    backbone, side = backbones.backbone_of("resnet8", None)
    assert side == 32
    network = build_network(backbone, "linear", 100)
    # 3 to 16, two of 16, then to 32 and to 64 channels on half the side each, as He et al. have them; the classifier
    products = 32**2 * 9 * (3 * 16 + 2 * 16**2) + 16**2 * 9 * (16 * 32 + 32**2) + 8**2 * 9 * (32 * 64 + 64**2) + 6400
    assert backbones.forward_gflop(network, side) == pytest.approx(2e-9 * products)
    runtime, clock = Runtime(torch.device("cpu"), "float32"), backbones.CLOCKS["wall"]
    assert backbones.step_seconds(network, side, 2, runtime, 1, clock) > 0
    row = backbones.row("resnet8", side, 2, network, 1.0, lambda *_: 0.25)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:3] == ["resnet8", "32x32", "2"]
    assert float(cells[4]) == pytest.approx(3 * 2 * 2e-9 * products, rel=1e-3)
    assert cells[5] == "8"  # images/s
    assert float(cells[6]) == pytest.approx(float(cells[4]) / 0.25, rel=1e-3)


def test_backbones_are_measured_on_the_images_that_they_are_made_for(script: Any) -> None:
    backbone_of = script("backbones").backbone_of
    assert [backbone_of(name, None)[1] for name in ("wrn-28-8", "vit-tiny", "resnet50", "nexception-t")] == [
        *(32, 32, 224, 224)
    ]
    with pytest.raises(UserError, match="up to 64 pixels, found 224"):
        backbone_of("wrn-28-8", 224)


def test_a_step_is_timed_in_the_loop_that_trains(script: Any, working_folder: Path) -> None:
    one = script("train_step").Ours(
        "digits-lt/mixup", Options(work=working_folder, records=working_folder, device="cpu")
    )
    assert one.steps(2) > 0
    shares = one.shares()
    assert all(share > 0 for share in shares.values())
    assert sum(shares.values()) <= 1.01


def test_recipes_are_timed_with_overrides_and_against_the_first(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, asked = script("train_step").main, "mixup 'mix.alpha=0.2' protocol.batch_size=64"
    short = ["--setting", "digits-lt", "--device", "cpu", "--rounds", "1", "--steps", "1", "--clock", "processor"]
    monkeypatch.setattr(sys, "argv", ["train_step.py", *short, "--no-reference", asked, "ce"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("time of the processor")
    assert f"step time against {asked}" in lines[2]
    assert [line.split("|")[1].strip() for line in lines[4:]] == [asked, "ce"]
    monkeypatch.setattr(sys, "argv", ["train_step.py", *short, "ce"])
    with pytest.raises(SystemExit):
        main()
    assert "--clock processor: with --no-reference" in capsys.readouterr().err


def test_every_regulariser_is_timed_in_a_network_that_has_a_place_for_it(script: Any) -> None:
    regularised = script("train_step").regularised
    assert {"ce", *members("regularise")} - set(regularised("digits-lt", None)) == {"shake-shake"}
    assert {"ce", *members("regularise")} == set(regularised("digits-lt", "shake-shake-26-2x32d"))


def test_every_augmentation_is_timed(script: Any) -> None:
    lines = list(script("backbones").augmentation_table("digits-lt/ce", None, 64, 1, perf_counter))
    speeds = [float(line.split("|")[2]) for line in "\n".join(lines).splitlines() if line.startswith("| and ")]
    assert len(speeds) == len(members("augment"))
    assert min(speeds) > 0
