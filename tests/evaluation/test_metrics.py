from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lt_bench.data.groups import GROUPS, group_masks
from lt_bench.errors import UserError
from lt_bench.evaluation import evaluate_predictions, metrics


def cifar_counts(num_classes: int, largest: int, factor: float) -> list[int]:
    return [int(largest * (1 / factor) ** (k / (num_classes - 1))) for k in range(num_classes)]


def test_per_class_counts_by_hand() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 3]), np.array([0, 1, 0, 1, 0], np.int16)
    correct, total = metrics.per_class_counts(labels, predicted, 4)
    assert correct.tolist() == [2, 1, 0, 0]
    assert total.tolist() == [3, 1, 0, 1]


@given(st.data())
def test_counts_add_up(data: st.DataObject) -> None:
    labels, predicted = (
        data.draw(arrays.arrays(np.int64, 50, elements=st.integers(0, 4))),
        data.draw(arrays.arrays(np.int16, 50, elements=st.integers(0, 4))),
    )
    correct, total = metrics.per_class_counts(labels, predicted, 5)
    assert total.sum() == 50
    assert (correct <= total).all()
    assert metrics.top1(correct, total) == pytest.approx(np.mean(labels == predicted))


def test_means_of_class_accuracies_by_hand() -> None:
    accuracy = metrics.accuracy_by_class([8, 2, 5], [8, 4, 20])  # 1, 1/2, 1/4
    assert metrics.top1([8, 2, 5], [8, 4, 20]) == pytest.approx(15 / 32)
    assert metrics.balanced(accuracy) == pytest.approx(1.75 / 3)
    assert metrics.harmonic(accuracy) == pytest.approx(3 / (1 + 2 + 4))
    assert metrics.worst_class(accuracy) == 0.25


def test_a_class_without_test_images_is_left_out() -> None:
    accuracy = metrics.accuracy_by_class([1, 0, 2], [2, 0, 2])
    assert np.isnan(accuracy[1])
    assert metrics.balanced(accuracy) == 0.75
    assert metrics.harmonic(accuracy) == pytest.approx(2 / 3)
    assert metrics.worst_class(accuracy) == 0.5
    assert metrics.group_accuracy(accuracy, [200, 200, 5]) == {"many": 0.5, "medium": None, "few": 1.0}


def test_harmonic_mean_is_zero_with_an_unrecognised_class() -> None:
    assert metrics.harmonic(np.array([1.0, 0.0])) == 0.0


def test_group_rule_at_its_edges() -> None:
    masks = group_masks([101, 100, 20, 19])
    assert masks["many"].tolist() == [True, False, False, False]
    assert masks["medium"].tolist() == [False, True, True, False]
    assert masks["few"].tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("num_classes", "largest", "factor", "sizes"),
    [
        (100, 500, 10, [69, 31, 0]),
        (100, 500, 50, [41, 41, 18]),
        (100, 500, 100, [35, 35, 30]),
        (100, 500, 200, [30, 31, 39]),
        (10, 5000, 100, [8, 2, 0]),
        (10, 5000, 50, [9, 1, 0]),
    ],
)
def test_group_sizes_of_cifar(num_classes: int, largest: int, factor: float, sizes: list[int]) -> None:
    masks = group_masks(cifar_counts(num_classes, largest, factor))
    assert [int(masks[name].sum()) for name in GROUPS] == sizes


@pytest.mark.parametrize("images", [5, 50, 500])
def test_classes_of_one_size_are_in_no_group(images: int) -> None:
    """Or one of the three would repeat top-1 under a name of the long tail."""
    assert metrics.group_accuracy(np.array([0.5, 1.0]), [images, images]) == dict.fromkeys(GROUPS)


def test_ece_oracle() -> None:
    confidence = np.array([0.95, 0.6, 0.3, 0.8, 1, 0.93, 0.2])
    labels, right = np.zeros(7, np.int64), np.array([1, 0, 1, 1, 0, 1, 0])
    bins = metrics.calibration_bins(labels, 1 - right, confidence)
    assert metrics.ece(bins) == pytest.approx(0.388571, abs=1e-6)


@pytest.mark.parametrize(
    ("confidence", "expected"), [(0.0, 0), (1 / 15, 0), (1 / 15 + 1e-9, 1), (14 / 15, 13), (1.0, 14)]
)
def test_a_confidence_on_an_edge_falls_in_the_lower_bin(confidence: float, expected: int) -> None:
    bins = metrics.calibration_bins(np.array([0]), np.array([0]), np.array([confidence]))
    assert bins.count.argmax() == expected


@given(arrays.arrays(np.float32, 40, elements=st.floats(0, 1, width=32)), st.integers(0, 2**32 - 1))
def test_bins_hold_every_prediction_once(confidence: np.ndarray, seed: int) -> None:
    labels, predicted = np.random.default_rng(seed).integers(0, 3, (2, 40))
    bins = metrics.calibration_bins(labels, predicted, confidence)
    assert bins.count.sum() == 40
    assert bins.correct.sum() == (labels == predicted).sum()
    assert bins.confidence_sum.sum() == pytest.approx(confidence.sum(dtype=np.float64))
    centre = (np.arange(15) + 0.5) / 15
    filled = bins.count > 0
    assert (np.abs(bins.confidence_sum / np.maximum(bins.count, 1) - centre)[filled] <= 0.5 / 15 + 1e-6).all()
    assert 0 <= metrics.ece(bins) <= 1


def test_a_diverged_network_has_no_calibration_error() -> None:
    bins = metrics.calibration_bins(np.array([0, 1]), np.array([0, 0]), np.array([np.nan, 0.5]))
    assert bins.count.sum() == 2
    assert np.isnan(metrics.ece(bins))


# --- from predictions ---------------------------------------------------------------------------------


def test_predictions_give_all_that_is_told_of_a_run() -> None:
    found = evaluate_predictions(
        labels=[0, 0, 1, 1, 2, 2],
        predicted=torch.tensor([0, 0, 1, 0, 0, 0]),
        confidence=torch.tensor([0.75, 0.75, 0.5, 0.5, 0.5, 0.5]),
        train_counts=[500, 50, 5],
    )
    # Bins: two right of two at 0.75, one right of four at 0.5.
    expected_ece = (2 * 0.25 + 4 * 0.25) / 6
    assert found.pop("ece") == pytest.approx(expected_ece)
    groups = {"many": 1.0, "medium": 0.5, "few": 0.0}
    assert found == {"top1": 0.5, **groups, "worst_class": 0.0, "correct": [2, 1, 0], "total": [2, 2, 2]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicted": [0]}, r"should be \[N\], found \[2\], \[1\], \[2\]"),
        ({"labels": [0, 3]}, "labels: should be integers in 0..1, as there are 2 counts"),
        ({"predicted": [0.5, 0.5]}, "predicted: should be integers in 0..1"),
        ({"predicted": [-1, 0]}, "predicted: should be integers in 0..1"),
        ({"confidence": [0.5, math.nan]}, "confidence: should be probabilities"),
        ({"confidence": [0.5, 7.0]}, "confidence: should be probabilities"),
        ({"confidence": None}, "confidence: should be numbers, found null"),
        ({"confidence": ["a", "b"]}, "confidence: should be numbers"),
        ({"confidence": torch.empty(2, device="meta")}, "confidence: should be numbers"),
        ({"labels": [[0], [0, 1]]}, "labels: should be numbers"),
        ({"train_counts": [5, -1]}, "train_counts: should be whole numbers"),
        ({"train_counts": [5.5, 5]}, "train_counts: should be whole numbers"),
        ({"labels": [], "predicted": [], "confidence": []}, r"should be \[N\]"),
    ],
)
def test_what_is_no_prediction_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"labels": [0, 1], "predicted": [0, 1], "confidence": [0.5, 0.5], "train_counts": [5, 5]}
    with pytest.raises(UserError, match=message):
        evaluate_predictions(**given | change)


def test_any_tensor_is_a_confidence() -> None:
    for confidence in (torch.tensor([0.5, 0.75], dtype=torch.bfloat16), torch.tensor([0.5, 0.75], requires_grad=True)):
        assert evaluate_predictions([0, 1], [0, 1], confidence, [5, 5])["ece"] == pytest.approx(0.375)
