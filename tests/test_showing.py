"""A recipe as `show` prints it: it says where values come from, and is the recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from recipe_cases import SHIPPED
from run_cases import refused

from lt_bench.errors import UserError
from lt_bench.leaderboard.record import load_record
from lt_bench.recipe import load_recipe
from lt_bench.recipe.showing import copy, show

LtBench = Callable[..., Any]
RECORDS = Path(__file__).parents[1] / "leaderboard" / "v1" / "records"
OVERRIDES = ["data.factor=50", "protocol=cifar-30ep", "second_stage.epochs=5"]


def sources(text: str) -> dict[str, str]:
    """What stands behind the values, by their last key; of equal keys the last."""
    lines = [line.split("  # ") for line in text.splitlines() if "  # " in line]
    return {value.strip().partition(":")[0]: source.strip() for value, source in lines}


@pytest.mark.parametrize("name", SHIPPED[::6])
def test_what_is_shown_is_the_recipe(name: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(show(name), encoding="utf-8")
    assert load_recipe(path) == load_recipe(name)


def test_every_value_says_where_it_comes_from() -> None:
    found = sources(show("cifar10-lt/mislas", OVERRIDES))
    assert found["nesterov"] == "recipes/protocols/cifar-30ep.yaml"
    assert found["backbone"] == "recipes/settings/cifar10-lt.yaml"
    assert found["alpha"] == "recipes/mixup.yaml"
    assert found["epsilon_head"] == "recipes/mislas.yaml, on cifar10-lt, factor 50"
    assert found["epsilon_tail"] == "recipes/mislas.yaml, on cifar10-lt, digits-lt"
    assert found["factor"] == "override data.factor=50"
    assert found["n_max"] == "card of the data set"
    assert found["cutout"] == "default"
    assert "second_stage.epochs=5" in show("cifar10-lt/mislas", OVERRIDES)


def test_a_word_in_place_of_a_mapping_is_a_source(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    override = f"mix.pictures={tmp_path}"
    assert sources(show("digits-lt/pixmix", [override]))["folder"] == f"override {override}"
    (tmp_path / "w").write_bytes(b"weights")
    override = f"mix.teacher={tmp_path / 'w'}"
    assert any(
        line.split() == ["weights:", str(tmp_path / "w"), "#", "override", override]
        for line in show("digits-lt/attentive-cutmix", [override]).splitlines()
    )
    assert sources(show("digits-lt/ce", ["mix=mixup"]))["alpha"] == "default"
    assert sources(show("digits-lt/ce", ["loss=cross-entropy"]))["weights"] == "default"  # of the loss


def test_a_phase_goes_over_the_top_level() -> None:
    text = show("digits-lt/ce-drw", ["loss.weights=inverse-frequency"])
    weights = [line for line in text.splitlines() if "name: inverse-frequency" in line or "name: effective" in line]
    sources = [line.split("  # ")[1] for line in weights]
    assert sources == ["override loss.weights=inverse-frequency", "recipes/ce-drw.yaml"]


def test_a_resolved_recipe_is_run_as_it_is(lt_bench: LtBench, working_folder: Path) -> None:
    shown = lt_bench("show", "digits-lt/crt")
    (working_folder / "crt.yaml").write_text(shown.out, encoding="utf-8")
    valid = lt_bench("validate", "crt.yaml", "digits-lt/crt").out.splitlines()
    assert len({line.split(": ")[1] for line in valid}) == 1
    refused = lt_bench("validate", "crt.yaml", "data.factor=5")
    assert (refused.code, "is a resolved recipe, to be run as it is" in refused.err) == (2, True)


def test_what_a_dry_run_prints_is_a_recipe_to_every_command(lt_bench: LtBench, working_folder: Path) -> None:
    (working_folder / "saved.json").write_text(json.dumps(load_recipe("digits-lt/crt").resolved()), encoding="utf-8")
    valid = lt_bench("validate", "saved.json", "digits-lt/crt").out.splitlines()
    assert len({line.split(": ")[1] for line in valid}) == 1
    assert lt_bench("show", "saved.json").out.startswith("# saved.json, recipe sha256 ")
    assert lt_bench("cite", "saved.json").out == lt_bench("cite", "digits-lt/crt").out
    assert lt_bench("run", "saved.json", "--try").code == 0
    (working_folder / "broken.json").write_text('{"name": ', encoding="utf-8")
    refused = lt_bench("validate", "broken.json")
    assert (refused.code, refused.err.startswith("lt-bench: broken.json: record: Invalid JSON")) == (2, True)


def test_records_and_patterns_are_validated_as_they_are_run(lt_bench: LtBench) -> None:
    record = next((RECORDS / "digits-lt-if20" / "digits-demo" / "mislas").glob("seed0-*.json"))
    valid = lt_bench("validate", record, "digits-lt/mislas", "digits*/mislas").out.splitlines()
    assert valid[1] == valid[2]
    assert [line.split(": valid")[0] for line in valid] == [str(record), "digits-lt/mislas", "digits-lt/mislas"]
    assert "mix.pictures: pixmix mixes with pictures of no class" in lt_bench("validate", "digits-lt/pixmix").err


def test_a_resolved_recipe_keeps_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(show("digits-lt/ce").replace("milestones: [12, 14]", "milestones: [12, 40]"), encoding="utf-8")
    with pytest.raises(UserError, match="40 lies behind the 15 epochs"):
        load_recipe(path)
    path.write_text(show("digits-lt/ce").replace("    name: linear", "    nome: linear"), encoding="utf-8")
    with pytest.raises(UserError, match=r"model\.head: expected the name of a component in it"):
        load_recipe(path)
    path.write_text(show("digits-lt/ce").replace("  name: standard", "  name: [standard]"), encoding="utf-8")
    with pytest.raises(UserError, match="method: expected the name of a component in it"):
        load_recipe(path)
    path.write_text(show("digits-lt/ce").replace("plugins: {}", f"plugins: {{mix/mine: {'0' * 64}}}"), encoding="utf-8")
    with pytest.raises(UserError, match="plugins: mix/mine is of another file than the plug-in here"):
        load_recipe(path)


def test_a_record_is_shown_as_the_recipe_that_repeats_it(lt_bench: LtBench, working_folder: Path) -> None:
    record = next((RECORDS / "digits-lt-if20" / "digits-demo" / "mislas").glob("seed0-*.json"))
    shown = lt_bench("show", record)
    assert shown.code == 0, shown.err
    assert set(sources(shown.out).values()) == {"from: record"}
    (working_folder / "again.yaml").write_text(shown.out, encoding="utf-8")
    assert load_recipe("again.yaml").sha256() == load_record(record).recipe_sha256
    refused = lt_bench("show", record, "mix.alpha=2")
    assert (refused.code, "a record is repeated as it was, without mix.alpha=2" in refused.err) == (2, True)
    (working_folder / "no.json").write_text("{}")
    refused = lt_bench("show", "no.json")
    assert (refused.code, refused.out, refused.err.startswith("lt-bench: no.json: ")) == (2, "", True)


@pytest.mark.parametrize(
    "overrides", [[], ["loss.label_smoothing=0.1", "protocol.optimizer.name=adamw", "data.noise=null"]]
)
def test_another_recipe_is_not_called_as_one_that_ships(tmp_path: Path, overrides: list[str]) -> None:
    shown = show("digits-lt/balanced-softmax", overrides)
    path = tmp_path / "mine.yaml"
    path.write_text(shown, encoding="utf-8")
    assert load_recipe(path).name == "balanced-softmax"
    path.write_text(shown.replace("weights: null", "weights: inverse-frequency"), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"mine\.yaml: is called balanced-softmax, which is a shipped method and another"
    ):
        load_recipe(path)
    path.write_text(
        re.sub(
            "label_smoothing: [0-9.]+", "label_smoothing: 0.3", shown.replace("name: balanced", "name: my-balanced", 1)
        )
    )
    assert load_recipe(path).name == "my-balanced-softmax"


def test_a_shown_recipe_of_a_setting_of_ones_own_is_run(lt_bench: LtBench, working_folder: Path) -> None:
    Path("deep").mkdir()
    Path("deep/setting.yaml").write_text(
        "protocol: cifar-30ep\ndata: {name: cifar100-lt, factor: 50}\nmodel: {backbone: resnet56}\n"
    )
    Path("shown.yaml").write_text(lt_bench("show", "deep/ldam-drw").out)
    assert load_recipe("shown.yaml") == load_recipe("deep/ldam-drw")


def test_what_is_refused_for_its_name_can_be_copied(lt_bench: LtBench, working_folder: Path) -> None:
    Path("ce.yaml").write_text("extends: digits-lt/ce\nloss: focal\n")
    refused(lt_bench("validate", "./ce.yaml"), "ce.yaml: is called ce")
    assert lt_bench("cp", "./ce.yaml", "mine.yaml").code == 0
    assert load_recipe("mine.yaml").phases[0].loss["name"] == "focal"


def test_a_file_called_as_a_shipped_method_has_to_be_it(tmp_path: Path) -> None:
    path = tmp_path / "ce.yaml"
    path.write_text("extends: digits-lt/ce\ndata: {factor: 4}\n")
    assert load_recipe(path).sha256() == load_recipe("digits-lt/ce", ["data.factor=4"]).sha256()
    path.write_text("extends: digits-lt/ce\nloss: focal\n")
    with pytest.raises(UserError, match="is called ce, which is a shipped method and another; give yours a name of"):
        load_recipe(path)


@pytest.mark.parametrize("name", [*SHIPPED[1::9], "cifar100-lt/mislas"])
def test_a_copy_is_the_same_recipe_under_a_name_of_its_own(name: str, tmp_path: Path) -> None:
    copy(name, tmp_path / "my.yaml", ["protocol.batch_size=48"])
    mine, theirs = load_recipe(tmp_path / "my.yaml"), load_recipe(name, ["protocol.batch_size=48"])
    assert (mine.sha256(), mine.name, mine.reported) == (theirs.sha256(), "my", ())
    first, their_first = mine.first(), theirs.first()
    if first is not None and their_first is not None:
        assert (first.sha256(), first.name, first.reported) == (their_first.sha256(), "my-first-stage", ())
    assert "batch_size: 48" in (tmp_path / "my.yaml").read_text(encoding="utf-8")


def test_a_copy_is_there_to_change(lt_bench: LtBench, working_folder: Path) -> None:
    done = lt_bench("cp", "digits-lt/balanced-softmax", "my.yaml")
    assert (done.code, "change it, then lt-bench run my.yaml" in done.out) == (0, True)
    path = working_folder / "my.yaml"
    text = path.read_text(encoding="utf-8")
    assert re.search(r"name: balanced-softmax +# recipes/balanced-softmax.yaml", text)
    path.write_text(text.replace("batch_size: 32", "batch_size: 16"), encoding="utf-8")
    assert load_recipe("my.yaml").protocol.batch_size == 16
    again = lt_bench("cp", "digits-lt/ce", "my.yaml")
    assert (again.code, again.err) == (2, "lt-bench: my.yaml: exists already; --force overwrites it\n")
    folder = lt_bench("cp", "digits-lt/ce", ".", "--force")
    assert (folder.code, folder.err) == (2, "lt-bench: .: is a folder; name the file to write, such as ce.yaml\n")
    assert lt_bench("cp", "digits-lt/ce", "my.yaml", "data.factor=5", "--force").code == 0
    assert load_recipe("my.yaml").data.factor == 5
    for arguments, said in (
        (("cp", "digits-lt/ce", "nowhere/my.yaml"), "nowhere/my.yaml: cannot be written: No such file"),
        (("cp", "digits-lt/ce", "other.yaml", "digits-lt/ldam"), "digits-lt/ldam: expected RECIPE FILE and then"),
        (("cp", "digits-lt/ce", "a\tb.yaml"), "name: "),
    ):
        refused(lt_bench(*arguments), said)
    assert [file.name for file in working_folder.glob("*.yaml")] == ["my.yaml"]


def test_what_another_component_replaced_is_no_source() -> None:
    """Of the optimizer and the schedule that the setting's protocol says nothing is left."""
    found = sources(show("cifar10-lt/ce", ["protocol.optimizer.name=adamw", "protocol.schedule={name: cosine}"]))
    assert found["lr"] == found["weight_decay"] == found["milestones"] == "default"
    assert found["evaluate_every"] == "recipes/protocols/cifar-200ep.yaml"
    assert sources(show("cifar10-lt/ce", ["protocol=cifar-400ep-aa"]))["milestones"] == "default"
