"""The mask generators of AutoMix and SAMix, and what their masks cost, against the values of the cards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.mixing.automix import AutoMix
from lt_bench.mixing.mix_block import (
    MixBlock,
    Mixer,
    Pairing,
    adjusted,
    attention,
    embedded,
    excess,
    excess_less_variance,
    initialised,
)
from lt_bench.mixing.momentum_mix import momentum_at
from lt_bench.protocol import Schedule

PAIRING, SIZE = Pairing(torch.tensor([1, 2, 0]), 0.3), torch.Size((8, 8))
BLOCKS: list[Callable[[], nn.Module]] = [
    lambda: MixBlock(6),
    lambda: MixBlock(6, concat=True),
    lambda: Mixer(6),
    lambda: Mixer(6, k=None),
]


def features() -> Tensor:
    return torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(0))


def maps(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def masks(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


# --- masks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", BLOCKS)
def test_without_weights_masks_are_a_half_and_images_their_mean(build: Callable[[], nn.Module]) -> None:
    block = build()
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    found = block(features(), PAIRING, SIZE)
    assert (found == 0.5).all()
    images = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(PAIRING.mixed(images, found), (images + images[PAIRING.order]) / 2)


def test_without_queries_a_mask_is_the_partner_s_mean_value() -> None:
    block = MixBlock(6)
    nn.init.zeros_(block.query_key.weight)
    assert block.query_key.bias is not None
    nn.init.zeros_(block.query_key.bias)
    values = block.value(features()[PAIRING.order]).mean((1, 2, 3)).sigmoid()
    torch.testing.assert_close(block(features(), PAIRING, SIZE), values.view(3, 1, 1, 1).expand(3, 1, 8, 8))


def test_the_block_asks_of_the_image_and_answers_by_its_partner() -> None:
    """q = conv(a, share), k = conv(b, 1 - share), v = conv(b, 1 - share), by hand."""
    block, given = MixBlock(6, concat=True), features()
    height, width = given.shape[2:]
    channel = torch.ones(3, 1, height, width)
    own = torch.cat([given, PAIRING.share * channel], 1)
    other = torch.cat([given[PAIRING.order], (1 - PAIRING.share) * channel], 1)
    query, key, value = (part.flatten(2) for part in (block.query_key(own), block.query_key(other), block.value(other)))
    places = (query.transpose(1, 2) @ key / query.shape[1] ** 0.5).softmax(-1)
    expected = (value @ places.transpose(1, 2)).view(3, 1, height, width).sigmoid()
    torch.testing.assert_close(block(given, PAIRING, torch.Size((height, width))), expected)


def test_attention_is_that_of_the_card() -> None:
    q, k, v = maps(1, 0), maps(2, -1), maps(1, -1)
    found = attention(q, k, v)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.905148, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.sigmoid().flatten(), torch.tensor([0.712006, 0.5]), atol=1e-6, rtol=0)
    first, second = (attention(q, k, maps(*row)).flatten() for row in ((1, 0), (0, 1)))  # the columns of P
    torch.testing.assert_close(first, torch.tensor([0.952574, 0.5]), atol=1e-6, rtol=0)
    torch.testing.assert_close(second, torch.tensor([0.047426, 0.5]), atol=1e-6, rtol=0)


def test_attention_by_hand_in_more_dimensions() -> None:
    q, k, v = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4), torch.randn(2, 1, 3, 4)
    places = (q.flatten(2).transpose(1, 2) @ k.flatten(2) / 5**0.5).softmax(-1)
    torch.testing.assert_close(attention(q, k, v).flatten(2), (v.flatten(2) @ places.transpose(1, 2)))


def test_automix_repeats_its_values_and_samix_interpolates_before_the_sigmoid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.mixing.mix_block.attention", lambda *_: maps(0, 4).expand(3, 1, 1, 2))
    size = torch.Size((1, 4))
    bilinear, nearest = (block(features(), PAIRING, size)[0].flatten() for block in (Mixer(6), MixBlock(6)))
    torch.testing.assert_close(bilinear, torch.tensor([0.5, 0.731059, 0.952574, 0.982014]), atol=1e-6, rtol=0)
    torch.testing.assert_close(nearest, torch.tensor([0.5, 0.5, 0.982014, 0.982014]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("block", "count"),
    [
        (lambda: MixBlock(256), 33_153),
        (lambda: MixBlock(1024, concat=True), 526_338),
        (lambda: Mixer(256), 164_480),
    ],
)
def test_parameters_are_as_many_as_on_the_cards(block: Callable[[], nn.Module], count: int) -> None:
    assert sum(p.numel() for p in block().parameters()) == count


@pytest.mark.parametrize("build", BLOCKS)
def test_masks_are_float32_under_autocast(build: Callable[[], nn.Module]) -> None:
    block = build().eval()
    with torch.autocast("cpu", torch.bfloat16):
        found = block(features().bfloat16(), PAIRING, SIZE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, block(features().bfloat16().float(), PAIRING, SIZE))


@pytest.mark.parametrize(("build", "seen"), [*zip(BLOCKS, [False, True, True, True], strict=True)])
def test_all_but_the_plain_block_see_the_share(build: Callable[[], nn.Module], seen: bool) -> None:
    block = build().eval()
    first, second = (block(features(), Pairing(PAIRING.order, share), SIZE) for share in (0.3, 0.8))
    assert torch.equal(first, second) is not seen


def test_a_fresh_block_is_small_the_same_and_leaves_the_global_state() -> None:
    before = torch.random.get_rng_state()
    block, again = initialised(lambda: Mixer(64)), initialised(lambda: Mixer(64))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(map(torch.equal, block.state_dict().values(), again.state_dict().values()))
    assert float(block.query.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert block.query.bias is not None
    assert not block.query.bias.any()
    assert (initialised(lambda: MixBlock(6))(features(), PAIRING, SIZE) - 0.5).abs().max() < 0.01


def test_a_mask_is_the_partner_s_part() -> None:
    images = torch.tensor([10.0, 20, 30]).view(3, 1, 1, 1).expand(3, 3, 8, 8)
    assert PAIRING.mixed(images, masks(0, 0.5, 1))[:, 0, 0, 0].tolist() == [10, 25, 10]
    assert torch.equal(PAIRING.mixed(images, 0.0), images)
    labels = torch.tensor([4, 5, 6])
    (own, share), (other, rest) = PAIRING.terms(labels)
    assert own is not None
    assert other is not None
    assert (own.tolist(), share, other.tolist(), rest) == ([4, 5, 6], 0.3, [5, 6, 4], 0.7)


# --- the share ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "share", "expected"),
    [
        *[(0.25, s, g) for s, g in ((0, 0), (0.1, 0.182286), (0.25, 0.357143), (0.5, 0.5))],
        *[(0.25, s, g) for s, g in ((0.75, 0.642857), (0.9, 0.817714), (1, 1))],
        (0.0, 0.1, 0.244),
        (0.0, 0.25, 0.4375),
        (None, 0.3, 0.3),
    ],
)
def test_shares_are_embedded_as_on_the_card(k: float | None, share: float, expected: float) -> None:
    assert embedded(share, k) == pytest.approx(expected, abs=1e-6)
    assert embedded(1 - share, k) == pytest.approx(1 - expected, abs=1e-6)


@pytest.mark.parametrize(("mean", "expected"), [(0.5, 0.1), (0.65, 0), (0.2, 0.4), (0.9, 0.1)])
def test_excess_of_the_card(mean: float, expected: float) -> None:
    assert float(excess(masks(mean - 0.1, mean + 0.1), 0.3, 0.1)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [((0, 1, 0, 1), 0.5, -0.5), ((0.5, 0.5), 0.5, 0), ((0.2, 0.4, 0.6, 0.8), 0.3, 0), ((0.9, 0.9), 0.5, 0.3)],
)
def test_excess_less_variance_of_the_card(values: tuple[float, ...], share: float, expected: float) -> None:
    assert float(excess_less_variance(masks(*values), share, 0.1)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("own", "share", "expected"), [((0.2, 0.4), 0.5, (0.428571, 0.571429)), ((0.4, 0.6), 0.3, (0.24, 0.36))]
)
def test_masks_are_adjusted_as_on_the_card(own: tuple[float, ...], share: float, expected: tuple[float, ...]) -> None:
    # Two images: one mean each.
    found = 1 - adjusted(1 - torch.cat([maps(*own), maps(share, share)]), share)
    torch.testing.assert_close(found[0].flatten(), torch.tensor(expected), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1].flatten(), torch.full((2,), share))
    assert float(found[0].mean()) == pytest.approx(share, abs=1e-6)


def test_a_weight_of_absent_classes_changes_no_soft_cross_entropy() -> None:
    """Which is why there is no setting `neg_weight`."""
    logits, soft = torch.randn(4, 5, dtype=torch.float64), torch.zeros(4, 5, dtype=torch.float64)
    soft[:, 1], soft[:, 3] = 0.3, 0.7
    weighted = -(soft * torch.where(soft == 0, 0.5, 1.0) * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(weighted, F.cross_entropy(logits, soft), rtol=1e-14, atol=0)


# --- schedules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "expected"),
    [(0.05, 0.999), (0.1, 0.99902445), (0.25, 0.99914630), (0.5, 0.9994995), (0.75, 0.99985270), (1, 0.999999)],
)
def test_the_momentum_of_the_card(time: float, expected: float) -> None:
    config = AutoMix.Config()
    found = momentum_at(time, config.momentum, config.momentum_end, config.momentum_from)
    assert found == pytest.approx(expected, abs=5e-9)


def test_the_protocol_s_cosine_is_that_of_the_card() -> None:
    schedule = Schedule(name="cosine", warmup_epochs=0, minimum_lr=0.05)
    rates = [round(0.1 * schedule.factor(epoch, 0, 1, 800, 0.1), 5) for epoch in (0, 200, 400, 600, 799)]
    assert rates == [0.1, 0.09268, 0.075, 0.05732, 0.05]


def test_how_often_a_share_lies_in_the_margin() -> None:
    config = AutoMix.Config()
    law = stats.beta(config.alpha, config.alpha)
    assert 2 * law.cdf(config.lambda_margin) == pytest.approx(0.036352, abs=1e-6)
    drawn = np.random.default_rng(0).beta(config.alpha, config.alpha, 200_000)
    assert (np.minimum(drawn, 1 - drawn) <= config.lambda_margin).mean() == pytest.approx(0.036352, abs=0.002)
