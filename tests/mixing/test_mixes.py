"""What holds for every mix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mix_cases import batch_of, build, constant, step_at, whole

from lt_bench.data.types import Batch
from lt_bench.errors import UserError
from lt_bench.registry import members

MIXES = sorted(members("mix"))
MIXING = sorted(name for name, mix in members("mix").items() if mix.of_two_labels)  # type: ignore[attr-defined]
"""Mixes whose targets are of two labels and sum to one: neither soft augmentation nor TokenMix and its like."""
MOVING = {"resizemix", "guided-mixup", "puzzlemix"}
"""Mixes that move pixels, or choose partners within the batch."""
HIDDEN = {"manifold-mixup", "noisy-feature-mixup", "alignmixup"}
"""Mixes of hidden features, whose partners are always of the batch."""
WAITING = {"saliencymix", "puzzlemix", "co-mixup"}
"""Mixes that look at images on the processor."""
DRAWING = {"noisy-feature-mixup"}
"""Mixes that draw on the device."""
TWO_STREAMS = {"cmo", "balanced-mixup"}
"""Mixes that are nothing without a second stream."""


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 5), height=st.integers(1, 12), width=st.integers(1, 12))
@pytest.mark.parametrize("name", sorted({*MIXING} - HIDDEN))
def test_shares_sum_to_one_and_inputs_stay(name: str, seed: int, size: int, height: int, width: int) -> None:
    batch, partner = batch_of(seed, size, height, width), batch_of(seed + 1, size, height, width)
    before = [tensor.clone() for tensor in (batch.images, batch.labels, partner.images, partner.labels)]
    mixed = build(name)(batch, partner, step_at(seed=seed))
    assert mixed.images.shape == batch.images.shape
    shares = torch.stack([torch.as_tensor(share).expand(size) for _, share in mixed.terms])
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(size))
    assert ((shares >= 0) & (shares <= 1)).all()
    lowest, highest = torch.minimum(batch.images, partner.images), torch.maximum(batch.images, partner.images)
    if name in MOVING:
        lowest, highest = lowest.min(), highest.max()
    assert ((mixed.images >= lowest - 1e-6) & (mixed.images <= highest + 1e-6)).all()
    for tensor, old in zip((batch.images, batch.labels, partner.images, partner.labels), before, strict=True):
        assert torch.equal(tensor, old)


@pytest.mark.parametrize("name", MIXES)
def test_draws_only_from_the_step(name: str) -> None:
    mix, results = build(name), []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        results.append([mix(batch_of(), batch_of(1), step_at(seed=seed)).images for seed in range(8)])
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", sorted(set(MIXES) - WAITING - DRAWING))
def test_never_waits_for_the_device(name: str) -> None:
    # A meta tensor has no values: anything that would bring one to the host raises.
    mix = build(name).to("meta")
    labels = torch.empty(4, dtype=torch.int64, device="meta")
    batch = Batch(torch.empty(4, 3, 8, 8, device="meta"), labels, whole(4).to("meta"))
    partners: list[Batch | None] = [batch] if name in TWO_STREAMS else [batch, None]
    for partner in partners:
        for seed in range(4):
            assert mix(batch, partner, step_at(seed=seed)).images.shape == batch.images.shape


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_says_why_if_chosen_partners_mean_nothing_to_it(name: str) -> None:
    """Or it would be a generator of class-distance-mix-ours that does something else than it says."""
    mix, batch, partner = build(name), constant(0, [0, 0]), constant(1, [1, 2])
    mixtures = [mix(batch, partner, step_at(seed=seed)) for seed in range(20)]
    found = [labels for mixed in mixtures for labels, _ in mixed.terms]
    takes_it = any(labels is not None and torch.equal(labels, partner.labels) for labels in found)
    assert takes_it or mix.refuses_partners


@pytest.mark.parametrize("name", sorted(set(MIXING) - TWO_STREAMS - {"unimix"}))  # which draws with replacement
def test_without_a_second_stream_partners_come_from_the_batch(name: str) -> None:
    batch = batch_of(size=6)
    for seed in range(8):
        for labels, _ in build(name)(batch, None, step_at(seed=seed)).terms:
            assert sorted(labels.tolist()) == sorted(batch.labels.tolist())


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("mixup", {"alpha": -1}),
        ("mixup", {"alpha": float("inf")}),
        ("cutmix", {"probability": 1.5}),
        ("cutmix", {"alpha": 1}),
        ("cmo", {"exponent": float("nan")}),
        ("cmo", {"start_epoch": 2.5}),
        ("remix", {"kappa": 1}),
        ("remix", {"tau": -0.1}),
        ("unimix", {"alpha": 0}),
        ("unimix", {"tau": 0.5}),
        ("balanced-mixup", {"alpha": -0.1}),
        ("label-occurrence-balanced-mixup", {"start_epoch": -1}),
        ("mixrnet", {"mode": "sixth"}),
        ("mixrnet", {"alpha": 0}),
        ("mixup-or-cutmix", {"probability": 1.5}),
        ("manifold-mixup", {"layers": []}),
        ("manifold-mixup", {"layers": [0, 0]}),
        ("manifold-mixup", {"layers": [-1]}),
        ("mixupe", {"form": "accurate"}),
        ("automix", {"lambda_margin": 0.5}),
        ("samix", {"k": -1}),
        ("hmix", {"ratio": 1.1}),
        ("gmix", {"beta": -1}),
        ("lumix-ours", {"predicted": 0.6, "random": 0.5}),
        ("lumix-ours", {"generator": "lumix-ours"}),
        ("lumix-ours", {"generator": "nothing"}),
        ("lumix-ours", {"generator": "mixupe"}),  # whose second term would be lost without a word
        ("soft-augmentation", {"power": 0}),
        ("soft-augmentation", {"until": 0}),
        ("lumix-ours", {"generator": "tokenmix"}),  # whose targets are no two shares
        ("attentive-cutmix", {"cells": 50}),
        ("saliencymix", {"beta": -1}),
        ("snapmix", {"beta": -1}),
        ("puzzlemix", {"gamma": 1.1}),
        ("transmix", {"attention": 1.1}),
        ("tokenmix", {"label_smoothing": 1}),
        ("tokenmix", {"patch_size": 0}),
        ("fmix", {"alpha": -1}),
        ("resizemix", {"smallest": 0.9}),
        ("smoothmix", {"widest": 0.1}),
        ("ricap", {"beta": 0}),
        ("decouple-mix", {"eta": -1}),
        ("guided-mixup", {"pairing": "none"}),
        ("augmix", {"severity": 11}),
        ("recursive-mix", {"alpha": 0}),
        ("adautomix", {"samples": 4}),
        ("sumix", {"scale": 0}),
        ("sumix", {"generator": "mixupe"}),
        ("gridmixup", {"alpha": 0}),
        ("noisy-feature-mixup", {"additive": -1}),
        ("noisy-feature-mixup", {"layers": [1, 1]}),
        ("alignmixup", {"epsilon": 0}),
        ("alignmixup", {"rounds": 0}),
        ("sample-pairing", {"on": 0}),
        ("pixmix", {"rounds": 0}),
        ("pixmix", {"severity": 11}),
        ("pixmix", {"pictures": "no such folder"}),
        ("sample-pairing", {"start": 1}),
        ("minority-partners", {"exponent": -1}),
        ("minority-partners", {"generator": "automix"}),
        ("class-distance-mix-ours", {"temperature": 0}),
        ("class-distance-mix-ours", {"momentum": 1}),
        ("class-distance-mix-ours", {"distance": "cosine"}),
    ],
)
def test_refuses_settings_out_of_range(name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        build(name, **fields)


def test_none_gives_the_batch_itself() -> None:
    batch = batch_of()
    mixed = build("none")(batch, None, step_at())
    assert mixed.images is batch.images
    assert mixed.terms == ((batch.labels, 1.0),)
