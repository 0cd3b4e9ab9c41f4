"""SamplePairing: what is averaged, under which label, and in which epochs."""

from __future__ import annotations

import pytest
import torch
from mix_cases import batch_of, build, step_at

from lt_bench.data.types import Batch
from lt_bench.errors import UserError
from lt_bench.mixing.sample_pairing import SamplePairing
from lt_bench.recipe import load_recipe


def paired_epochs(total: int, **settings: float) -> list[int]:
    config = SamplePairing.Config.model_validate(settings)
    return [epoch for epoch in range(total) if SamplePairing.pairs(config, epoch, total)]


def test_the_mean_of_two_images_has_the_label_of_the_first() -> None:
    batch, partner = batch_of(0), batch_of(1)
    mixed = build("sample-pairing")(batch, partner, step_at(30))
    torch.testing.assert_close(mixed.images, (batch.images + partner.images) / 2)
    assert mixed.terms == ((batch.labels, 1.0),)
    images = build("sample-pairing")(batch, None, step_at(30)).images
    pairs = {tuple((batch.images[i] + other).flatten().tolist()) for i in range(4) for other in batch.images}
    assert all(tuple((2 * image).flatten().tolist()) in pairs for image in images)


def test_epochs_of_pairs_are_those_of_a_thousand() -> None:
    found = paired_epochs(1000)
    assert found[:9] == [*range(100, 108), 110]
    assert found[-1] == 797
    assert len(found) == 560


def test_short_trainings_begin_and_end_without_pairs() -> None:
    assert paired_epochs(30) == [*range(3, 11), *range(13, 21), 23]
    assert paired_epochs(10, on=1, off=1) == [1, 3, 5, 7]
    assert paired_epochs(10, off=0, end=1.0) == list(range(1, 10))
    for epoch, changed in ((2, False), (3, True), (11, False), (24, False)):
        batch: Batch = batch_of()
        images = build("sample-pairing")(batch, batch_of(1), step_at(epoch, 30)).images
        assert torch.equal(images, batch.images) != changed


def test_a_dry_run_tries_an_epoch_of_each_kind() -> None:
    config = SamplePairing.Config()
    assert SamplePairing.turns(config, range(30), 30) == {3, 11, 13, 21, 23, 24}


def test_settings_that_leave_no_epoch_are_refused() -> None:
    with pytest.raises(UserError, match=r"start 0\.8 does not come before end 0\.2"):
        load_recipe("digits-lt/sample-pairing", ["mix.start=0.8", "mix.end=0.2"])
    alone = ["phases=[{until: 11, mix: none}, {until: 13}, {until: 100%, mix: none}]", "protocol.epochs=30"]
    with pytest.raises(UserError, match="would pair images in none of the epochs 11 to 12 of 30"):
        load_recipe("digits-lt/sample-pairing", alone)
    with pytest.raises(UserError, match=r"would pair images in none of the epochs 0 to 3 of 4 \(from 0\.9 until 1\.0"):
        load_recipe("digits-lt/sample-pairing", ["mix.start=0.9", "mix.end=1.0", "protocol.epochs=4"])
