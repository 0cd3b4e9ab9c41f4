"""Mixes that say their loss themselves: hidden features, a second term, shares by the answer, targets less sure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from method_cases import batch_of, build, phase, step_at, tiny_network
from objective_cases import COUNTS, images_of, objective, small
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, ClassStats
from lt_bench.losses.cross_entropy import CrossEntropy
from lt_bench.methods.standard import Standard
from lt_bench.mixing import Answer, Mix, Objective, Term, as_they_are
from lt_bench.mixing.decouple_mix import DecoupleMix
from lt_bench.mixing.lumix import LUMix, predicted_share
from lt_bench.mixing.mixup import Mixup
from lt_bench.mixing.mixupe import MixupE
from lt_bench.mixing.soft_augmentation import SoftAugmentation, batch_mean, draw_shifts, shifted
from lt_bench.registry import Choice, lookup

LOGITS, LABELS = torch.tensor([[1.0, 2, -1], [0.5, -1, 1.5]]), torch.tensor([0, 2])
LOSSES = ["cross-entropy", "balanced-softmax", "logit-adjustment", "focal", "binary-cross-entropy"]


# --- what a loss makes of logits ------------------------------------------------------------------------


def test_an_answer_is_read_as_its_loss_reads_it() -> None:
    """LDAM's cosines have a scale, balanced softmax a prior while it trains."""
    network, images = tiny_network("cosine").eval(), batch_of().images
    cosines = network(images)
    answer = of_loss("ldam").answer(step_at(), network, images)
    torch.testing.assert_close(answer.prediction, 30 * cosines)
    torch.testing.assert_close(answer.trained(cosines), 30 * cosines)
    answer = of_loss("balanced-softmax").answer(step_at(), network, images)
    assert torch.equal(answer.prediction, cosines)
    torch.testing.assert_close(answer.trained(cosines), cosines + torch.tensor([20, 6, 2]).div(28).log())


def of_loss(name: str) -> Standard:
    method = build("standard", (phase(loss=name),))
    assert isinstance(method, Standard)
    return method


@pytest.mark.parametrize("name", ["cross-entropy", "balanced-softmax", "logit-adjustment", "cdt", "vs"])
def test_a_loss_trains_the_softmax_of_what_it_says(name: str) -> None:
    loss = lookup("loss", name)(COUNTS)
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    own = F.cross_entropy(loss.trained(logits), labels, reduction="none")
    torch.testing.assert_close(loss.per_sample(logits, labels), own)


def test_what_decouple_mix_adds_has_the_prior_of_the_loss() -> None:
    images, prior, labels = torch.zeros(3, 3, 4, 4), torch.tensor([2.0, 0.0, -2.0]), torch.arange(3)
    logits = torch.cat([LOGITS, -LOGITS[:1]])
    asked = Objective(
        None,  # type: ignore[arg-type]
        lambda *_: Answer(logits, None, as_they_are, lambda given: given + prior),
        lambda *_: torch.tensor(0.0),
    )
    mix = DecoupleMix(COUNTS, generator={"name": "mixup", "alpha": 1.0})
    found = mix.loss(asked, Batch(images, labels), None, step_at())
    terms = mix(Batch(images, labels), None, step_at()).terms
    torch.testing.assert_close(found, mix.decoupled(logits + prior, terms))
    assert not torch.allclose(found, mix.decoupled(logits, terms))


# --- MixupE ------------------------------------------------------------------------------------------


def fixed(plain: float, logits: Tensor) -> Objective:
    """A loss of mixed images of a known value, and known logits of the clean ones."""
    return Objective(None, lambda *_: Answer(logits), lambda *_: torch.tensor(plain, requires_grad=True))  # type: ignore[arg-type]


def test_slopes_are_those_of_the_card() -> None:
    torch.testing.assert_close(
        MixupE(COUNTS).slopes(LOGITS, LABELS), torch.tensor([-0.635146, 0.395246]), atol=1e-6, rtol=0
    )
    assert MixupE(COUNTS, threshold=0.0).slopes(LOGITS, LABELS)[1] == 0
    assert MixupE(COUNTS).slopes(torch.tensor([[40.0, 0, 0]]), torch.tensor([0])).abs().max() < 1e-9


@pytest.mark.parametrize(("alpha", "rest"), [(1, 1 / 3), (2, 0.4), (0.2, 1 - 0.857143)])
def test_the_mean_share_of_the_other_image(alpha: float, rest: float) -> None:
    assert MixupE(COUNTS, alpha=alpha).mean_rest() == pytest.approx(rest, abs=1e-6)


def test_the_value_is_that_of_mixup_and_the_gradient_is_not() -> None:
    batch, logits = Batch(torch.zeros(2, 3, 4, 4), LABELS), LOGITS.clone().requires_grad_()
    found = MixupE(COUNTS).loss(fixed(1.0, logits), batch, None, step_at())
    assert float(found.detach()) == pytest.approx(1.0, abs=1e-6)
    (gradient,) = torch.autograd.grad(found, logits)
    (slope,) = torch.autograd.grad(MixupE(COUNTS).slopes(logits, LABELS).sum(), logits)
    torch.testing.assert_close(gradient, -0.9999520 * 0.001 * 0.4 / 2 * slope, rtol=1e-5, atol=1e-9)


def test_the_detached_form_has_the_values_and_other_gradients() -> None:
    logits = LOGITS.clone().requires_grad_()
    fast, detached = (MixupE(COUNTS, form=form).slopes(logits, LABELS).sum() for form in ("fast", "detached"))
    torch.testing.assert_close(fast, detached)
    first, second = (torch.autograd.grad(one, logits, retain_graph=True)[0] for one in (fast, detached))
    torch.testing.assert_close(second, F.one_hot(LABELS, 3) - LOGITS.softmax(1))
    assert not torch.allclose(first, second)


def test_without_its_weight_it_is_mixup() -> None:
    network, batch = small().eval(), images_of()
    pairs = [
        torch.autograd.grad(mix.loss(objective(network), batch, None, step_at()), list(network.parameters()))
        for mix in (MixupE(COUNTS, eta=0.0), Mixup(COUNTS, alpha=2.0))
    ]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other)


# --- LUMix -------------------------------------------------------------------------------------------


def moved(predicted: float, random: float, share: float, drawn: float) -> Tensor:
    mix = LUMix(COUNTS, predicted=predicted, random=random)
    terms: tuple[Term, ...] = ((torch.tensor([0]), share), (torch.tensor([2]), 1 - share))
    (_, own), (_, other) = mix.moved(terms, torch.tensor([[2.0, 1, 0]]), torch.tensor([drawn]))
    torch.testing.assert_close(torch.as_tensor(own + other), torch.ones(1))
    return torch.as_tensor(own)


@pytest.mark.parametrize(
    ("predicted", "random", "share", "drawn", "expected"),
    [(1, 0, 0.5, 0.9, 0.8807971), (0.3, 0.2, 0.7, 0.2, 0.6542391), (0, 1, 0.7, 0.2, 0.2), (0, 0, 0.7, 0.2, 0.7)],
)
def test_shares_move_as_on_the_card(
    predicted: float, random: float, share: float, drawn: float, expected: float
) -> None:
    assert float(moved(predicted, random, share, drawn)) == pytest.approx(expected, abs=1e-6)


def test_what_the_network_sees_is_a_constant_of_two_logits() -> None:
    logits = torch.tensor([[2.0, 1, 0]], requires_grad=True)
    own, other = torch.tensor([0]), torch.tensor([2])
    share = predicted_share(logits, own, other)
    assert not share.requires_grad
    assert torch.equal(share, predicted_share(logits + torch.tensor([5.0, -3, 5]), own, other))


def test_random_shares_are_drawn_for_each_image_by_the_law_of_the_recipe() -> None:
    mix = LUMix(COUNTS, generator={"name": "mixup"}, predicted=0.0, random=1.0)
    seen: list[Tensor] = []

    def note(_: Answer, terms: Any) -> Tensor:
        seen.append(terms[0][1])
        return torch.zeros(())

    batch = Batch(torch.zeros(4000, 3, 1, 1), torch.arange(4000) % 3)
    constant = Objective(small(), lambda _, images: Answer(torch.zeros(len(images), 3)), note)
    mix.loss(constant, batch, None, step_at())
    (shares,) = seen
    assert len(shares.unique()) > 3900
    assert stats.kstest(shares.numpy(), stats.beta(0.4, 0.4).cdf).pvalue > 0.001
    settings = LUMix.Config()
    assert (settings.predicted, settings.random, settings.alpha) == (0.2, 0.1, 0.4)


def test_unmoved_it_is_the_other_mix() -> None:
    network, batch = small().eval(), images_of()
    plain = LUMix(COUNTS, generator={"name": "mixup"}, predicted=0.0, random=0.0)
    torch.testing.assert_close(
        plain.loss(objective(network), batch, None, step_at()),
        Mixup(COUNTS).loss(objective(network), batch, None, step_at()),
    )


# --- soft augmentation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "visible", "ten", "hundred"),
    [
        ((0, 0), 1, 1, 1),
        ((8, 0), 0.75, 0.94375, 0.938125),
        ((8, 8), 0.5625, 0.827734, 0.810508),
        ((12, 12), 0.390625, 0.665796, 0.632375),
        ((16, 16), 0.25, 0.49375, 0.443125),
        ((24, 24), 0.0625, 0.208984, 0.129883),
        ((32, 0), 0, 0.1, 0.01),
    ],
)
def test_confidences_are_those_of_the_card(shift: tuple[int, int], visible: float, ten: float, hundred: float) -> None:
    found = np.prod(1 - np.abs(np.array(shift)) / 32)
    assert found == visible
    for classes, expected in ((10, ten), (100, hundred)):
        confidence = SoftAugmentation([5] * classes).confidence(np.array([visible]))
        assert confidence[0] == pytest.approx(expected, abs=1e-6)
    steep = SoftAugmentation([5] * 100, power=4.0).confidence(np.array([0.5625, 0.25]))
    np.testing.assert_allclose(steep, [0.963730, 0.686758], atol=1e-6)


def target(mix: SoftAugmentation, labels: list[int], p: list[float]) -> Tensor:
    (own, share), (_, spread) = mix.terms(torch.tensor(labels), np.array(p))
    assert own is not None
    return share[:, None] * F.one_hot(own, mix.num_classes) + spread[:, None] / mix.num_classes


def test_targets_are_those_of_the_card() -> None:
    mix = SoftAugmentation([5] * 4, reweight="none")
    torch.testing.assert_close(target(mix, [1], [0.4375]), torch.tensor([[0.1875, 0.4375, 0.1875, 0.1875]]))
    torch.testing.assert_close(target(mix, [1], [0.25]), torch.full((1, 4), 0.25))


@pytest.mark.parametrize(("reweight", "expected"), [("none", 0.171819), ("sample", 0.171008), ("batch", 0.123495)])
def test_the_loss_is_the_weighted_divergence_up_to_the_entropy(reweight: str, expected: float) -> None:
    mix, logits = SoftAugmentation([5] * 4, reweight=reweight), torch.tensor([[2.0, 0, 0, 0], [0, 1, 0, 0]])
    p = np.array([1, 0.4375])
    loss = lookup("loss", "cross-entropy")([5] * 4).of_terms(logits, mix.terms(torch.tensor([0, 1]), p))
    weights = torch.tensor({"none": [1.0, 1], "sample": [1, 0.4375], "batch": [0.71875, 0.71875]}[reweight])
    plain = target(SoftAugmentation([5] * 4, reweight="none"), [0, 1], [1, 0.4375])
    entropy = (weights * torch.special.entr(plain).sum(1)).mean()
    assert float(loss - entropy) == pytest.approx(expected, abs=1e-6)


def test_windows_are_shifted() -> None:
    images = torch.randn(2, 3, 32, 32)
    found = shifted(images, torch.tensor([[5, 0], [0, -3]]), torch.full((2, 3), 7.0))
    assert torch.equal(found[0, :, :27], images[0, :, 5:])
    assert (found[0, :, 27:] == 7).all()
    assert torch.equal(found[1, :, :, 3:], images[1, :, :, :29])
    assert (found[1, :, :, :3] == 7).all()


def test_the_law_of_the_shifts() -> None:
    shifts = draw_shifts(200_000, 32, 12.0, step_at().rng)
    assert abs(shifts).max() <= 32
    visible = np.prod(1 - np.abs(shifts.reshape(-1, 2)) / 32, axis=1)
    assert (shifts == 0).mean() == pytest.approx(0.0669, abs=0.002)
    assert visible.mean() == pytest.approx(0.5221, abs=0.004)
    assert (visible < 0.25).mean() == pytest.approx(0.132, abs=0.004)
    assert SoftAugmentation([5] * 10).confidence(visible).mean() == pytest.approx(0.7491, abs=0.004)
    assert SoftAugmentation([5] * 100).confidence(visible).mean() == pytest.approx(0.7240, abs=0.004)


def test_a_target_is_as_sure_as_its_own_image_is_visible() -> None:
    """On white images, by what is still white; what comes into sight has one colour, normal about 0."""
    batch = Batch(torch.full((400, 3, 32, 32), 9.0), torch.arange(400) % 3)
    mix = SoftAugmentation(COUNTS)
    mixed = mix(batch, None, step_at())
    white = (mixed.images == 9).all(1)
    p = mix.confidence(white.float().mean((1, 2)).double().numpy())
    (labels, share), (_, spread) = mixed.terms
    assert labels is batch.labels
    torch.testing.assert_close(share + spread, torch.from_numpy(p).float())  # the weight, by default the image's p
    torch.testing.assert_close(share + spread / 3, torch.from_numpy(p**2).float())
    assert white.float().mean().item() == pytest.approx(0.5221, abs=0.04)  # a deviation of 12 of 32 pixels
    pairs = zip(mixed.images, white, strict=True)
    fill = torch.stack([image[:, ~seen][:, 0] for image, seen in pairs if not seen.all()])
    assert fill.std().item() == pytest.approx(0.01, rel=0.1)
    assert fill.mean().abs() < 0.001


def test_a_batch_s_mean_is_over_all_of_it() -> None:
    assert batch_mean(np.array([1, 0.4375])) == pytest.approx(0.71875)


def test_late_epochs_see_images_as_they_are() -> None:
    mix, batch = SoftAugmentation(COUNTS), images_of()
    assert torch.equal(mix(batch, None, step_at(192)).images, batch.images)
    assert not torch.equal(mix(batch, None, step_at(191)).images, batch.images)


# --- with every loss ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mix", ["manifold-mixup", "mixupe", "lumix-ours", "soft-augmentation", "hmix", "gmix"])
def test_any_loss_can_be_trained_with(mix: str, loss: str) -> None:
    method, network = build("standard", (phase(mix=mix, loss=loss),)), small()
    assert isinstance(method, Standard)
    method.attach(network)
    with torch.autocast("cpu", torch.bfloat16):
        found = method.loss(network, {"main": images_of()}, step_at())
    found.backward()
    assert found.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("mix", ["manifold-mixup", "mixupe", "lumix-ours", "soft-augmentation", "hmix", "gmix"])
def test_experts_can_be_trained_with_it(mix: str) -> None:
    settings: dict[str, Any] = {"layers": (0, 1)} if mix == "manifold-mixup" else {}
    component = lookup("mix", mix)
    phases = (phase(),)
    chosen = (type(phases[0])(200, phases[0].sampler, Choice(component, component.Config(**settings)), phases[0].loss),)
    method, network = build("balpoe", chosen), small("experts")
    method.attach(network)
    found = method.loss(network, {"main": images_of()}, step_at())
    found.backward()
    assert found.isfinite()


@pytest.mark.parametrize("weights", [None, "effective-number"])
@pytest.mark.parametrize("mean", ["weighted", "plain"])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("cross-entropy", {}),
        ("cross-entropy", {"label_smoothing": 0.3}),
        ("cross-entropy", {"label_smoothing": 0.3, "probability_floor": 0.3}),
        ("balanced-softmax", {"label_smoothing": 0.3}),
        ("logit-adjustment", {"tau": 1.5}),
        ("logit-adjustment", {"post_hoc": True}),
        ("vs", {}),
        ("cdt", {}),
        ("lade", {}),
        ("focal", {}),
        ("binary-cross-entropy", {}),
    ],
)
def test_all_classes_alike_is_the_mean_over_the_classes(name: str, fields: Any, weights: Any, mean: Any) -> None:
    loss = lookup("loss", name)(COUNTS, **fields, weights=weights, mean=mean)
    alike, each = (torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    share = torch.tensor([1.0, 0.5, 0.0, 2.0])
    labels = (torch.full((4,), label) for label in range(3))
    found = loss.of_terms(alike, [(None, share)])
    expected = torch.stack([loss(each, label, share) for label in labels]).mean()
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(alike.grad, each.grad)


def test_a_loss_made_of_a_shipped_one_is_what_it_says() -> None:
    class Tenfold(CrossEntropy):
        def prepare(self, stats: ClassStats) -> None:
            """Of its own, and needs none of the shipped one's."""

        def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
            return 10 * super().per_sample(logits, labels)

        def scores(self, logits: Tensor) -> Tensor:
            return 0 * logits

    logits, terms = torch.randn(4, 3), [(torch.tensor([0, 1, 2, 0]), 0.5), (None, 0.5)]
    tenfold, plain = (kind(COUNTS, label_smoothing=0.3).of_terms(logits, terms) for kind in (Tenfold, CrossEntropy))
    torch.testing.assert_close(tenfold, 10 * plain)


def test_class_distances_choose_partners_for_a_mix_that_says_its_loss() -> None:
    mix: Mix = lookup("mix", "class-distance-mix-ours")(COUNTS, generator={"name": "mixupe"})
    network, batch, partner = small(), images_of(), images_of()
    found = mix.loss(objective(network), batch, partner, step_at())
    torch.testing.assert_close(found, MixupE(COUNTS).loss(objective(small()), batch, partner, step_at()))
