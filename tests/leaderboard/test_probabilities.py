"""An ECE is told only of scores that are probabilities, which the components and the board say alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from records_factory import add_record

from lt_bench.leaderboard import build
from lt_bench.leaderboard.probabilities import LOSSES, STAGES, are_probabilities
from lt_bench.recipe import load_recipe
from lt_bench.registry import members


def test_stages_say_what_the_board_says() -> None:
    assert {name for name, stage in members("stage").items() if not stage.scores_are_probabilities} == STAGES


def test_losses_say_what_the_board_says() -> None:
    for name, loss in members("loss").items():
        field = loss.Config.model_fields.get("form")
        forms = [None] if field is None else field.annotation.__args__
        for form in forms:
            config = loss.Config() if form is None else loss.Config(form=form)
            resolved = {"phases": [{"loss": {"name": name, "form": form}}]}
            assert loss.gives_probabilities(config) == are_probabilities(resolved), (name, form)
    assert set(LOSSES) <= set(members("loss"))


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("digits-lt/ce", (), True),
        ("digits-lt/ncm", (), False),
        ("digits-lt/max-norm", (), False),
        ("digits-lt/class-balanced", (), True),
        ("digits-lt/class-balanced-focal", (), False),
        ("digits-lt/class-balanced-focal", ("second_stage=crt",), True),  # cross entropy trains it anew
        ("digits-lt/class-balanced-focal", ("second_stage=post-hoc",), False),  # nothing trains it anew
    ],
)
def test_what_counts_is_what_trained_the_classifier_last(name: str, overrides: tuple[str, ...], expected: bool) -> None:
    assert are_probabilities(load_recipe(name, overrides).resolved()) is expected


def test_a_table_leaves_the_cell_empty_and_says_why(tmp_path: Path) -> None:
    add_record(tmp_path / "records", recipe_name="ce")
    sigmoids = {"phases": [{"loss": {"name": "sigmoid-focal"}}]}
    add_record(tmp_path / "records", recipe_name="focal", recipe=sigmoids)
    build(tmp_path / "records", tmp_path / "board")
    (page,) = (tmp_path / "board").rglob("tables/*.md")
    head, _, *rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    column = [cell.strip(" ↓") for cell in head.split("|")].index("ECE")
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    found = {re.sub(r"^\[(.*)\]\(.*\)$", r"\1", row[2]): row[column] for row in cells}
    assert found == {"ce": "10.00", "focal": ""}
    assert "- No ECE of focal: " in page.read_text()
