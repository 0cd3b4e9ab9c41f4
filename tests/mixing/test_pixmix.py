"""PixMix: its sums and products, its rounds, the pictures that it mixes with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mix_cases import STATS, batch_of, step_at
from PIL import Image
from scipy import stats
from some_pictures import draw as draw_pictures
from some_pictures import some_pictures
from torch import Tensor

from lt_bench.data.augment import Normalisation
from lt_bench.data.types import Batch
from lt_bench.errors import UserError
from lt_bench.mixing import Answer, Objective, PixMix
from lt_bench.mixing.picture_stock import Pictures
from lt_bench.mixing.pixmix import Drawn, added, cropped, draw, multiplied
from lt_bench.mixing.varying import each_varied, pixels_of
from lt_bench.ranks import division
from lt_bench.ranks.division import Division
from lt_bench.recipe import load_recipe

LtBench = Callable[..., Any]
NORMALISATION = Normalisation((0.5, 0.4, 0.3), (0.25, 0.2, 0.5))
NETWORK: Any = None
OBJECTIVE = Objective(
    NETWORK, lambda _, images: Answer(images.mean((2, 3))), lambda answer, _: answer.logits.sum(), NORMALISATION
)


def mix(**settings: Any) -> PixMix:
    return PixMix(STATS, pictures=str(some_pictures()), **settings)


def test_sums_and_products_are_of_shifted_pixels() -> None:
    """Half a grey changes nothing in either; x^1 y^0 and 1 x + 0 y are x."""
    x, grey = torch.tensor([0.0, 0.25, 0.5, 1.0]), torch.full((4,), 0.5)
    a, b = torch.tensor(1.0), torch.tensor(0.7)
    torch.testing.assert_close(added(x, grey, a, b), x)
    torch.testing.assert_close(multiplied(x, grey, a, b), x)
    assert added(torch.tensor(0.75), torch.tensor(0.25), a, b).item() == pytest.approx(0.5 * (0.5 - 0.35 + 1))
    assert multiplied(torch.tensor(0.75), torch.tensor(0.25), a, b).item() == pytest.approx(1.5 * 0.5**0.7 / 2)
    negative = multiplied(torch.tensor([0.0, 0.5]), torch.tensor([0.0, 0.0]), torch.tensor(1.5), torch.tensor(-0.9))
    assert negative.isfinite().all()
    assert negative.clamp(0, 1).tolist() == [0.0, 1.0]


def test_rounds_weights_and_coins_have_their_laws() -> None:
    found = Drawn.of(draw(20000, 4, PixMix.Config(), step_at().rng), 4)
    np.testing.assert_allclose(np.bincount(found.depth.astype(int)) / 20000, [0.2] * 5, atol=0.01)
    np.testing.assert_allclose((found.operation >= 0).mean(0), [0.5] * 5, atol=0.02)
    product, a, b = found.weights.reshape(-1, 3).T
    assert product.mean() == pytest.approx(0.5, abs=0.01)
    assert (b < 0).mean() == pytest.approx(0.5, abs=0.01)
    assert stats.kstest(a[b > 0], stats.beta(3, 1).cdf).pvalue > 1e-3
    assert stats.kstest(b[b > 0], stats.beta(1, 3).cdf).pvalue > 1e-3
    assert stats.kstest(a[b < 0] - 1, stats.beta(1, 3).cdf).pvalue > 1e-3
    assert stats.kstest(-b[b < 0], stats.beta(1, 3).cdf).pvalue > 1e-3
    assert np.abs(found.share).min() >= 0.01
    assert 0.29 < np.abs(found.share).max() <= 0.3


def test_an_image_without_a_round_is_itself_or_a_varied_copy() -> None:
    drawn = batch_of(size=8, height=16, width=16)
    batch = Batch(drawn.images.clamp(-0.5, 1), drawn.labels)  # which are pixels
    config = PixMix.Config(rounds=1)
    values = draw(8, 1, config, step_at().rng)
    values[:, 0], values[:, 1:3], values[4:, 1] = 0, -1, 3  # no round; the last four turned
    found = with_draws(values, batch, rounds=1)
    step = 1 / 255 / torch.tensor(NORMALISATION.std).view(3, 1, 1)
    assert ((found[:4] - batch.images[:4]).abs() <= step).all()
    assert ((found[4:] - batch.images[4:]).abs() > step).flatten(1).any(1).all()


def test_what_is_mixed_in_is_the_picture_that_was_drawn() -> None:
    batch = batch_of(size=3, height=32, width=32)
    values = draw(3, 1, PixMix.Config(rounds=1), step_at().rng)
    place = np.array([[0.1, 0.5, 0.0], [0.5, 0.99, 0.99], [0.99, 0.0, 0.5]])
    values[:, 0], values[:, 1:3], values[:, 5], values[:, 6], values[:, 7] = 1, -1, 0, 0, 1  # a sum, 0 x + 1 y
    values[:, -3:] = place
    found = with_draws(values, batch, rounds=1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in NORMALISATION)
    sizes = [(40, 60), (64, 48), (36, 36)]
    for image, name, size, (_, top, left) in zip(
        found, ("a.png", "more/b.png", "more/c.jpg"), sizes, place, strict=True
    ):
        shape = tuple(36 * side // min(size) for side in size)
        with Image.open(some_pictures() / name) as picture:
            scaled = np.array(picture.resize(shape, Image.Resampling.BILINEAR))
        rows, columns = int(top * (scaled.shape[0] - 31)), int(left * (scaled.shape[1] - 31))
        part = torch.from_numpy(scaled[rows : rows + 32, columns : columns + 32]).permute(2, 0, 1) / 255
        torch.testing.assert_close(image * std + mean, part, rtol=0, atol=1e-5)


def test_a_round_may_mix_in_another_varied_copy() -> None:
    batch = batch_of(size=2, height=16, width=16)
    values = draw(2, 1, PixMix.Config(rounds=1), step_at().rng)
    values[:, 0], values[:, 1], values[:, 2], values[:, 5], values[:, 6], values[:, 7] = 1, -1, 4, 0, 0, 1
    found = with_draws(values, batch, rounds=1)  # a sum, 0 x + 1 y, with y solarised
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in NORMALISATION)
    expected = each_varied(pixels_of(batch.images, NORMALISATION), values[:, 2], values[:, 4])
    torch.testing.assert_close(found * std + mean, expected / 255, rtol=0, atol=1e-5)


def test_two_processes_mix_what_one_mixes(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(size=6, height=32, width=32)
    whole = mix().mixture(OBJECTIVE, batch, step_at())
    for rank in range(2):
        half = Division(6, rank, 2)
        monkeypatch.setattr(division, "_current", half)
        part = mix().mixture(OBJECTIVE, batch[half.rows], step_at())
        assert torch.equal(part, whole[half.rows])


def with_draws(values: np.ndarray, batch: Any, **settings: Any) -> Tensor:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lt_bench.mixing.pixmix.draw", lambda *_: values)
        return mix(**settings).mixture(OBJECTIVE, batch, step_at())


def test_mixtures_are_images_and_follow_from_the_step() -> None:
    batch = batch_of(size=16, height=32, width=32)
    first, second = (mix().mixture(OBJECTIVE, batch, step_at(seed=3)) for _ in range(2))
    assert torch.equal(first, second)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in NORMALISATION)
    pixels = first * std + mean
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert (first != batch.images).flatten(1).any(1).sum() > 8
    assert not torch.equal(first, mix().mixture(OBJECTIVE, batch, step_at(seed=4)))


def test_crops_reach_every_side_of_a_picture() -> None:
    picture = torch.arange(3 * 6 * 5).view(3, 6, 5)
    assert torch.equal(cropped([picture], np.array([0.5, 0.0, 0.0]), 4, 4), picture[:, :4, :4])
    assert torch.equal(cropped([picture], np.array([0.5, 0.999, 0.999]), 4, 4), picture[:, 2:, 1:])


def test_other_pictures_are_another_run(tmp_path: Path) -> None:
    draw_pictures(tmp_path)
    digests = {load_recipe("digits-lt/pixmix", [f"mix.pictures={tmp_path}"]).sha256}
    pictures = Pictures(folder=str(tmp_path))
    (tmp_path / "a.png").rename(tmp_path / "z.png")
    digests.add(load_recipe("digits-lt/pixmix", [f"mix.pictures={tmp_path}"]).sha256)
    assert len(digests) == 2
    for refused in (pictures.check, lambda: pictures.scaled(36)):
        with pytest.raises(UserError, match="holds other pictures than the recipe was read with"):
            refused()
    shutil.rmtree(tmp_path)
    with pytest.raises(UserError, match=r"mix\.pictures: .*: there is no such folder of pictures"):
        PixMix(STATS, pictures={"folder": str(tmp_path), "sha256": pictures.sha256}).teach(lambda *_: torch.empty(0))


def test_what_are_no_pictures_is_refused_in_one_line(tmp_path: Path, lt_bench: LtBench) -> None:
    unheard_of = ("nothing", "there is no such folder"), (".", "holds no images"), ("n" * 500, "File name too long")
    for given, said in unheard_of:
        done = lt_bench("validate", "digits-lt/pixmix", f"mix.pictures={given}")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert said in done.err
    done = lt_bench("run", "digits-lt/pixmix")
    assert done.code == 2
    assert "mix.pictures: pixmix mixes with pictures of no class" in done.err
    Path("bad.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(UserError, match=r"mix\.pictures: bad\.png: "):
        Pictures(folder=".").scaled(36)


def test_its_steps_are_tried_by_the_command_line(lt_bench: LtBench) -> None:
    done = lt_bench("run", "digits-lt/pixmix", f"mix.pictures={some_pictures()}", "--dry-run")
    assert done.code == 0, done.err
