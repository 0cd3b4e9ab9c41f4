"""SnapMix and TransMix against their cards: labels by what the network itself sees in the boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mix_cases import batch_of, build, constant, step_at
from torch import Tensor, nn

from lt_bench.data.types import Batch
from lt_bench.errors import UserError
from lt_bench.losses.cross_entropy import CrossEntropy
from lt_bench.mixing import Answer, Objective, Term
from lt_bench.mixing.boxes import Box, paste
from lt_bench.mixing.snapmix import SnapMix, class_maps, inside, resized_into
from lt_bench.mixing.transmix import TransMix, cells_in, class_attention, class_attentions, watched
from lt_bench.models import build_network
from lt_bench.models.backbones.vision_transformer import VisionTransformer
from lt_bench.models.network import Branch, Network

BY_MAPS = ["snapmix", "transmix"]
COUNTS = [100, 10, 1]


class TinyViT(VisionTransformer):
    """Four blocks of width 8."""

    feature_dim, num_heads, depth = 8, 2, 4


def transformer(head: str = "linear") -> Network:
    """For images of 8 pixels, of which it makes 2 x 2 patches."""
    return build_network(TinyViT(image_size=8, patch_size=4), head, 3)


class Watched:
    """An objective with cross entropy, that keeps what it was asked for."""

    def __init__(self, network: Network) -> None:
        self.images: list[Tensor] = []
        self.terms: list[Sequence[Term]] = []
        self.objective = Objective(network, self.reading, self.criterion)

    def reading(self, network: Network, images: Tensor) -> Answer:
        self.images.append(images)
        return Answer(network(images))

    def criterion(self, answer: Answer, terms: Sequence[Term]) -> Tensor:
        self.terms.append(terms)
        return CrossEntropy(COUNTS).of_terms(answer.logits, terms)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 5), height=st.integers(1, 12), width=st.integers(1, 12))
@pytest.mark.parametrize("name", BY_MAPS)
def test_pixels_are_those_of_the_two_images_and_inputs_stay(
    name: str, seed: int, size: int, height: int, width: int
) -> None:
    batch, partner = batch_of(seed, size, height, width), batch_of(seed + 1, size, height, width)
    before = [tensor.clone() for tensor in (batch.images, partner.images)]
    mixed = build(name)(batch, partner, step_at(seed=seed))
    assert (mixed.images.shape, mixed.images.dtype) == (batch.images.shape, torch.float32)
    both = torch.cat(before)
    assert ((mixed.images >= both.min() - 1e-6) & (mixed.images <= both.max() + 1e-6)).all()
    for _, share in mixed.terms:
        assert ((torch.as_tensor(share) >= 0) & (torch.as_tensor(share) <= 1)).all()
    for tensor, old in zip((batch.images, partner.images), before, strict=True):
        assert torch.equal(tensor, old)


@pytest.mark.parametrize(("name", "fields"), [("snapmix", {"beta": 0}), ("transmix", {"cutmix_alpha": 0})])
def test_a_share_of_one_is_the_image_itself(name: str, fields: dict[str, Any]) -> None:
    batch = batch_of()
    mixed = build(name, **fields, **({"switch_probability": 1} if name == "transmix" else {}))(
        batch, batch_of(1), step_at()
    )
    assert torch.equal(mixed.images, batch.images)


# --- SnapMix -------------------------------------------------------------------------------------------


def snapmix(**fields: Any) -> SnapMix:
    mix = build("snapmix", **fields)
    assert isinstance(mix, SnapMix)
    return mix


def of_pixels(weight: Tensor) -> Network:
    """Its last maps are the images, its classifier is linear."""
    classifier = nn.Linear(3, 3)
    classifier.weight.data, classifier.bias.data = weight, torch.tensor([5.0, -5, 1])
    return Network(nn.Identity(), [Branch(nn.Identity(), classifier)])


def test_a_class_map_is_the_classifier_of_every_cell_above_its_least() -> None:
    batch = batch_of(size=3, height=4, width=5)
    maps = class_maps(of_pixels(torch.eye(3)), batch)
    own = torch.stack([image[label] for image, label in zip(batch.images, batch.labels, strict=True)])
    above = own - own.amin((1, 2), keepdim=True)
    torch.testing.assert_close(maps, above / above.sum((1, 2), keepdim=True))


def test_shares_are_what_the_maps_show_of_the_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = {0: torch.tensor([[[0.1, 0.4], [0.3, 0.2]]]), 1: torch.tensor([[[0.7, 0.1], [0.1, 0.1]]])}
    boxes = iter([Box(0, 2, 0, 1), Box(0, 1, 0, 2)])
    monkeypatch.setattr("lt_bench.mixing.snapmix.draw_box", lambda *_: next(boxes))
    batch, partner = constant(0, [0], 2, 2), constant(1, [1], 2, 2)
    mixed = snapmix().mixed(batch, partner, step_at(), lambda seen: maps[int(seen.labels)])
    (_, own), (_, other) = mixed.terms
    assert (float(own), float(other)) == (pytest.approx(0.6), pytest.approx(0.8))  # 1.4 in all
    assert mixed.images[0, 0].tolist() == [[1, 0], [1, 0]]


def test_pairs_of_one_class_count_twice_only_if_asked_for() -> None:
    own, other, same = torch.tensor([0.6, 0.6]), torch.tensor([0.8, 0.8]), torch.tensor([True, False])
    assert snapmix().shares(own, other, same) == (own, other)
    twice = snapmix(same_class_twice=True).shares(own, other, same)
    for found, expected in zip(twice, ([1.4, 0.6], [1.4, 0.8]), strict=True):
        torch.testing.assert_close(found, torch.tensor(expected))


def test_a_network_that_sees_a_class_everywhere_alike_labels_by_area() -> None:
    batch, partner = batch_of(size=5), batch_of(1, size=5)
    network = of_pixels(torch.zeros(3, 3))
    for seed in range(5):
        watched = Watched(network)
        snapmix().loss(watched.objective, batch, partner, step_at(seed=seed))
        by_area = snapmix()(batch, partner, step_at(seed=seed))
        assert torch.equal(watched.images[-1], by_area.images)
        for (_, found), (_, expected) in zip(watched.terms[0], by_area.terms, strict=True):
            torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected))


def test_partners_of_the_batch_bring_their_own_maps() -> None:
    batch, watched = batch_of(size=6), Watched(of_pixels(torch.eye(3)))
    snapmix().loss(watched.objective, batch, None, step_at(seed=3))
    again = Watched(of_pixels(torch.eye(3)))
    order = torch.from_numpy(_after_boxes(step_at(seed=3)).permutation(6))
    snapmix().loss(again.objective, batch, batch[order], step_at(seed=3))
    for (labels, share), (expected, other) in zip(watched.terms[0], again.terms[0], strict=True):
        assert torch.equal(labels, expected)  # type: ignore[arg-type]
        torch.testing.assert_close(share, other)


def _after_boxes(step: Any) -> np.random.Generator:
    """The step's draws, behind the coin and two boxes of 8 pixels."""
    step.rng.random()
    for _ in range(2):
        step.rng.beta(5, 5), step.rng.integers(8), step.rng.integers(8)
    rng: np.random.Generator = step.rng
    return rng


def test_a_box_resized_into_one_of_its_size_is_pasted() -> None:
    images, others = torch.zeros(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    box = Box(1, 5, 2, 8)
    torch.testing.assert_close(resized_into(images, others, box, box), paste(images, others, box))
    line = torch.arange(8.0).expand(1, 3, 8, 8)
    found = resized_into(torch.zeros(1, 3, 8, 8), line, Box(0, 8, 0, 7), Box(0, 4, 2, 6))
    torch.testing.assert_close(found[0, 0, 3, :7], torch.linspace(2, 5, 7))
    assert inside(torch.full((1, 8, 8), 1 / 64), box).item() == pytest.approx(24 / 64)


def test_a_backbone_that_pools_its_maps_itself_is_refused() -> None:
    with pytest.raises(UserError, match="this backbone pools them itself"):
        snapmix().attach(transformer())
    snapmix().attach(build_network("resnet8", "experts", 3))


# --- TransMix ------------------------------------------------------------------------------------------


def transmix(**fields: Any) -> TransMix:
    mix = build("transmix", **({"switch_probability": 1.0} | fields))
    assert isinstance(mix, TransMix)
    return mix


@pytest.mark.parametrize(("weight", "expected"), [(0.5, 0.4), (1.0, 0.3), (0.0, 0.5)])
def test_half_the_area_and_half_the_attention(weight: float, expected: float) -> None:
    attention, cells = torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.tensor([1.0, 1, 0, 0])
    for scale in (1.0, 0.7):  # what the class token pays itself is left out
        found = transmix(attention=weight).moved(0.5, scale * attention, cells)
        assert found.item() == pytest.approx(expected)


def test_attention_is_that_of_the_network_itself() -> None:
    from timm.layers import Attention

    layer, tokens, seen = Attention(8, num_heads=2, qkv_bias=True), torch.randn(3, 5, 8), []
    layer.fused_attn = False  # which shows its weights
    layer.attn_drop.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    layer(tokens)
    torch.testing.assert_close(class_attention(layer, tokens), seen[0].mean(1)[:, 0])


def test_attention_is_computed_in_float32_under_autocast() -> None:
    from timm.layers import Attention

    layer, tokens = Attention(8, num_heads=2), torch.randn(3, 5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = class_attention(layer, tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(1), torch.ones(3))  # bf16 shares sum to 1 within half a percent


def test_labels_follow_the_attention_of_the_training_pass() -> None:
    network, batch, partner = transformer().eval(), batch_of(size=3), batch_of(1, size=3)
    kept, mix = Watched(network), transmix(label_smoothing=0)
    mix.loss(kept.objective, batch, partner, step_at()).backward()
    mixed, box = mix.drawn(batch, partner, step_at())
    assert box is not None
    assert len(kept.images) == 1  # no further pass
    assert torch.equal(kept.images[0], mixed.images)
    with watched(network) as attentions:
        network(mixed.images)
    (attention,) = attentions
    assert attention.shape == (3, 4)
    expected = mix.moved(mixed.terms[1][1], attention, cells_in(box, mixed.images, network))
    (own, rest), (other, share) = kept.terms[0]
    torch.testing.assert_close(share, expected)
    torch.testing.assert_close(torch.as_tensor(rest) + torch.as_tensor(share), torch.ones(3))
    assert (own is batch.labels, other is partner.labels) == (True, True)
    assert not torch.as_tensor(share).requires_grad
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert not any(part._forward_pre_hooks for part in network.modules())


def test_patches_are_in_a_box_by_their_first_pixel() -> None:
    images, network = torch.zeros(1, 3, 8, 8), transformer()
    assert cells_in(Box(0, 4, 0, 8), images, network).tolist() == [1, 1, 0, 0]
    assert cells_in(Box(1, 8, 0, 5), images, network).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("head", ["linear", "experts"])
def test_a_step_is_finite_with_every_branch_and_precision(head: str, precision: str) -> None:
    kept = Watched(transformer(head))
    for seed, size in ((0, 5), (1, 1)):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = build("transmix").loss(kept.objective, batch_of(seed, size), None, step_at(seed=seed))
        assert loss.isfinite()
        target = sum(torch.as_tensor(share).expand(size) for _, share in kept.terms[-1])
        torch.testing.assert_close(target, torch.ones(size))


def test_other_batches_are_mixup_of_partners_in_opposite_order() -> None:
    batch = Batch(torch.randn(5, 3, 8, 8), torch.arange(5))
    kept = Watched(build_network("resnet8", "linear", 5))
    mixed = transmix(switch_probability=0, label_smoothing=0.1)(batch, None, step_at())
    (_, share), (other, _), (every, smoothing) = mixed.terms
    assert (other.tolist(), every, smoothing) == ([4, 3, 2, 1, 0], None, 0.1)  # type: ignore[union-attr]
    torch.testing.assert_close(mixed.images, torch.lerp(batch.images.flip(0), batch.images, share / 0.9))
    kept.objective = Objective(kept.objective.network, kept.reading, lambda answer, terms: answer.logits.sum())
    transmix(switch_probability=0).loss(kept.objective, batch, None, step_at())
    assert torch.equal(kept.images[0], mixed.images)


@pytest.mark.parametrize("backbone", ["resnet8", "timm/vit_base_patch16_siglip_224", "timm/swin_s3_tiny_224"])
def test_networks_without_a_class_token_are_refused(backbone: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=r"attention of a class token.*model\.backbone=deit-tiny"):
        class_attentions(build_network(backbone, "linear", 3))
