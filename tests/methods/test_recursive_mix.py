"""RecursiveMix: what lies in the box, whose labels count how much, and what is asked for there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from method_cases import batch_of, step_at, tiny_network
from run_cases import assert_same_result, at_epoch, once, tiny, train, until_done
from torch.nn import functional as F

from lt_bench.data.types import Batch, Epoch, Step
from lt_bench.errors import UserError
from lt_bench.losses import CrossEntropy
from lt_bench.mixing import Answer, Mixed, Objective, RecursiveMix
from lt_bench.mixing.boxes import Box
from lt_bench.mixing.recursive_mix import SMALLEST_SHARE, History, aged, pooled

COUNTS = [20, 6, 2]
BOX = Box(2, 6, 0, 4)


def made(**settings: Any) -> tuple[RecursiveMix, Objective]:
    mix, network = RecursiveMix(COUNTS, **settings), tiny_network()
    mix.attach(network)
    loss: Any = CrossEntropy(COUNTS)
    return mix, Objective(
        network.eval(),
        lambda net, images: Answer(net(images)),
        lambda answer, terms: loss.of_terms(answer.logits, terms),
    )


def history(batch: Batch, epoch: int = 10) -> History:
    return History(epoch, Mixed.plain(batch), torch.full((len(batch.labels), 3), 1 / 3))


def test_the_batch_before_lies_in_the_box_shrunk_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.mixing.recursive_mix.draw_box", lambda *_: BOX)
    mix, batch, before = made()[0], batch_of(0), batch_of(1)
    mix.history = history(before)
    mixed = mix(batch, None, step_at())
    assert torch.equal(mixed.images[..., 2:6, 0:4], before.images[..., ::2, ::2])  # every second of 8 pixels
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[2:6, 0:4] = False
    assert torch.equal(mixed.images[..., outside], batch.images[..., outside])
    (own, share), (old, rest) = mixed.terms
    assert (share, rest) == (0.75, 0.25)
    assert torch.equal(own, batch.labels)  # type: ignore[arg-type]
    assert torch.equal(old, before.labels)  # type: ignore[arg-type]


def test_labels_of_earlier_batches_fade() -> None:
    a, b, c = (torch.tensor([label]) for label in range(3))
    assert [share for _, share in aged(a, 0.75, ((b, 0.8), (c, 0.2)))] == pytest.approx([0.75, 0.2, 0.05])
    terms: Any = ((a, 1.0),)
    for _ in range(50):
        terms = tuple(aged(b, 0.5, terms))
        assert sum(share for _, share in terms) == pytest.approx(1, abs=1e-12)
    assert len(terms) == 10  # 2^-10 is what is left behind the tenth
    assert SMALLEST_SHARE > 2**-10


def test_a_short_last_batch_takes_the_first_images() -> None:
    mix, before = made(alpha=1.0)[0], batch_of(1)
    mix.history = history(before)
    mixed = mix(batch_of(0, size=4), None, step_at(seed=1))
    assert len(mixed.terms) == 2
    assert torch.equal(mixed.terms[1][0], before.labels[:4])  # type: ignore[arg-type]


def test_shares_of_the_box_are_uniform_up_to_alpha() -> None:
    shares = []
    mix = made(alpha=0.5)[0]
    step, large = step_at(), Batch(torch.zeros(1, 3, 256, 256), torch.tensor([0]))
    mix.history = history(large)
    for _ in range(400):
        terms = mix(large, None, step).terms
        shares.append(float(terms[1][1]) if len(terms) > 1 else 0.0)
    # Of a box of side s sides, s^2 ~ U(0, 1/2), a part (1 - s / 4)^2 lies inside: E[s^2 (1 - s/4)^2] by hand.
    side = torch.linspace(0, 0.5, 100_001).sqrt()
    assert sum(shares) / 400 == pytest.approx(float((side**2 * (1 - side / 4) ** 2).mean()), abs=0.02)
    assert max(shares) <= 0.5


def test_the_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.mixing.recursive_mix.draw_box", lambda *_: BOX)
    mix, objective = made(weight=0.3)
    torch.nn.init.normal_(mix.region.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    network, first, second = objective.network, batch_of(0), batch_of(1)
    plain = mix.loss(objective, first, None, step_at())
    torch.testing.assert_close(plain, F.cross_entropy(network(first.images), first.labels))
    answered = network(first.images).softmax(1).detach()
    mixed = mix(second, None, step_at())
    found = mix.loss(objective, second, None, step_at())
    maps = network.branches[0].stage(network.trunk(mixed.images))  # type: ignore[operator]
    logits = network(mixed.images)
    expected = 0.75 * F.cross_entropy(logits, second.labels) + 0.25 * F.cross_entropy(logits, first.labels)
    seen = mix.region(pooled(maps, BOX, 8))
    torch.testing.assert_close(found, expected + 0.3 * 0.25 * F.cross_entropy(seen, answered))
    found.backward()
    assert all(parameter.grad is not None for parameter in (*network.parameters(), *mix.region.parameters()))


def test_each_epoch_begins_without_a_history() -> None:
    mix, objective = made(alpha=1.0)
    for index in (10, 11):
        step = Step(Epoch(index, 200, 0), 0, 4, step_at(seed=1).rng)
        mix.loss(objective, batch_of(index), None, step)
        assert mix.history is not None
        assert len(mix.history.mixed.terms) == 1
        mix.loss(objective, batch_of(0), None, step)
        assert len(mix.history.mixed.terms) == 2


def test_features_are_averaged_in_the_box() -> None:
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert pooled(maps, Box(0, 8, 0, 8), 8).item() == pytest.approx(7.5)
    upper_right = pooled(maps, Box(0, 4, 4, 8), 8).item()
    assert upper_right == pytest.approx(maps[..., :2, 2:].mean().item())
    flipped = RecursiveMix(COUNTS, transposed=True).looked_at(Box(0, 4, 4, 8))
    assert pooled(maps, flipped, 8).item() == pytest.approx(maps[..., 2:, :2].mean().item())


def test_a_network_of_several_branches_is_refused() -> None:
    with pytest.raises(UserError, match=r"^mix: recursive-mix needs a head of one branch, such as linear or cosine$"):
        RecursiveMix(COUNTS).attach(tiny_network("dual-branch"))


@pytest.mark.usefixtures("working_folder", "tiny_backbone")
def test_an_interrupted_run_goes_on_bitwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("recursive-mix")
    train(recipe, tmp_path / "whole")
    at_epoch(monkeypatch, before=once(3), after=once(1, 4))
    assert until_done(recipe, tmp_path / "cut") == 3
    assert_same_result(tmp_path / "cut", tmp_path / "whole")
