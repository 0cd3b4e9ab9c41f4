"""What a command line makes of itself: the recipes that `*` stands for, and each value of a grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from run_cases import TINY, refused

from lt_bench.errors import UserError
from lt_bench.recipe import load_recipe
from lt_bench.sweep import Sweep
from lt_bench.sweep.grid import points
from lt_bench.training.options import Options
from lt_bench.yaml_files import pieces


def test_a_star_stands_for_all_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    planned = Sweep.plan(["imagenet-mini/dbn-mix*"], None, Options(), usual=(3,))
    found = [recipe.name for recipe in planned.recipes]
    assert {"dbn-mix", "dbn-mix-reverse"} <= set(found)
    assert "dbn-mix-own-protocol" not in found
    assert planned.seeds == ((3,),) * len(found)
    assert "imagenet-mini/dbn-mix-own-protocol: left out: " in capsys.readouterr().err
    with pytest.raises(UserError, match="no method is like that"):
        Sweep.plan(["digit/*"], None, Options())
    with pytest.raises(UserError, match=r"none of 3 fits, the first: .*did you mean protocol"):
        Sweep.plan(["digits-lt/ce*", "protocl.epochs=1"], None, Options())


def test_what_needs_a_file_that_is_not_given_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    planned = Sweep.plan(["digits-lt/t*mix*", "digits-lt/cutmix"], None, Options())
    assert [recipe.name for recipe in planned.recipes] == ["trades-cutmix-wa", "transmix", "cutmix"]
    told = capsys.readouterr().err
    assert told.startswith("digits-lt/tokenmix: left out: digits-lt/tokenmix: mix.teacher: ")
    by_area = Sweep.plan(["digits-lt/tokenmix*", "mix.labels=area"], None, Options())
    assert [recipe.name for recipe in by_area.recipes] == ["tokenmix"]
    with pytest.raises(UserError, match=r"digits-lt/tokenmix: mix\.teacher: .*mix\.labels=area"):
        Sweep.plan(["digits-lt/ce", "digits-lt/tokenmix"], None, Options())


def test_every_value_with_every_other() -> None:
    assert points(["mix.alpha=0.2, 1e-1", "loss=focal,{name: ldam, scale: 20}"]) == [
        ("mix.alpha=0.2", "loss=focal"),
        ("mix.alpha=0.2", "loss={name: ldam, scale: 20}"),
        ("mix.alpha=1e-1", "loss=focal"),
        ("mix.alpha=1e-1", "loss={name: ldam, scale: 20}"),
    ]
    assert points([]) == [()]


values = st.none() | st.booleans() | st.integers(-99, 99) | st.text(st.characters(codec="ascii"), max_size=8)


@given(st.lists(values | st.lists(values, max_size=3), min_size=1, max_size=4))
def test_any_values(listed: list[Any]) -> None:
    text = yaml.safe_dump(listed, default_flow_style=True, width=10_000).strip()
    assert [yaml.safe_load(piece) for piece in pieces(text[1:-1], "here")] == listed


def test_each_recipe_has_each_value_and_a_title_of_its_own() -> None:
    planned = Sweep.plan(["digits-lt/ce", "digits-lt/mixup"], (3,), Options(), grid=["protocol.optimizer.lr=0.1,0.2"])
    assert [title for title, _, _ in planned.runs()] == [
        f"digits-lt/{name} digits-demo protocol.optimizer.lr={rate} seed 3"
        for name in ("ce", "mixup")
        for rate in (0.1, 0.2)
    ]
    assert [recipe.protocol.optimizer.lr for _, recipe, _ in planned.runs()] == [0.1, 0.2] * 2


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (["mix"], "--grid 'mix': expected KEY=V1,V2"),
        (["mix="], "--grid 'mix=': expected KEY=V1,V2"),
        (["=1"], "--grid '=1': expected KEY=V1,V2"),
        (["mix=cutmix,cutmix"], "--grid mix: has cutmix twice"),
        (["mix=mixup", "mix=cutmix"], "--grid mix: is given twice"),
        (["protocol.epochs=1,2"], "--grid protocol.epochs: is given as an override too"),
        (["mix=["], "--grid mix:1: not readable YAML"),
        (["mix=cutmix #"], "--grid mix:1: not readable YAML"),
        (["mix=a], [b"], "--grid mix:1: not readable YAML"),
        (["mix=cutmix,mixupp"], "did you mean mixup?"),
        (["name=a"], "'name' is not a known field of a recipe"),
    ],
)
def test_grids_that_are_none(lt_bench: Callable[..., Any], working_folder: Path, grid: list[str], message: str) -> None:
    asked = [word for one in grid for word in ("--grid", one)]
    refused(lt_bench("sweep", "digits-lt/ce", "protocol.epochs=3", *asked), message)
    assert not list(working_folder.iterdir())


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_data_that_cannot_be_opened_is_told_before_anything_is_trained(
    lt_bench: Callable[..., Any], working_folder: Path, command: str
) -> None:
    (working_folder / "much.yaml").write_text("extends: digits-lt/ce\ndata: {validation_per_class: 900}\n")
    done = lt_bench(command, "digits-lt/ce", "much.yaml", *TINY, "--seeds", "0", "--device", "cpu")
    assert done.code == 2
    said = "unused training images, 900 are asked for"
    trained = [path.parent.name for path in working_folder.rglob("seed*.json")]
    if command == "run":  # which ends with its first failure
        assert (said in done.err, trained, done.out) == (True, [], "")
    else:
        first, second = done.out.splitlines()
        assert first.startswith("digits-lt/much digits-demo seed 0: failed: ")
        assert (said in first, "digits-lt/ce" in second, trained) == (True, True, ["ce"])
        assert done.err.endswith("1 of 2 runs failed: digits-lt/much digits-demo seed 0\n")


@pytest.mark.usefixtures("tiny_backbone")
def test_a_run_of_the_same_title_as_a_refused_one_is_made(lt_bench: Callable[..., Any], working_folder: Path) -> None:
    for folder, held_out in (("a", 900), ("b", 1)):
        (working_folder / folder).mkdir()
        text = f"extends: digits-lt/ce\ndata: {{validation_per_class: {held_out}}}\n"
        (working_folder / folder / "mine.yaml").write_text(text)
    done = lt_bench("sweep", "a/mine.yaml", "b/mine.yaml", *TINY, "--seeds", "0", "--device", "cpu")
    assert (done.code, len(done.out.splitlines())) == (2, 2)
    assert len([*working_folder.rglob("seed*.json")]) == 1


def test_a_factor_that_empties_a_class_is_refused_with_the_recipe() -> None:
    with pytest.raises(
        UserError, match=r"data\.factor: 501 leaves the smallest class no image where the largest has 500"
    ):
        load_recipe("cifar100-lt/ce", ["data.factor=501"])
    assert load_recipe("cifar100-lt/ce", ["data.factor=500"]).data.factor == 500
