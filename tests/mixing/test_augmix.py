"""AugMix: its operations, its mixtures and the agreement of three answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mix_cases import STATS, batch_of, step_at
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from lt_bench.data.augment import Normalisation
from lt_bench.data.types import Batch, generator
from lt_bench.losses import CrossEntropy
from lt_bench.mixing import Answer, AugMix, Objective
from lt_bench.mixing.augmix import Drawn, chained, divergence, draw
from lt_bench.mixing.varying import OPERATIONS, varied

NORMALISATION = Normalisation((0.5, 0.4, 0.3), (0.25, 0.2, 0.5))
NONE = Drawn(np.full((6, 3), -1), np.zeros((6, 3)))


def test_the_divergence_of_the_card() -> None:
    p = torch.tensor([[[0.7, 0.2, 0.1]], [[0.6, 0.3, 0.1]], [[0.5, 0.2, 0.3]]]).log()
    assert divergence(p).item() == pytest.approx(0.0348832, abs=1e-6)
    assert (12 * divergence(p)).item() == pytest.approx(0.4185989, abs=1e-6)
    assert divergence(p.repeat(1, 2, 1)).item() == pytest.approx(0.0348832, abs=1e-6)  # a mean over the batch
    assert divergence(p[:1].repeat(3, 1, 1)).item() == pytest.approx(0, abs=1e-7)
    sure = torch.tensor([[[300.0, 0.0, 0.0]]] * 3, requires_grad=True)  # of the others exp gives 0
    found = divergence(sure.log_softmax(2))
    assert found.item() == pytest.approx(0, abs=1e-6)
    found.backward()
    assert sure.grad is not None
    assert sure.grad.isfinite().all()


def expected(name: str, pixels: Tensor, share: float) -> Tensor:
    """The same operation of torchvision, from the upper left corner for shears, as far as its AugMix goes."""
    side, smooth = pixels.shape[-1], InterpolationMode.BILINEAR

    def affine(**given: Any) -> Tensor:
        usual = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], "center": [0.0, 0.0]}
        return tv.affine_image(pixels, **usual | given, interpolation=smooth)

    degrees = float(np.degrees(np.arctan(0.3 * share)))
    operations: dict[str, Any] = {
        "AutoContrast": lambda: tv.autocontrast(pixels),
        "Equalize": lambda: tv.equalize(pixels),
        "Posterize": lambda: tv.posterize(pixels, 4 - round(4 * abs(share))),
        "Solarize": lambda: tv.solarize(pixels, 255 * (1 - abs(share))),
        "Rotate": lambda: tv.rotate(pixels, -30 * share, interpolation=smooth),
        "ShearX": lambda: affine(shear=[degrees, 0.0]),
        "ShearY": lambda: affine(shear=[0.0, degrees]),
        "TranslateX": lambda: affine(translate=[-round(side / 3 * share), 0]),
        "TranslateY": lambda: affine(translate=[0, -round(side / 3 * share)]),
    }
    found: Tensor = operations[name]()
    return found


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_torchvision_for_every_image_at_its_own_level(name: str) -> None:
    pixels = torch.from_numpy(generator(0, "pixels").integers(0, 256, (4, 3, 24, 24)).astype(np.uint8))
    shares = [0.125, -0.25, 0.25, -0.125]  # of 24 pixels a third is 8, of which these are whole ones
    found = varied(pixels, name, torch.tensor(shares))
    for k, share in enumerate(shares):
        away = (found[k].int() - expected(name, pixels[k], share).int()).abs()
        assert away.max() <= 1, (name, share)


def test_geometry_is_as_exact_under_autocast() -> None:
    pixels = torch.from_numpy(generator(0, "pixels").integers(0, 256, (2, 3, 64, 64)).astype(np.uint8))
    for name in ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"):
        plain = varied(pixels, name, torch.tensor([0.0, 0.3]))
        assert torch.equal(plain[0], pixels[0]), name
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(varied(pixels, name, torch.tensor([0.0, 0.3])), plain), name


def test_chains_have_one_to_three_operations_of_levels_up_to_the_severity() -> None:
    drawn = draw(9000, 3.0, step_at().rng)
    depth = (drawn.operation >= 0).sum(1)
    np.testing.assert_allclose(np.bincount(depth, minlength=4) / 9000, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.02)
    assert ((drawn.operation[:, 1:] < 0) | (drawn.operation[:, :-1] >= 0)).all()  # one after the other
    np.testing.assert_allclose(np.bincount(drawn.operation[:, 0]) / 9000, [1 / 9] * 9, atol=0.02)
    assert 0.01 <= np.abs(drawn.share).min() < 0.0105
    assert 0.2995 < np.abs(drawn.share).max() <= 0.3


def test_an_empty_chain_leaves_the_image() -> None:
    pixels = torch.from_numpy(generator(0, "pixels").integers(0, 256, (6, 3, 8, 8)).astype(np.uint8))
    assert torch.equal(chained(pixels, NONE), pixels)


class Watched(nn.Module):
    """A network that keeps what it was given; batch statistics are the batch's."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.given: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.given.append(images)
        logits: Tensor = self.norm(images.mean((2, 3)))
        return logits


def objective(network: nn.Module) -> Objective:
    loss: Any = CrossEntropy(STATS)
    return Objective(
        network,  # type: ignore[arg-type]
        lambda net, images: Answer(net(images)),
        lambda answer, terms: loss.of_terms(answer.logits, terms),
        NORMALISATION,
    )


def picture(size: int = 6) -> Batch:
    """Normalised images whose pixels are whole numbers."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in NORMALISATION)
    pixels = torch.from_numpy(generator(1, "pixels").integers(0, 256, (size, 3, 8, 8)))
    return Batch((pixels / 255 - mean) / std, batch_of(size=size).labels)


def test_the_loss_is_that_of_the_clean_image_and_what_three_answers_differ_by() -> None:
    network, batch = Watched(), picture()
    found = AugMix(STATS, weight=12).loss(objective(network), batch, None, step_at())
    (given,) = network.given  # one forward: the statistics are those of all three views
    assert given.shape == (18, 3, 8, 8)
    assert torch.equal(given[:6], batch.images)
    assert not torch.equal(given[6:12], given[12:])
    logits = network(given)
    views = logits.log_softmax(1).view(3, 6, 3)
    cross_entropy = nn.functional.cross_entropy(logits[:6], batch.labels)
    torch.testing.assert_close(found, cross_entropy + 12 * divergence(views))


def test_chains_without_operations_mix_an_image_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels are read back as they were, whatever the normalisation, and the weights sum to one."""
    nothing = Drawn(np.full((18, 3), -1), np.zeros((18, 3)))
    monkeypatch.setattr("lt_bench.mixing.augmix.draw", lambda *_: nothing)
    batch = picture()
    mixture = AugMix(STATS).mixture(objective(Watched()), batch, step_at())
    torch.testing.assert_close(mixture, batch.images, atol=1e-5, rtol=0)


def test_a_mixture_lies_between_the_image_and_its_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """(1 - m) x + m sum_i w_i chain_i(x): with chains of black, 1 - m of every pixel is left, one m for each image."""
    monkeypatch.setattr("lt_bench.mixing.augmix.chained", lambda pixels, drawn: torch.zeros_like(pixels))
    batch = picture()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in NORMALISATION)
    left = (AugMix(STATS).mixture(objective(Watched()), batch, step_at()) * std + mean) / (batch.images * std + mean)
    bright = batch.images * std + mean > 0.1
    for image, mask in zip(left, bright, strict=True):
        assert 0 <= image[mask].min() <= image[mask].max() <= 1
        assert image[mask].std() < 1e-5
