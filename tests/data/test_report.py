from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lt_bench.data import DataSpec, Split, describe, draw_class_sizes, open_split, verify
from lt_bench.data.cards import Known
from lt_bench.errors import UserError


@pytest.fixture
def split(cache: Path) -> Split:
    return open_split(DataSpec(name="digits-lt", validation_per_class=4))


def knowing(split: Split, **known: object) -> Split:
    facts = Known.model_validate({"profile": "exponential", "factor": 20.0, "total": 369, **known})
    return replace(split, card=split.card.model_copy(update={"known": (facts,)}))


def test_describe_is_plain_and_complete(split: Split) -> None:
    facts = describe(split)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["counts"] == [110, 78, 56, 40, 29, 20, 14, 10, 7, 5]
    assert facts["groups"] == {"many": 1, "medium": 5, "few": 4}
    assert (facts["total"], facts["validation"], facts["test"]) == (369, 40, 600)
    assert (facts["factor"], facts["profile"], facts["subset_seed"]) == (20.0, "exponential", 0)
    assert facts["digest"] == split.digest
    assert facts["matches_card"] is True


def test_verify_compares_with_the_card(split: Split) -> None:
    assert verify(split) == ("total", "index_sha256")
    assert verify(open_split(DataSpec(name="digits-lt", factor=7.0))) == ()
    right = knowing(split, index_sha256=split.index_sha256)
    verify(right)
    assert describe(right)["matches_card"] is True
    wrong = knowing(split, index_sha256="0" * 64)
    assert describe(wrong)["matches_card"] is False
    with pytest.raises(UserError, match="index_sha256 of digits-lt is"):
        verify(wrong)
    with pytest.raises(UserError, match="total of digits-lt is 369, its card says 370"):
        verify(knowing(split, total=370))


def test_the_card_speaks_of_seed_0_and_its_own_head_only(cache: Path) -> None:
    for change in ({"subset_seed": 1}, {"n_max": 90}):
        other = open_split(DataSpec.model_validate({"name": "digits-lt", **change}))
        assert knowing(other, index_sha256="0" * 64).expected is None


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_class_size_curve_is_drawn(split: Split, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sizes.{suffix}"
    draw_class_sizes(split, path)
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"%PDF-", b"<?xml")


@pytest.mark.parametrize("name", ["sizes.txt", "file/sizes.png"])
def test_a_figure_that_cannot_be_written_is_an_error_in_one_line(split: Split, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the figure cannot be written") as error:
        draw_class_sizes(split, tmp_path / name)
    assert "\n" not in str(error.value)
