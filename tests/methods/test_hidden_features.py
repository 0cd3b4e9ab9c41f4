"""Mixes of hidden features: at which depth, with which noise, and which cell with which."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from method_cases import step_at, tiny_network
from objective_cases import COUNTS, criterion, images_of, objective, small
from torch import Tensor, nn

from lt_bench.errors import RunError, UserError
from lt_bench.mixing import Answer, Objective
from lt_bench.mixing.alignmixup import AlignMixup, transport
from lt_bench.mixing.manifold_mixup import ManifoldMixup, mixed, mixed_behind
from lt_bench.mixing.mixup import Mixup
from lt_bench.mixing.noisy_feature_mixup import NoisyFeatureMixup
from lt_bench.models import build_network
from lt_bench.training.runtime import Runtime

# --- manifold mixup ----------------------------------------------------------------------------------


def test_at_the_images_it_is_mixup() -> None:
    network, batch = small().eval(), images_of()
    hidden = ManifoldMixup(COUNTS, layers=(0,), alpha=1.0).loss(objective(network), batch, None, step_at())
    assert torch.equal(hidden, Mixup(COUNTS, alpha=1.0).loss(objective(network), batch, None, step_at()))


def test_features_are_mixed_as_on_the_card() -> None:
    features = torch.arange(8.0).view(2, 1, 2, 2)
    found = mixed(features, torch.tensor([1, 0]), 0.3)
    torch.testing.assert_close(found.flatten(), torch.tensor([2.8, 3.8, 4.8, 5.8, 1.2, 2.2, 3.2, 4.2]))


@pytest.mark.parametrize("depth", [0, 1])
def test_a_share_of_one_or_none_is_an_image_alone(depth: int) -> None:
    network, batch, order = small().eval(), images_of(), torch.tensor([1, 2, 3, 4, 5, 0])
    for share, expected in ((1.0, network(batch.images)), (0.0, network(batch.images)[order])):
        with mixed_behind(network, network.levels[depth], partial(mixed, order=order, share=share)):
            torch.testing.assert_close(network(batch.images), expected)
    assert torch.equal(network(batch.images), network(batch.images))  # the hook is gone


def test_in_a_linear_network_the_depth_does_not_matter() -> None:
    layers = [nn.Linear(4, 4, bias=False) for _ in range(3)]
    x, order = torch.randn(5, 4), torch.tensor([4, 3, 2, 1, 0])
    expected = nn.Sequential(*layers)(mixed(x, order, 0.3))
    for layer in layers:
        with mixed_behind(small(), layer, partial(mixed, order=order, share=0.3)):
            torch.testing.assert_close(nn.Sequential(*layers)(x), expected)


def test_every_depth_is_drawn_alike_and_gradients_reach_what_is_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network, batch, seen = small(), images_of(2), []
    levels = network.levels
    assert len(levels) == 2
    monkeypatch.setattr(
        "lt_bench.mixing.manifold_mixup.mixed_behind",
        lambda network, stage, mixing: seen.append(levels.index(stage)) or mixed_behind(network, stage, mixing),
    )
    mix, step = ManifoldMixup(COUNTS), step_at()
    for _ in range(300):
        with torch.no_grad():
            mix.loss(Objective(network, lambda *_: Answer(torch.zeros(2, 3)), criterion), batch, None, step)
    counts = np.bincount(seen, minlength=2)
    assert (abs(np.append(counts, 300 - counts.sum()) - 100) < 30).all()
    ManifoldMixup(COUNTS, layers=(2,)).loss(objective(network), batch, None, step).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.trunk.parameters() if p.ndim == 4)


def test_a_depth_that_the_branches_do_not_share_is_refused() -> None:
    with pytest.raises(UserError, match=r"mix\.layers: 2 is too deep: the branches of this network share 1 stages"):
        ManifoldMixup(COUNTS).attach(small("experts"))
    ManifoldMixup(COUNTS, layers=(0, 1)).attach(small("experts"))
    ManifoldMixup(COUNTS).attach(build_network("cifar-resnet18", "dual-branch", 3))
    ManifoldMixup(COUNTS).attach(build_network("resnet10", "linear", 3))


def test_what_is_mixed_behind_is_mixed_in_compiled_networks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that torch has compiled passes hooks by: labels would be mixed, and features not."""
    network, batch, order = small().eval(), images_of(), torch.tensor([1, 2, 3, 4, 5, 0])
    behind, mixing = network.levels[0], partial(mixed, order=order, share=0.3)
    with torch.no_grad(), mixed_behind(network, behind, mixing):
        expected = network(batch.images)
    compile_part = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part, **_: compile_part(part, backend="eager"))
    compiled = Runtime(torch.device("cpu"), "float32", "torch.compile").prepare(network)
    with torch.no_grad():
        assert not torch.allclose(compiled(batch.images), expected)
        with mixed_behind(compiled, behind, mixing):
            torch.testing.assert_close(compiled(batch.images), expected, rtol=1e-4, atol=1e-5)


# --- noisy feature mixup -----------------------------------------------------------------------------


def test_without_noise_it_is_manifold_mixup_of_all_shared_depths() -> None:
    network, batch = small().eval(), images_of()
    for seed in range(6):
        silent = NoisyFeatureMixup(COUNTS, additive=0, multiplicative=0).loss(
            objective(network), batch, None, step_at(seed=seed)
        )
        assert torch.equal(
            silent, ManifoldMixup(COUNTS, alpha=1.0).loss(objective(network), batch, None, step_at(seed=seed))
        )


def test_noise_has_the_strengths_of_its_law() -> None:
    """Beta(2, 5) has the mean 2/7 and the mean square 6/56; U(-1, 1) the mean square 1/3."""
    features = torch.full((64, 3, 8, 8), 2.0)
    for fields, square in (({"multiplicative": 0.0}, 0.16 * 6 / 56), ({"additive": 0.0}, 4 * 0.04 * 6 / 56 / 3)):
        mix = NoisyFeatureMixup(COUNTS, **fields)
        noise = torch.stack([mix.noisy(features, step_at(seed=seed)) - features for seed in range(400)])
        assert abs(noise.mean()) < 5e-3
        assert noise.square().mean().item() == pytest.approx(square, rel=0.1)
        strengths = noise.square().mean((1, 2, 3, 4)).sqrt()
        assert strengths.std() > 0.3 * strengths.mean()  # one strength for a batch, another for the next
        assert noise[0].std(0).min() > 0  # and noise of its own for each image


def test_noise_follows_from_the_step_and_has_no_gradient() -> None:
    mix, features = NoisyFeatureMixup(COUNTS), torch.ones(4, 3, 8, 8, requires_grad=True)
    torch.manual_seed(1)
    first = mix.noisy(features, step_at())
    torch.manual_seed(2)
    assert torch.equal(first, mix.noisy(features, step_at()))
    first.sum().backward()
    assert features.grad is not None
    assert ((features.grad - 1).abs() <= 0.2).all()


def test_every_process_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    mix, features = NoisyFeatureMixup(COUNTS), torch.ones(4, 3, 8, 8)
    first = mix.noisy(features, step_at())
    monkeypatch.setattr("lt_bench.ranks.rank", lambda: 1)
    assert not torch.equal(first, mix.noisy(features, step_at()))


def test_noise_is_drawn_in_float32() -> None:
    mix, features = NoisyFeatureMixup(COUNTS, additive=0), torch.ones(4, 3, 8, 8)
    rounded = mix.noisy(features.bfloat16(), step_at())
    assert torch.equal(rounded, mix.noisy(features, step_at()).bfloat16())


def test_depths_are_counted_by_the_network_or_named() -> None:
    for backbone, shared in (("resnet8", 2), ("preact-resnet18", 3)):
        assert list(NoisyFeatureMixup(COUNTS).depths(build_network(backbone, "linear", 3))) == list(range(shared + 1))
    NoisyFeatureMixup(COUNTS).attach(small("experts"))
    with pytest.raises(UserError, match=r"mix\.layers: 2 is too deep"):
        NoisyFeatureMixup(COUNTS, layers=(0, 2)).attach(small("experts"))
    with pytest.raises(UserError, match=r"mix\.layers: the branches of this network share no stages"):
        NoisyFeatureMixup(COUNTS).attach(tiny_network())
    NoisyFeatureMixup(COUNTS, layers=(0,)).attach(tiny_network())


# --- AlignMixup --------------------------------------------------------------------------------------


def released(one: Tensor, other: Tensor, epsilon: float, rounds: int) -> Tensor:
    """Sinkhorn's plan in float64, round by round on logarithms as the authors' code has it, ends included."""
    cost = (one[:, :, None] - other[:, None]).double().square().sum(-1)
    masses = [torch.full(cells.shape[:2], 1 / cells.shape[1] + 1e-8).double().log() for cells in (one, other)]
    u, v = torch.zeros_like(masses[0]), torch.zeros_like(masses[1])
    for _ in range(rounds):
        before = u
        u = epsilon * (masses[0] - ((u[:, :, None] + v[:, None] - cost) / epsilon).logsumexp(2)) + u
        v = epsilon * (masses[1] - ((u[:, :, None] + v[:, None] - cost) / epsilon).logsumexp(1)) + v
        if (u - before).abs().sum(1).mean() < 0.1:
            break
    return ((u[:, :, None] + v[:, None] - cost) / epsilon).exp()


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("rounds", [1, 5, 100])
def test_the_plan_is_that_of_the_released_code(scale: float, rounds: int) -> None:
    source = torch.Generator().manual_seed(0)
    one, other = (torch.randn(5, cells, 32, generator=source).relu() * scale for cells in (16, 16))
    found = transport(one, other, 0.1, rounds)
    torch.testing.assert_close(found.double(), released(one, other, 0.1, rounds), rtol=5e-3, atol=1e-5)
    assert found.sum(1).sub(1 / 16).abs().max() < 1e-4  # rounds end with the cells of the other image


def test_equal_cells_find_each_other_wherever_they_are() -> None:
    maps = 3 * torch.eye(16).view(1, 16, 4, 4)  # every cell of a feature of its own
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = maps.flatten(2)[:, :, order].view_as(maps)
    pair, swapped = torch.cat([maps, moved]), torch.tensor([1, 0])
    for first_moves, expected in ((False, pair), (True, pair[swapped])):
        found = AlignMixup(COUNTS).aligned(pair, swapped, share=0.4, first_moves=first_moves)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_a_share_of_one_is_an_image_alone_and_the_plan_has_no_gradient() -> None:
    maps = torch.randn(4, 8, 3, 3, requires_grad=True)
    mix, order = AlignMixup(COUNTS), torch.tensor([1, 2, 3, 0])
    assert torch.equal(mix.aligned(maps, order, share=1.0, first_moves=False), maps)
    assert torch.equal(mix.aligned(maps, order, share=0.0, first_moves=True), maps[order])
    mix.aligned(maps, order, share=0.5, first_moves=False).sum().backward()
    one, other = maps.detach().flatten(2), maps.detach()[order].flatten(2)
    plan = transport(one.mT, other.mT, 0.1, 100) * 9
    expected = torch.full_like(one, 0.5).index_add(0, order, 0.5 * plan.sum(1, keepdim=True).expand_as(one))
    assert maps.grad is not None
    torch.testing.assert_close(maps.grad.flatten(2), expected)


def test_half_of_the_batches_are_mixed_up_and_half_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    mix, batch = AlignMixup(COUNTS), images_of(2)
    monkeypatch.setattr(
        AlignMixup, "aligned", lambda _, maps, order, share, first_moves: seen.append(first_moves) or maps
    )
    network, step = small().eval(), step_at()
    for _ in range(200):
        mix.loss(objective(network), batch, None, step)
    assert abs(len(seen) - 100) < 30
    assert abs(sum(seen) - len(seen) / 2) < 25


def test_gradients_reach_the_whole_network_under_autocast() -> None:
    network, batch = small(), images_of()
    with torch.autocast("cpu", torch.bfloat16):
        torch.stack(
            [AlignMixup(COUNTS).loss(objective(network), batch, None, step_at(seed=s)) for s in range(4)]
        ).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_networks_without_maps_are_refused() -> None:
    with pytest.raises(UserError, match="alignmixup needs a head of one branch"):
        AlignMixup(COUNTS).attach(small("experts"))
    with pytest.raises(UserError, match="this backbone pools them itself"):
        AlignMixup(COUNTS).attach(build_network("vit-tiny", "linear", 3))
    with pytest.raises(RunError, match="those of this network have but one"):
        AlignMixup(COUNTS).aligned(torch.ones(2, 5, 1, 1), torch.tensor([1, 0]), 0.5, first_moves=True)
