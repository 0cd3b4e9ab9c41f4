"""The gallery: what is drawn is what a mix gave the network, with the labels that it trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lt_bench.errors import UserError
from lt_bench.gallery import mixture
from lt_bench.recipe import load_recipe

LtBench = Callable[..., Any]
MIXES = [
    *("cutmix", "ricap", "manifold-mixup", "mixupe", "soft-augmentation", "cmo", "decouple-mix", "guided-mixup"),
    *("adautomix", "sumix", "gridmixup", "noisy-feature-mixup"),
]


@pytest.mark.parametrize("name", MIXES)
def test_images_and_labels_are_those_of_the_mix(name: str, tmp_path: Path) -> None:
    shown = mixture(load_recipe(f"digits-lt/{name}"), 6, 0, None, tmp_path)
    assert shown.originals.shape == shown.images.shape == (6, 3, 32, 32)
    for pixels in (shown.originals, shown.images):
        assert ((pixels >= 0) & (pixels <= 1)).all()
    if name != "manifold-mixup":  # which may mix what the network makes of them
        assert not torch.equal(shown.originals, shown.images)
    assert shown.targets.shape == (6, 10)
    if name != "soft-augmentation":
        torch.testing.assert_close(shown.targets.sum(1), torch.ones(6))
    assert (shown.targets > 0.02).sum(1).max() > 1


@pytest.mark.parametrize("name", ["augmix", "sample-pairing"])
def test_what_changes_no_label_shows_that_of_the_image(name: str, tmp_path: Path) -> None:
    shown = mixture(load_recipe(f"digits-lt/{name}"), 6, 0, None, tmp_path)
    assert not torch.equal(shown.originals, shown.images)
    assert (shown.targets.max(1).values == 1).all()


def test_of_images_that_are_mixed_in_areas_the_labels_are_the_areas(tmp_path: Path) -> None:
    shown = mixture(load_recipe("digits-lt/cutmix", ["mix.probability=1"]), 8, 1, None, tmp_path)
    kept = (shown.originals == shown.images).all(1).float().mean((1, 2))
    own = shown.targets.gather(1, torch.arange(8).mul(9).div(7).round().long()[:, None])[:, 0]
    assert (kept >= own - 1e-6).all()  # some pixels of the box are alike in both
    assert (own < 1).any()


def test_a_recipe_that_mixes_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it mixes nothing"):
        mixture(load_recipe("digits-lt/ce"), 4, 0, None, tmp_path)
    with pytest.raises(UserError, match="mixed none of 200 batches"):
        mixture(load_recipe("digits-lt/cutmix", ["mix.probability=0"]), 4, 0, None, tmp_path)


def test_the_command_draws(working_folder: Path, lt_bench: LtBench) -> None:
    done = lt_bench("gallery", "digits-lt/tokenmix", "mix.labels=area", "--images", "3", "--out", "mixed.png")
    assert (done.code, done.out) == (0, "mixed.png: 3 images before and after tokenmix\n")
    assert Path("mixed.png").stat().st_size > 2000
    refused = lt_bench("gallery", "digits-lt/tokenmix")
    assert refused.code == 2
    assert "mix.teacher" in refused.err
