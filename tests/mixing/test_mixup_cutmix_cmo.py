"""Mixup, CutMix and CMO against their cards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mix_cases import STATS, batch_of, build, constant, step_at
from torch.nn import functional as F
from torchvision.transforms import v2

from lt_bench.data.types import Batch, Epoch, IntArray
from lt_bench.mixing import Mixed
from lt_bench.mixing.boxes import Box, box_around, draw_box, paste
from lt_bench.mixing.cmo import CMO
from lt_bench.mixing.cutmix import cutmix_pair
from lt_bench.mixing.mixup import draw_share, mixup_pair
from lt_bench.registry import lookup

LABELS = np.repeat(np.arange(3), [100, 10, 1])


# --- mixup -------------------------------------------------------------------------------------------


def mixup_at(share: float, batch: Batch, partner: Batch, monkeypatch: pytest.MonkeyPatch) -> Mixed:
    monkeypatch.setattr("lt_bench.mixing.mixup.draw_share", lambda *_: share)
    return mixup_pair(batch, partner, 1.0, step_at().rng)


def test_mixup_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(8.0).reshape(2, 1, 2, 2)
    labels = torch.tensor([0, 1])
    mixed = mixup_at(0.3, Batch(images, labels), Batch(images.flip(0), labels.flip(0)), monkeypatch)
    torch.testing.assert_close(mixed.images.flatten(), torch.tensor([2.8, 3.8, 4.8, 5.8, 1.2, 2.2, 3.2, 4.2]))
    assert [(labels.tolist(), share) for labels, share in mixed.terms] == [([0, 1], 0.3), ([1, 0], 0.7)]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_mixup_at_the_ends_is_one_image(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, partner = batch_of(0), batch_of(1)
    mixed = mixup_at(share, batch, partner, monkeypatch)
    assert torch.equal(mixed.images, batch.images if share else partner.images)


def test_mixup_loss_by_hand() -> None:
    # log softmax of (2, 1, 0) is (-.407606, -1.407606, -2.407606); .3 * .407606 + .7 * 2.407606 = 1.807606.
    logits, labels = torch.tensor([[2.0, 1.0, 0.0]]), (torch.tensor([0]), torch.tensor([2]))
    criterion = lookup("loss", "cross-entropy")(STATS)
    loss = sum(criterion(logits, label, share) for label, share in zip(labels, (0.3, 0.7), strict=True))
    assert loss.item() == pytest.approx(1.8076059)
    assert F.cross_entropy(logits, torch.tensor([[0.3, 0.0, 0.7]])).item() == pytest.approx(1.8076059)


def test_a_mixed_label_has_two_classes_or_one_twice() -> None:
    batch = batch_of(size=64)
    mixed = build("mixup")(batch, None, step_at())
    (own, share), (other, rest) = mixed.terms
    soft = torch.as_tensor(share) * F.one_hot(own, 3) + torch.as_tensor(rest) * F.one_hot(other, 3)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(64))
    assert torch.equal((soft > 0).sum(dim=1), 1 + (own != other).int())


def test_mixup_keeps_the_mean_of_the_batch() -> None:
    batch = batch_of(size=7)
    for seed in range(5):
        mixed = build("mixup")(batch, None, step_at(seed=seed))
        torch.testing.assert_close(mixed.images.mean(dim=0), batch.images.mean(dim=0))


@pytest.mark.parametrize(
    ("alpha", "variance", "larger"), [(0.2, 0.178571, 0.89881), (1, 0.083333, 0.75), (2, 0.05, 0.6875)]
)
def test_share_follows_the_beta_law(alpha: float, variance: float, larger: float) -> None:
    rng = step_at().rng
    shares = np.array([draw_share(alpha, rng) for _ in range(40_000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert shares.var() == pytest.approx(variance, abs=0.003)
    assert np.maximum(shares, 1 - shares).mean() == pytest.approx(larger, abs=0.005)


@pytest.mark.parametrize(
    ("name", "field"),
    [("mixup", "alpha"), ("cutmix", "beta"), ("balanced-mixup", "alpha"), ("label-occurrence-balanced-mixup", "alpha")],
)
def test_a_beta_law_with_zero_parameter_does_not_mix(name: str, field: str) -> None:
    batch = batch_of()
    mixed = build(name, **{field: 0})(batch, batch_of(1), step_at())
    assert torch.equal(mixed.images, batch.images)
    assert mixed.terms[0][1] == 1.0


# --- boxes and CutMix --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "row", "column", "box", "outside"),
    [
        (0.5, 16, 16, Box(5, 27, 5, 27), 0.52734375),
        (0.5, 0, 0, Box(0, 11, 0, 11), 0.8818359375),
        (0.75, 16, 16, Box(8, 24, 8, 24), 0.75),
        (0.75, 31, 31, Box(23, 32, 23, 32), 0.9208984375),
        (0.0, 16, 16, Box(0, 32, 0, 32), 0.0),
        (0.0, 0, 0, Box(0, 16, 0, 16), 0.75),
        (1.0, 16, 16, Box(16, 16, 16, 16), 1.0),
        (0.999, 16, 16, Box(16, 16, 16, 16), 1.0),
        (0.9, 16, 31, Box(11, 21, 26, 32), 0.94140625),
        (0.3, 20, 10, Box(7, 32, 0, 23), 0.4384765625),
        (0.55, 16, 16, Box(6, 26, 6, 26), 0.609375),
    ],
)
def test_box_of_the_official_code(share: float, row: int, column: int, box: Box, outside: float) -> None:
    assert box_around(row, column, 32, 32, share) == box
    assert box.share_outside(32, 32) == outside


def test_box_has_the_aspect_of_the_image() -> None:
    assert box_around(10, 20, 20, 40, 0.75) == Box(5, 15, 10, 30)


@given(st.floats(0, 1), st.integers(0, 31), st.integers(0, 31))
def test_clipping_only_gives_area_back(share: float, row: int, column: int) -> None:
    box = box_around(row, column, 32, 32, share)
    cut = int(32 * math.sqrt(1 - share))
    assert 1 - (cut / 32) ** 2 <= box.share_outside(32, 32) <= 1


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 48)])
def test_box_equals_that_of_torchvision(height: int, width: int) -> None:
    transform = v2.CutMix(num_classes=3)
    for seed in range(100):
        torch.manual_seed(seed)
        params = transform.make_params([torch.zeros(2, 3, height, width)])
        torch.manual_seed(seed)  # its draws once more: share, column, row
        share = float(transform._dist.sample(()))
        column, row = int(torch.randint(width, (1,))), int(torch.randint(height, (1,)))
        box = box_around(row, column, height, width, share)
        assert (box.left, box.top, box.right, box.bottom) == params["box"]
        assert box.share_outside(height, width) == params["lam_adjusted"]


def test_expected_share_and_empty_boxes() -> None:
    # Exactly: the side is k with P(k) = ((k + 1)^2 - k^2) / 32^2; rows and columns are clipped independently.
    expected = empty = 0.0
    for k in range(32):
        probability = (2 * k + 1) / 32**2
        boxes = [box_around(row, 0, 32, 32, 1 - ((k + 0.5) / 32) ** 2) for row in range(32)]
        mean_side = sum(box.bottom - box.top for box in boxes) / 32
        expected += probability * (1 - mean_side**2 / 32**2)
        empty += probability * (mean_side == 0)
    assert expected == pytest.approx(0.7011, abs=0.001)
    assert empty == pytest.approx(0.0039, abs=1e-4)


def test_drawn_boxes_have_the_expected_share() -> None:
    rng = step_at().rng
    shares = [draw_box(32, 32, draw_share(1.0, rng), rng).share_outside(32, 32) for _ in range(20_000)]
    assert np.mean(shares) == pytest.approx(0.7011, abs=0.005)
    assert np.mean(np.equal(shares, 1)) == pytest.approx(0.0039, abs=0.002)


def test_paste_copies_the_box_and_nothing_else() -> None:
    mixed = paste(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), Box(1, 3, 0, 2))
    assert mixed[0, 0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]


def test_cutmix_labels_follow_the_pixels() -> None:
    background, foreground = constant(0, [0, 1]), constant(1, [2, 2])
    for seed in range(20):
        mixed = cutmix_pair(background, foreground, 1.0, step_at(seed=seed).rng)
        (first, share), (second, rest) = mixed.terms
        assert set(mixed.images.unique().tolist()) <= {0.0, 1.0}
        assert mixed.images.mean().item() == pytest.approx(1 - share)
        assert torch.equal(mixed.images[0], mixed.images[1])  # one box for the batch
        assert (first.tolist(), second.tolist()) == ([0, 1], [2, 2])
        assert rest == 1 - share


@pytest.mark.parametrize(("name", "probability"), [("cutmix", 0.5), ("cutmix", 1.0), ("cmo", 0.5), ("cmo", 0.0)])
def test_the_coin_is_tossed_once_per_batch(name: str, probability: float) -> None:
    mix, step = build(name, probability=probability), step_at()
    background, foreground = constant(0, [0, 1]), constant(1, [2, 2])
    mixed = [len(mix(background, foreground, step).terms) == 2 for _ in range(2000)]
    assert np.mean(mixed) == pytest.approx(probability, abs=0.04)


# --- CMO ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "active"), [(200, 193), (100, 93), (400, 393), (7, 0)])
def test_active_epochs(total: int, active: int) -> None:
    cmo = build("cmo")
    assert isinstance(cmo, CMO)
    epochs = [index for index in range(total) if cmo.active(Epoch(index, total, 0))]
    assert len(epochs) == active
    assert epochs == list(range(4, total - 3))


def test_outside_its_epochs_cmo_is_plain_and_needs_no_second_stream() -> None:
    cmo, batch = build("cmo", probability=1), batch_of()
    for index in (0, 3, 197, 199):
        assert cmo.partner_order(np.arange(111), LABELS, Epoch(index, 200, 0)) is None
        assert cmo(batch, None, step_at(index)).images is batch.images
    for index in (4, 196):
        assert len(cmo(batch, batch_of(1), step_at(index)).terms) == 2


@pytest.mark.parametrize(
    ("exponent", "probability"),
    [
        (0, [0.900901, 0.090090, 0.009009]),
        (0.5, [0.706101, 0.223289, 0.070610]),
        (1, [1 / 3, 1 / 3, 1 / 3]),
        (2, [0.009009, 0.090090, 0.900901]),
    ],
)
def test_foreground_classes(exponent: float, probability: list[float]) -> None:
    main = np.zeros(200_000, dtype=np.int64)  # only its length matters
    order = build("cmo", exponent=exponent).partner_order(main, LABELS, Epoch(10, 200, 0))
    assert order is not None
    assert len(order) == len(main)
    np.testing.assert_allclose(np.bincount(LABELS[order]) / len(order), probability, atol=0.004)


def test_foreground_is_independent_of_the_background_and_new_each_epoch() -> None:
    def order(main: IntArray, epoch: int, seed: int = 0) -> list[int]:
        found = build("cmo").partner_order(main, LABELS, Epoch(epoch, 200, seed))
        assert found is not None
        return found.tolist()

    forward = np.arange(111)
    assert order(forward, 10) == order(forward[::-1].copy(), 10)
    assert order(forward, 10) != order(forward, 11)
    assert order(forward, 10) != order(forward, 10, seed=1)


def test_cmo_of_uniform_foregrounds_is_cutmix_with_an_independent_partner() -> None:
    batch, partner = batch_of(0), batch_of(1)
    for seed in range(8):
        pasted = build("cmo", probability=1, exponent=0)(batch, partner, step_at(seed=seed))
        cut = build("cutmix", probability=1)(batch, partner, step_at(seed=seed))
        assert torch.equal(pasted.images, cut.images)
        for (labels, share), (expected, other) in zip(pasted.terms, cut.terms, strict=True):
            assert torch.equal(labels, expected)
            assert share == other


def test_cmo_pastes_the_second_stream_into_the_first() -> None:
    mixed = build("cmo", probability=1)(constant(0, [0, 1]), constant(1, [2, 2]), step_at(seed=2))
    (background, share), (foreground, _) = mixed.terms
    assert 0 < share < 1
    assert mixed.images.mean().item() == pytest.approx(1 - share)
    assert (background.tolist(), foreground.tolist()) == ([0, 1], [2, 2])


def test_equal_labels_leave_the_loss_as_it_is() -> None:
    batch, partner = constant(0, [2, 1]), constant(1, [2, 1])
    mixed = build("cmo", probability=1)(batch, partner, step_at(seed=2))
    logits = torch.tensor([[0.1, 0.5, -1.0], [2.0, 0.0, 1.0]])
    loss = sum((share * F.cross_entropy(logits, labels) for labels, share in mixed.terms), torch.zeros(()))
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch.labels))


def test_default_settings_are_those_of_the_paper() -> None:
    assert build("cmo").config.model_dump() == {
        "probability": 0.5,
        "beta": 1.0,
        "exponent": 1.0,
        "start_epoch": 3,
        "stop_before_end": 3,
    }
