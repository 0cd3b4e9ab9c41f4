"""SUMix against the values of its card, as released and image by image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mix_cases import batch_of, step_at
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step
from lt_bench.errors import UserError
from lt_bench.losses import CrossEntropy
from lt_bench.mixing import Answer, Mix, Mixed, Objective, SUMix
from lt_bench.mixing.sumix import distance, shares
from lt_bench.models.network import Branch, Network
from lt_bench.recipe import load_recipe

CLEAN = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
MIXED = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
Y, SWAPPED = torch.tensor([0, 1]), torch.tensor([1, 0])


def distances(scale: float) -> tuple[Tensor, Tensor]:
    p, p_mixed = CLEAN.softmax(1), MIXED.softmax(1)
    return distance(p_mixed, p, Y[SWAPPED], scale), distance(p_mixed, p[SWAPPED], Y, scale)


def test_the_distance_of_the_card() -> None:
    own, _ = distances(2)
    torch.testing.assert_close(own[0], own.new_tensor([0.6181969, 1.5349453, 1.1232877]), atol=1e-6, rtol=0)
    torch.testing.assert_close(distances(100)[0], own * 50)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(2.0, [0.7173379, 0.6371729]), (100.0, [0.9936135, 1.574e-6])],
)
def test_the_shares_of_the_card(scale: float, expected: list[float]) -> None:
    own, other = distances(scale)
    found = shares(0.7, own[[0, 1], Y], other[[0, 1], Y[SWAPPED]])
    torch.testing.assert_close(found, own.new_tensor(expected), atol=1e-6, rtol=1e-3)


def test_an_image_that_is_not_seen_has_no_share() -> None:
    ends = shares(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 9.0]), torch.tensor([5.0, 1.0]))
    assert ends.tolist() == [0.0, 1.0]


class Given(nn.Module):
    """A stage that answers with the card's logits: of clean images the first time, then of mixed ones."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = [CLEAN, MIXED]

    def forward(self, images: Tensor) -> Tensor:
        found = self.answers[0]
        self.answers = [*self.answers[1:], found]
        return found[:, :, None, None]


class Swapped(Mix):
    """A mix of every image with the other, of which 0.7 are seen."""

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        return Mixed(batch.images, ((batch.labels, 0.7), (batch.labels[SWAPPED], 1 - 0.7)))


class Order:
    """Draws the permutation that exchanges both."""

    @staticmethod
    def permutation(size: int) -> Any:
        return SWAPPED.numpy()


def loss_of(scale: Any, which: str, weight: float = 0.5) -> float:
    network = Network(nn.Identity(), [Branch(Given(), nn.Identity())])
    mix = SUMix([5, 5, 5], scale=scale, shares=which, weight=weight, uncertainty="classifier")
    mix.generator = Swapped([5, 5, 5])
    mix.uncertain = nn.Linear(3, 3)  # of weights 0: u is the same for all classes, of length 1
    mix.double()
    nn.init.zeros_(mix.uncertain.weight)
    nn.init.zeros_(mix.uncertain.bias)
    criterion: Any = CrossEntropy([5, 5, 5])
    objective = Objective(
        network, lambda net, images: Answer(net(images)), lambda answer, terms: criterion.of_terms(answer.logits, terms)
    )
    step = Step(step_at().epoch, 0, 8, Order())  # type: ignore[arg-type]
    return mix.loss(objective, Batch(torch.zeros(2, 3, 1, 1), Y), None, step).item()


@pytest.mark.parametrize(
    ("scale", "weight", "released", "by_image"),
    [("images", 0.5, 1.5456180, 1.5656593), (100.0, 0.5, 1.6628972, 1.9113002), ("images", 0.0, 1.0233671, 1.0434084)],
)
def test_the_losses_of_the_card(scale: Any, weight: float, released: float, by_image: float) -> None:
    assert loss_of(scale, "batch", weight) == pytest.approx(released, abs=2e-6)
    assert loss_of(scale, "image", weight) == pytest.approx(by_image, abs=2e-6)


def made(**settings: Any) -> tuple[SUMix, Objective]:
    from lt_bench.models import build_network

    network = build_network("resnet8", "linear", 3)
    mix = SUMix([5, 5, 5], **settings)
    mix.attach(network)
    criterion: Any = CrossEntropy([5, 5, 5])
    return mix, Objective(
        network, lambda net, images: Answer(net(images)), lambda answer, terms: criterion.of_terms(answer.logits, terms)
    )


@pytest.mark.parametrize("scale", [3.0, "images", "classes"])
@pytest.mark.parametrize("second_stream", [False, True])
def test_partners_of_the_batch_and_of_a_second_stream_are_looked_at_alike(second_stream: bool, scale: Any) -> None:
    mix, objective = made(generator={"name": "cutmix", "probability": 1.0}, scale=scale)
    batch, step = batch_of(height=32, width=32), step_at()
    order = step_at().rng.permutation(4)
    if second_stream:
        step.rng.permutation(4)  # as is drawn for the partners of the batch
    objective.network.eval()
    found = mix.loss(objective, batch, batch[torch.from_numpy(order)] if second_stream else None, step_at())
    torch.testing.assert_close(found, mix.loss(objective, batch, None, step_at()))


def test_nothing_of_the_shares_has_a_gradient_and_a_plain_batch_is_trained_plainly() -> None:
    mix, objective = made(generator={"name": "cutmix", "probability": 1.0}, weight=0.0, scale=3.0)
    batch = batch_of(height=32, width=32)
    objective.network.eval()
    asked: list[Any] = []
    objective = Objective(
        objective.network, objective.reading, lambda answer, terms: asked.append(terms) or answer.logits.square().mean()
    )
    mix.loss(objective, batch, None, step_at())
    assert all(not share.requires_grad and share.shape == (4,) for (_, share) in asked[0])
    plain, objective = made(generator={"name": "cutmix", "probability": 0.0})
    objective.network.eval()
    found = plain.loss(objective, batch, None, step_at())
    torch.testing.assert_close(found, F.cross_entropy(objective.network(batch.images), batch.labels))
    found.backward()
    assert all(parameter.grad is not None for parameter in plain.parameters())


def test_a_mix_that_says_its_loss_itself_has_no_shares_to_change() -> None:
    with pytest.raises(UserError, match="says its loss itself"):
        SUMix([5, 5], generator="mixupe")


@pytest.mark.parametrize("classes", [3, 10, 100])
def test_shares_rise_with_the_pixels_at_the_scale_of_the_recipe(classes: int) -> None:
    """Of a network that recognises both images, and answers to a mixture as the pixels are."""
    pixels = torch.linspace(0.1, 0.9, 9)[:, None]
    images = (torch.eye(classes)[[0, 1]] * 9).log_softmax(1).exp()
    p_mixed = pixels * images[0] + (1 - pixels) * images[1]

    def found(scale: float) -> Tensor:
        a = distance(p_mixed, images[:1].expand(9, -1), torch.ones(9).long(), scale)[:, 0]
        b = distance(p_mixed, images[1:].expand(9, -1), torch.zeros(9).long(), scale)[:, 1]
        return shares(pixels[:, 0], a, b)

    (phase,) = load_recipe("cifar100-lt/sumix").phases
    scale = SUMix([5] * classes, scale=phase.mix["scale"]).scale(images)
    assert (found(scale).diff() > 0).all()
    assert (found(128.0).diff() < 0).any()  # as released, in a batch of 128
