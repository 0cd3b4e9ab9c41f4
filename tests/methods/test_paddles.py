"""PADDLES: the gradients of its spectrum, its phases and sets, and what is sane where nobody is confident."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_cases import LABELS, batch_of, build, phase, tiny_network
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, ClassStats, Epoch, Step
from lt_bench.errors import UserError
from lt_bench.methods import Task
from lt_bench.methods.early_stopping import class_weights, sooner, stops
from lt_bench.methods.paddles import Paddles
from lt_bench.methods.paddles_semi import PaddlesSemi, ramp, sharpened, unlabelled_size, weighted_cross_entropy
from lt_bench.methods.spectrum import stopped
from lt_bench.recipe import load_recipe


def close(value: float) -> Any:
    """As many digits as the oracles have."""
    return pytest.approx(value, rel=1e-4, abs=1e-5)


def views_of(labels: Any = LABELS, seed: int = 0) -> Iterable[Batch]:
    return [batch_of(seed, labels=labels.tolist())]


# --- the spectrum -------------------------------------------------------------------------------------


def gradient(x: Tensor, upstream: Tensor, **flags: Any) -> Tensor:
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad((stopped(leaf, **flags) * upstream).sum(), leaf)
    return found


def test_gradients_of_a_line_by_hand() -> None:
    x, upstream = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert gradient(x, upstream).tolist() == [1, 0, 0, 0]
    assert gradient(x, upstream, amplitude=True).tolist() == pytest.approx([0.25, -0.25, -0.25, 0.25], abs=1e-6)
    assert gradient(x, upstream, phase=True).tolist() == pytest.approx([0.75, 0.25, 0.25, -0.25], abs=1e-6)
    assert not stopped(x.clone().requires_grad_(), amplitude=True, phase=True).requires_grad


@pytest.mark.parametrize("over", ["batch", "map"])
@pytest.mark.parametrize("shape", [(4, 8, 8, 8), (3, 5, 7, 7)])
def test_the_two_gradients_part_the_whole(over: Any, shape: tuple[int, ...]) -> None:
    drawn = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(shape, generator=drawn), torch.randn(shape, generator=drawn)
    without_amplitude = gradient(x, upstream, amplitude=True, over=over)
    without_phase = gradient(x, upstream, phase=True, over=over)
    assert torch.allclose(without_amplitude + without_phase, upstream, atol=1e-5)
    dims = (0, 1, 2, 3) if over == "batch" else (2, 3)
    assert torch.allclose((without_amplitude * x).sum(dims), torch.tensor(0.0), atol=1e-3)
    assert torch.allclose((without_phase * x).sum(dims), (upstream * x).sum(dims), atol=1e-3)
    energies = [
        one.square().sum().item() / upstream.square().sum().item() for one in (without_amplitude, without_phase)
    ]
    assert sum(energies) == pytest.approx(1, abs=1e-4)
    if over == "batch":
        assert energies == pytest.approx([0.5, 0.5], abs=0.06)


def test_maps_stay_as_they_are() -> None:
    x = torch.randn(4, 8, 8, 8)
    once = stopped(x, amplitude=True)
    assert (once - x).abs().max() < 1e-5
    assert torch.allclose(stopped(once, amplitude=True), once, atol=1e-5)
    assert stopped(x) is x
    zero = gradient(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4), amplitude=True)
    assert (zero == 0).all()


# --- PADDLES ------------------------------------------------------------------------------------------


def test_class_weights() -> None:
    assert class_weights(torch.tensor([10, 20, 30, 0])).tolist() == pytest.approx([2, 1, 2 / 3, 0])
    assert class_weights(torch.tensor([1, 20, 30, 0]), 3).tolist() == pytest.approx([3, 0.85, 17 / 30, 0])
    assert class_weights(torch.zeros(3, dtype=torch.long)).tolist() == [1, 1, 1]


def test_ramp_and_sharpening() -> None:
    assert [75 * ramp(t, 18, 16) for t in (10, 18, 26, 34, 200)] == [0, 0, 37.5, 75, 75]
    found = sharpened(torch.tensor([[0.5, 0.3, 0.2]]), 0.5)
    assert found[0].tolist() == pytest.approx([0.6579, 0.2368, 0.1053], abs=1e-4)


def test_the_papers_epochs() -> None:
    assert stops(Paddles.Config(), 200) == (19, 30)
    assert stops(PaddlesSemi.Config(), 300) == (30, 35)
    assert sooner(PaddlesSemi.Config(), 300, PaddlesSemi.Config().ramp) == 16


def test_short_trainings_stop_sooner_but_not_before_anything_is_learned() -> None:
    assert stops(Paddles.Config(), 105) == (19, 30)
    assert stops(Paddles.Config(), 30) == (10, 15)
    assert stops(PaddlesSemi.Config(), 30) == (13, 15)
    assert sooner(PaddlesSemi.Config(), 30, 16) == 7
    assert stops(Paddles.Config(latest=0.2), 30) == (4, 6)


def test_sizes_of_batches() -> None:
    assert unlabelled_size(10, 30, 128) == 64
    assert unlabelled_size(30, 10, 128) == 32
    assert unlabelled_size(30, 0, 128) == 0


def paddles(name: str = "paddles", labels: Any = LABELS, **settings: Any) -> tuple[Any, Any]:
    """The method and its network, as a run begins."""
    method, network = build(name, (phase(10),), labels, amplitude_stop=1, phase_stop=3, **settings), tiny_network()
    method.attach(network)
    return method, network.train()


def at(index: int, step: int = 0, total: int = 12) -> Step:
    torch.manual_seed(0)
    epoch = Epoch(index, 10, 0)
    return Step(epoch, step, total, epoch.rng("method"))


def moved(network: Any, loss: Tensor) -> set[str]:
    """Which parts get a gradient for the run's optimizer."""
    network.zero_grad()
    loss.backward()
    return {name.split(".")[0] for name, one in network.named_parameters() if one.grad is not None and one.grad.any()}


def test_amplitudes_stop_before_phases() -> None:
    method, network = paddles()
    batch = {"main": batch_of()}
    gradients = []
    for index in (0, 1):
        network.zero_grad()
        method.loss(network, batch, at(index)).backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    trunk = len(list(network.trunk.parameters()))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*(g[trunk:] for g in gradients), strict=True))
    assert any(not torch.allclose(a, b, atol=1e-4) for a, b in zip(*(g[:trunk] for g in gradients), strict=True))


def test_late_layers_are_learned_anew() -> None:
    method, network = paddles(stage_passes=7, classifier_passes=5)
    assert len(method.streams(Epoch(3, 10, 0))["main"]) == 12 * len(LABELS)
    branch = network.branches[0]
    start = {name: tensor.clone() for name, tensor in branch.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    trunk = [one.clone() for one in network.trunk.parameters()]
    assert moved(network, method.loss(network, {"main": batch_of()}, at(3, 0))) == set()
    # One step of Adam moves a weight by at most its rate from where it began.
    for name in ("stage.0.0.weight", "classifier.weight"):
        assert (branch.state_dict()[name] - start[name]).abs().max() <= 1.01e-4
    stage = branch.state_dict()["stage.0.0.weight"].clone()
    assert not torch.equal(stage, start["stage.0.0.weight"])
    method.loss(network, {"main": batch_of()}, at(3, 7))  # behind seven twelfths of the steps
    assert torch.equal(branch.state_dict()["stage.0.0.weight"], stage)
    assert (branch.state_dict()["classifier.weight"] - start["classifier.weight"]).abs().max() <= 1.01e-4
    assert all(torch.equal(a, b) for a, b in zip(trunk, network.trunk.parameters(), strict=True))


@pytest.mark.parametrize(("name", "still"), [("paddles", {"trunk"}), ("paddles-semi", {"trunk", "branches"})])
def test_what_was_learned_anew_is_not_known_to_the_optimizer(name: str, still: set[str]) -> None:
    method, network = paddles(name)
    batches = {word: batch_of(seed) for seed, word in enumerate(method.streams(Epoch(4, 10, 0)))}
    assert moved(network, method.loss(network, batches, at(4))) == still
    assert network.branches[0].classifier.weight.grad is None
    method, network = paddles(name, train_refined=True)
    method.streams(Epoch(4, 10, 0))
    method.loss(network, batches, at(4)).backward()
    assert network.branches[0].classifier.weight.grad is not None


def confident_where(keep: list[int]) -> Any:
    """Predictions that confirm the labels at these positions and no other."""
    wrong = torch.from_numpy((LABELS + 1) % 3)
    right = torch.from_numpy(LABELS)
    chosen = torch.where(torch.isin(torch.arange(len(LABELS)), torch.tensor(keep)), right, wrong)
    return lambda images: 5.0 * F.one_hot(chosen, 3).float()


def test_the_confident_are_whom_the_network_confirms() -> None:
    method, network = paddles()
    before = method.confident.clone()
    method.look(Epoch(2, 10, 0), confident_where([0, 1, 21, 27]), lambda word: views_of())
    assert torch.equal(method.confident, before)  # not yet
    method.look(Epoch(3, 10, 0), confident_where([0, 1, 21, 27]), lambda word: views_of())
    assert method.confident.nonzero().flatten().tolist() == [0, 1, 21, 27]
    assert method.class_weights.tolist() == pytest.approx([4 / 3 / 2, 4 / 3, 4 / 3])
    assert sorted(method.streams(Epoch(4, 10, 0))["main"]) == [0, 1, 21, 27]
    assert method.diagnostics(Epoch(2, 10, 0)) == {}
    kept = torch.bincount(torch.from_numpy(LABELS[[0, 1, 21, 27]]))
    assert torch.equal(method.diagnostics(Epoch(3, 10, 0))["confirmed"], kept)
    found = method.suspects(network, views_of)
    assert found.flagged.sum() == len(LABELS) - 4
    assert found.score[0] < 0.1
    assert found.score[2] > 0.9


def test_a_class_of_which_nobody_is_confident_weighs_nothing() -> None:
    method, network = paddles()
    method.look(Epoch(3, 10, 0), confident_where([0, 1, 2]), lambda word: views_of())
    assert method.class_weights.tolist() == pytest.approx([1, 0, 0])
    assert method.loss(network, {"main": batch_of(labels=[0, 0, 0])}, at(4)).isfinite()


@pytest.mark.parametrize("name", ["paddles", "paddles-semi"])
def test_where_nobody_is_confident_all_are_learned_from(name: str) -> None:
    method, network = paddles(name)
    method.look(Epoch(3, 10, 0), confident_where([]), lambda word: views_of())
    assert method.class_weights.tolist() == [1, 1, 1]
    streams = method.streams(Epoch(4, 10, 0))
    assert set(next(iter(streams.values()))) == set(range(len(LABELS))) or name == "paddles-semi"
    batches = {word: batch_of(seed) for seed, word in enumerate(streams)}
    assert method.loss(network, batches, at(4)).isfinite()


def test_a_batch_of_both_kinds() -> None:
    task = Task(LABELS, ClassStats.of(LABELS, 3), (phase(10),), batch_size=8)
    method = PaddlesSemi(task, amplitude_stop=1, phase_stop=3)
    keep = [0, 1, 2, 20, 27]
    method.look(Epoch(3, 10, 0), confident_where(keep), lambda word: views_of())
    streams = method.streams(Epoch(4, 10, 0))
    assert list(streams) == ["first", "second"]
    assert (streams["first"] == streams["second"]).all()
    rows = streams["first"].reshape(-1, 8)
    assert rows.shape == (len(LABELS) // 8, 8)
    assert method.labelled == 4
    assert set(rows[:, :4].ravel()) == set(keep)  # anew when all had their turn
    assert set(rows[:, 4:].ravel()).isdisjoint(keep)


def test_mixmatch_by_hand() -> None:
    task = Task(LABELS, ClassStats.of(LABELS, 3), (phase(10),), batch_size=4)
    method = PaddlesSemi(task, amplitude_stop=1, phase_stop=3, unlabelled_weight=10.0, ramp=2)
    network = tiny_network().eval()
    method.attach(network)
    method.labelled = 2
    method.class_weights.copy_(torch.tensor([1.0, 2.0, 0.5]))
    first, second = batch_of(1, size=4), batch_of(2, size=4)
    second = replace(second, labels=first.labels)
    found = method.mixmatch(network, first, second, at(4, 6))
    rng = at(4, 6).rng
    share = max((drawn := rng.beta(4.0, 4.0)), 1 - drawn)
    order = torch.from_numpy(rng.permutation(8))
    with torch.no_grad():
        p = (network(first.images[2:]).softmax(1) + network(second.images[2:]).softmax(1)) / 2
        q = p**2 / (p**2).sum(1, keepdim=True)
        x = torch.cat([first.images[:2], second.images[:2], first.images[2:], second.images[2:]])
        y = F.one_hot(first.labels[:2], 3).float()
        t = torch.cat([y, y, q, q])
        logits = network(share * x + (1 - share) * x[order])
        t = share * t + (1 - share) * t[order]
        known = -(method.class_weights * (t[:4] * logits[:4].log_softmax(1)).mean(0)).sum()
        others = ((logits[4:].softmax(1) - t[4:]) ** 2).mean()
    # lambda_u rises over 2 of 10 epochs from T_A = 1 on: at 4.5 it is there.
    assert found.item() == pytest.approx((known + 10 * others).item(), rel=1e-5)
    assert method.weight(at(2, 0)) == pytest.approx(5.0)


def test_weighted_cross_entropy_by_hand() -> None:
    logits, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    log_p = logits.log_softmax(1)
    expected = -(3 * (log_p[0, 0] + 0.5 * log_p[1, 0]) / 2 + 0.5 * (0.5 * log_p[1, 1]) / 2)
    assert weighted_cross_entropy(logits, target, torch.tensor([3.0, 0.5])).item() == close(expected.item())


def test_phases_stop_after_amplitudes() -> None:
    with pytest.raises(UserError, match=r"phases have to stop after amplitudes, found amplitude_stop 3"):
        load_recipe("digits-lt/paddles", ["method.amplitude_stop=3", "method.phase_stop=2"])
    assert stops(Paddles.Config(), 5) == (1, 2)
    assert stops(Paddles.Config(), 2) == (0, 1)
    assert stops(Paddles.Config(), 1) == (0, 1)
