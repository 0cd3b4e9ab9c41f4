"""The board's page as it is written: what is in it, and what cannot be."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records_factory import add_record, make_record

from lt_bench.leaderboard import build, load_record
from lt_bench.leaderboard.board import render
from lt_bench.leaderboard.evidence import MOST_POINTS, Evidence, families
from lt_bench.leaderboard.page import SCRIPTS, WEB

SHIPPED = Path(__file__).parents[2] / "leaderboard" / "v1"
EVIL = "</script><script>alert(1)</script>"


def page(records: Path) -> str:
    return render(records)["index.html"].decode()


def data(text: str) -> dict[str, Any]:
    return json.loads(_data(text))


def _data(text: str) -> str:
    (found,) = re.findall('<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return found


def counts(text: str) -> list[int]:
    return np.frombuffer(base64.b64decode(text), "<u2").tolist()


def test_no_text_of_a_record_ends_an_element(tmp_path: Path) -> None:
    names = [EVIL, "@SCRIPT@", "<!--", "&lt;", "\u2028", "javascript:alert(1)"]
    figures = [{"paper": EVIL, "protocol": "cifar-30ep", "top1": 50.0}, "none", {"top1": "NaN", "many": 10**400}]
    add_record(tmp_path, recipe_name=EVIL, reported=figures, dataset={"name": "<b>", "class_names": names})
    text = page(tmp_path)
    assert "<" not in _data(text)
    assert len(re.findall("</script", text)) == 2
    found = data(text)
    assert found["rows"][0]["method"] == EVIL
    assert found["classes"][0]["names"] == [name.replace("\u2028", " ") for name in names]
    assert [(figure["top1"], figure["many"]) for figure in found["rows"][0]["figures"]] == [(50.0, None), (None, None)]


def test_the_policy_lets_in_this_style_and_this_script_alone(tmp_path: Path) -> None:
    add_record(tmp_path)
    text = page(tmp_path)
    (policy,) = re.findall('Content-Security-Policy" content="(.*?)"', text, re.DOTALL)
    parts = [re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("style", "script")]
    for name, (part,) in zip(("style-src", "script-src"), parts, strict=True):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert not re.search("@[A-Z_0-9]+@", text)  # no mark of the template is left


def test_scripts_are_all_there_and_none_speaks_of_html() -> None:
    texts = {path.stem: path.read_text() for path in WEB.glob("*.js")}
    assert sorted(texts) == sorted(SCRIPTS)
    for name, text in texts.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|\bfetch\b|</", text), name
        assert len(text.splitlines()) <= 400
        assert max(map(len, text.splitlines())) <= 120


def test_the_page_is_small_beside_its_data() -> None:
    text = page(SHIPPED / "records")
    assert len(text) - len(_data(text)) < 150_000
    found = data(text)
    runs = sum(len(row["runs"]) for row in found["rows"])
    assert len(_data(text)) < 1500 * runs


def test_a_run_in_the_page_is_its_record(tmp_path: Path) -> None:
    paths = [
        add_record(tmp_path / "records", seed=seed, correct=correct)
        for seed, correct in enumerate([(9, 8, 7, 6, 5, 4), (10, 8, 7, 6, 5, 0)])
    ]
    build(tmp_path / "records", tmp_path)
    found = data((tmp_path / "index.html").read_text())
    (row,) = found["rows"]
    for path, run in zip(paths, row["runs"], strict=True):
        record = load_record(path)
        assert tmp_path / found["folders"][run["folder"]]["link"] / run["file"] == path
        assert counts(run["correct"]) == list(record.selections["last"].correct)
        assert (run["seed"], run["seconds"]) == (str(record.seed), 12.5)
        assert found["made"][run["made"]]["torch"] == record.environment.torch
    assert row["bins"][0] == [0] * 11 + [120, 0, 0, 0]
    assert (row["bins"][1][11], row["bins"][2][11]) == (75, 0.75)
    assert row["accuracy"] == [[30], [pytest.approx(62.5)]]
    assert row["loss"][0] == list(range(1, 31))


def test_records_elsewhere_are_named_and_not_linked(tmp_path: Path) -> None:
    add_record(tmp_path / "records")
    build(tmp_path / "records", tmp_path / "out")
    (folder,) = data((tmp_path / "out" / "index.html").read_text())["folders"]
    assert folder == {"path": "tiny-lt-if500/cifar-30ep/ce", "link": None}
    assert str(tmp_path) not in (tmp_path / "out" / "index.html").read_text()


def test_long_loss_curves_are_thinned_to_their_last_epoch() -> None:
    record = make_record()
    epochs = tuple(range(400))
    curve = record.curve.model_copy(
        update={"epoch": epochs, "train_loss": tuple(map(float, epochs)), "test_top1": (None,) * 400}
    )
    found = Evidence.of(record.model_copy(update={"curve": curve}))
    assert len(found.loss.epoch) == MOST_POINTS
    assert (found.loss.epoch[-1], found.loss.value[-1]) == (400, 399.0)
    assert len(found.accuracy.epoch) == 0


PHASE = {"sampler": {"name": "instance"}, "mix": {"name": "none"}, "loss": {"name": "cross-entropy", "weights": None}}


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"phases": [PHASE], "method": {"name": "standard"}}, ("baseline",)),
        ({}, ("baseline",)),
        ({"phases": [PHASE, PHASE | {"loss": {"name": "cross-entropy", "weights": {"name": "inverse"}}}]}, ("loss",)),
        ({"phases": [PHASE | {"mix": {"name": "cmo"}, "loss": {"name": "ldam"}}]}, ("mix", "loss")),
        ({"phases": [PHASE], "method": {"name": "bbn"}, "second_stage": {"stage": {}}}, ("method", "stage")),
        ({"phases": [PHASE | {"sampler": {"name": "balanced"}}], "augment": {"cutout": {}}}, ("sampler", "augment")),
    ],
)
def test_families_of_a_recipe(recipe: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert families(recipe) == expected
