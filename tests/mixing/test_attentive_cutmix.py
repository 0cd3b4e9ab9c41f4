"""Attentive CutMix against its card: whose map it is, which cells, and what they weigh."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mix_cases import build, constant, step_at
from run_cases import tiny

from lt_bench.errors import UserError
from lt_bench.mixing.attentive_cutmix import AttentiveCutMix, enlarged, highest
from lt_bench.mixing.teachers import activation
from lt_bench.registry import lookup


def attentive(maps: torch.Tensor, **settings: object) -> AttentiveCutMix:
    mix = build("attentive-cutmix", **settings)
    assert isinstance(mix, AttentiveCutMix)
    mix.maps = maps
    return mix


@pytest.mark.parametrize("side", [28, 224])
def test_six_cells_of_the_partner_weigh_six_of_forty_nine(side: int) -> None:
    mixed = attentive(torch.rand(2, 7, 7))(constant(0, [0, 1], side, side), constant(1, [2, 2], side, side), step_at())
    (own, rest), (other, share) = mixed.terms
    torch.testing.assert_close(share, torch.full((2,), 0.1224490))
    torch.testing.assert_close(rest, 1 - torch.as_tensor(share))
    assert (own.tolist(), other.tolist()) == ([0, 1], [2, 2])  # type: ignore[union-attr]
    torch.testing.assert_close(mixed.images.mean((1, 2, 3)), share)


def test_the_map_is_that_of_the_image_that_is_pasted() -> None:
    maps = torch.zeros(4, 7, 7)
    maps[0, 0, 0], maps[3, 6, 2] = 1, 1
    mix = attentive(maps, cells=1)
    batch, partner = constant(0, [0], 28, 28), constant(1, [1, 1, 1, 1], 28, 28)[3:]
    (image,) = mix(batch, partner, step_at()).images[:, 0]
    assert image[24:, 8:12].all()
    assert image.sum() == 16


def test_the_map_follows_crop_and_mirroring() -> None:
    maps = torch.zeros(1, 8, 8)
    maps[0, 4, 6] = 1
    mix, partner = attentive(maps, cells=1, grid=8), constant(1, [1], 8, 8)
    assert partner.views is not None
    partner.views.boxes.add_(torch.tensor([0.25, 0.125, 0.25, 0.125]))  # two columns on, one row down
    partner.views.mirrored.fill_(True)
    (image,) = mix(constant(0, [0], 8, 8), partner, step_at()).images[:, 0]
    assert image.nonzero().tolist() == [[3, 3]]


def test_cells_are_the_highest_and_as_large_as_they_can() -> None:
    mask = highest(torch.tensor([[[0.1, 0.9], [0.5, 0.3]]]), 2)
    assert mask.tolist() == [[[False, True], [True, False]]]
    assert enlarged(mask, 3, 2)[0].tolist() == [[False, True], [False, True], [True, False]]


def test_activity_is_the_mean_over_all_channels() -> None:
    features = torch.tensor([[[[1.0, 2]], [[5.0, 0]], [[0.0, 7]]]])
    torch.testing.assert_close(activation(features), torch.tensor([[[0.0, 1.0]]]))


def test_without_a_teacher_it_says_what_it_needs() -> None:
    with pytest.raises(UserError, match=r"mix\.teacher: attentive-cutmix pastes what a trained network looks at"):
        lookup("mix", "attentive-cutmix")([3, 2]).teach(lambda *_: torch.zeros(1))


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize(
    "mix",
    [
        "{name: tokenmix, labels: teacher, teacher: FILE}",
        "{name: attentive-cutmix, teacher: FILE}",
        "{name: minority-partners, generator: {name: attentive-cutmix, teacher: FILE}}",
        "{name: class-distance-mix-ours, generator: {name: attentive-cutmix, teacher: FILE}}",
    ],
)
def test_a_teacher_is_refused_where_images_are_not_varied(mix: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"any")
    with pytest.raises(UserError, match=r"second_stage\.mix: .* lays a teacher's maps over what varied images show"):
        tiny("fix-res", f"second_stage.mix={mix.replace('FILE', str(file))}")
    tiny("crt", f"second_stage.mix={mix.replace('FILE', str(file))}")
    tiny("fix-res", "second_stage.mix={name: tokenmix, labels: area}")
