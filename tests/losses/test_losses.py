"""What every loss must survive, and what its settings may be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import COSINES, LABELS, LOGITS, STATS, build, gradient, value
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import ClassStats, generator
from lt_bench.errors import UserError
from lt_bench.losses import ClassWeights, Loss
from lt_bench.registry import members

LOSSES = sorted(members("loss"))


def test_the_mean_is_written_only_where_it_is_asked_for() -> None:
    for name in LOSSES:
        config = members("loss")[name].Config
        assert "mean" not in config().model_dump()
        assert config.read({"mean": "plain"}).model_dump()["mean"] == "plain"


@pytest.mark.parametrize("weights", [None, "effective-number"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("present", [[0, 0, 1, 1], [2, 2, 2, 2]], ids=["a class absent", "a single class"])
@pytest.mark.parametrize("name", LOSSES)
def test_finite_with_classes_absent(name: str, present: list[int], dtype: torch.dtype, weights: str | None) -> None:
    loss = build(name, **({} if name == "class-balanced" else {"weights": weights}))
    logits, labels = COSINES.to(dtype), torch.tensor(present)
    assert value(loss, logits, labels).dtype == torch.float32
    assert gradient(loss, logits, labels).isfinite().all()
    torch.testing.assert_close(logits, COSINES.to(dtype), rtol=0, atol=0)  # the input is left as it was


def test_losses_that_are_not_one_for_each_image_are_refused() -> None:
    class PerClass(Loss):
        def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
            return logits

    with pytest.raises(ValueError, match=r"PerClass.per_sample: expected one loss a label, \[4\], found \[4, 3\]"):
        PerClass(STATS)(LOGITS, LABELS)


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
@pytest.mark.parametrize(
    "settings", [{"name": "focal"}, {"name": "sigmoid-focal"}, {"name": "class-balanced", "form": "focal"}]
)
def test_focal_gradients_stay_finite_where_the_network_is_certain(settings: dict[str, Any], gamma: float) -> None:
    loss = build(**settings, gamma=gamma)
    certain = torch.tensor([[200.0, -200.0, -200.0], [-200.0, 200.0, -200.0]])
    for labels in (torch.tensor([0, 1]), torch.tensor([2, 2])):
        assert loss(certain, labels).isfinite()
        assert gradient(loss, certain, labels).isfinite().all()


@given(st.floats(0, 1))
def test_shares_make_soft_labels(share: float) -> None:
    partner = torch.tensor([2, 0, 1, 2])
    loss = build("cross-entropy")
    mixed = loss(LOGITS, LABELS, share) + loss(LOGITS, partner, 1 - share)
    soft = share * F.one_hot(LABELS, 3) + (1 - share) * F.one_hot(partner, 3)
    torch.testing.assert_close(mixed, F.cross_entropy(LOGITS, soft))


@pytest.mark.parametrize("name", LOSSES)
def test_shares_of_one_label_add_up_to_the_loss(name: str) -> None:
    loss = build(name)
    parts = value(loss, COSINES, share=0.3) + value(loss, COSINES, share=0.7)
    torch.testing.assert_close(parts, value(loss, COSINES))


@pytest.mark.parametrize("weights", [None, "effective-number"])
@pytest.mark.parametrize("name", LOSSES)
def test_shares_may_differ_from_image_to_image(name: str, weights: str | None) -> None:
    loss = build(name, **({} if name == "class-balanced" else {"weights": weights}))
    each = [value(loss, COSINES, share=F.one_hot(torch.tensor(image), 4).float()) for image in range(4)]
    torch.testing.assert_close(torch.stack(each).sum(), value(loss, COSINES))


@pytest.mark.parametrize("name", LOSSES)
def test_never_waits_for_the_device(name: str) -> None:
    # A meta tensor has no values: anything that would bring one to the host raises.
    loss, labels = build(name).to("meta"), LABELS.to("meta")
    logits = loss.disturbed(LOGITS.to("meta"), [labels], generator(0, "test"))
    assert value(loss, logits, labels, torch.ones(4, device="meta")).shape == ()


@pytest.mark.parametrize("name", LOSSES)
def test_disturbs_by_the_generator_alone_and_leaves_its_input(name: str) -> None:
    loss, logits = build(name), COSINES.clone()
    found = [loss.disturbed(logits, [LABELS, LABELS.flip(0)], generator(0, "test")) for _ in range(2)]
    assert torch.equal(*found)
    assert found[0].shape == COSINES.shape
    assert torch.equal(logits, COSINES)
    assert gradient(loss, loss.disturbed(logits, [LABELS], generator(0, "test"))).isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_keeps_scores_for_every_class(name: str) -> None:
    assert build(name).scores(COSINES).shape == (4, 3)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("focal", {"gamma": -1}),
        ("focal", {"gamma": float("inf")}),
        ("ldam", {"scale": 0}),
        ("logit-adjustment", {"tau": -0.1}),
        ("logit-adjustment", {"tau": float("nan")}),
        ("class-balanced", {"beta": 1}),
        ("class-balanced", {"form": "hinge"}),
        ("cross-entropy", {"weights": "inverse"}),
        ("balanced-softmax", {"tau": 1}),
        ("cdt", {"gamma": -0.1}),
        ("cdt", {"tau": 1}),
        ("vs", {"tau": float("inf")}),
        ("lade", {"lam": -1}),
        ("label-aware-smoothing", {"epsilon_head": 1.1}),
        ("label-aware-smoothing", {"form": "square"}),
        ("gcl", {"noise": -0.5}),
        ("gcl", {"scale": 0}),
        ("ib", {"alpha": 0}),
        ("seql", {"gamma": 1.1}),
        ("cross-entropy", {"weights": {"name": "inverse-frequency", "exponent": -1}}),
    ],
)
def test_refuses_settings_out_of_range(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        build(name, **settings)


@given(st.lists(st.integers(1, 10**7), min_size=2, max_size=20), st.sampled_from([0, 0.9, 0.9999, 1 - 1e-9]))
def test_weights_are_positive_and_sum_to_the_number_of_classes(counts: list[int], beta: float) -> None:
    weights = ClassWeights(name="effective-number", beta=beta).tensor(ClassStats(torch.tensor(counts)))
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum().item(), float(len(counts)), rtol=1e-5, atol=0)
