"""What attacks leave of a linear model, where it can be worked out by hand, and what no trial may do."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from lt_bench.adversary.ascent import perturb
from lt_bench.adversary.objectives import cross_entropy
from lt_bench.data.augment import AS_PIXELS, Normalisation
from lt_bench.data.types import Batch, generator
from lt_bench.errors import UserError
from lt_bench.robustness import verdicts
from lt_bench.robustness.corruptions import KINDS, corrupted
from lt_bench.robustness.trials import ATTACKS, CORRUPTIONS, LIBRARY, SEVERITIES, Trial, trials
from lt_bench.robustness.verdicts import right, withstood

CIFAR = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
SLOPES = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 1.0, 1.0], [0.25, 0.5, -2.0], [-0.5, -0.5, -0.5]])
"""Of a linear model of four classes on the mean of each colour."""
RADIUS = {"linf": 8.0, "l2": 24.0}


def linear(pixels: Tensor) -> Tensor:
    return (pixels.mean((2, 3)) - 0.5) @ SLOPES.T


def on_normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in CIFAR)
    return linear(images * std + mean)


def normalised(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in CIFAR)
    return (pixels - mean) / std


def grey(size: int = 24) -> tuple[Tensor, Tensor]:
    """Images so far from black and white that no ball of 8/255 is cut off, with the labels that the model gives."""
    means = 0.3 + 0.4 * torch.rand(size, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    pixels = means + 0.02 * torch.randn(size, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return pixels, linear(pixels).argmax(1)


def by_hand(pixels: Tensor, labels: Tensor, norm: str, radius: float) -> Tensor:
    """Right for certain: no change of that size closes the gap to another class, |w_y - w_c| times the radius."""
    logits, order = linear(pixels), {"linf": 1, "l2": 2}[norm]
    # The mean over 16 pixels: under l2 the gradient of each colour is spread over them.
    spread = {"linf": 1.0, "l2": 1 / 4}[norm]
    gaps = logits.gather(1, labels[:, None]) - logits
    reach = radius * spread * torch.stack([(SLOPES[label] - SLOPES).norm(order, dim=1) for label in labels])
    return ((gaps > reach) | (torch.arange(4) == labels[:, None])).all(1)


def verdict(trial: Trial, pixels: Tensor, labels: Tensor) -> Tensor:
    batch = Batch(normalised(pixels), labels)
    return withstood(trial, on_normalised, batch, right(on_normalised, batch), CIFAR, generator(0, trial.name))


def named(name: str, norm: Any = "linf", radius: float = 8.0) -> Trial:
    (trial,) = trials([name], norm, radius)
    return trial


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["pgd-20", "cw-20", "lsa-20", "pgd-40"])
def test_a_linear_model_falls_where_it_has_to_and_nowhere_else(name: str, norm: str) -> None:
    pixels, labels = grey()
    expected = by_hand(pixels, labels, norm, RADIUS[norm] / 255)
    assert 0 < expected.sum() < len(expected)
    # With several classes cross entropy may follow another than the nearest one: it can only be too mild.
    found = verdict(named(name, norm, RADIUS[norm]), pixels, labels)
    assert not (expected & ~found).any()
    if name in ("cw-20", "pgd-40"):
        assert torch.equal(found, expected)
    assert (found & ~expected).sum() <= 1


def test_the_library_agrees_with_the_linear_model_by_hand() -> None:
    pytest.importorskip("pyautoattack", reason="the extra [robust]")
    pixels, labels = grey(12)
    for norm in ("linf", "l2"):
        expected = by_hand(pixels, labels, norm, RADIUS[norm] / 255)
        assert 0 < expected.sum() < len(expected)
        assert torch.equal(verdict(named("apgd", norm, RADIUS[norm]), pixels, labels), expected)


def test_all_of_autoattack_agrees_with_the_linear_model_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("pyautoattack", reason="the extra [robust]")

    class Quick(library.AutoAttack):  # type: ignore[misc, name-defined]
        def run_standard_evaluation(self, *arguments: Any, **settings: Any) -> Any:
            self.square.n_queries = 50  # of 5000, which robust images take to the last
            assert self.attacks_to_run == list(LIBRARY["autoattack"])
            assert self.apgd_targeted.n_target_classes == self.fab.n_target_classes == 3
            return super().run_standard_evaluation(*arguments, **settings)

    monkeypatch.setattr(verdicts, "auto_attack", lambda: Quick)
    pixels, labels = grey(12)
    state = torch.get_rng_state()
    assert torch.equal(verdict(named("autoattack"), pixels, labels), by_hand(pixels, labels, "linf", 8 / 255))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(UserError, match=r"needs the package pyautoattack: pip install 'lt-bench\[robust\]'"):
        verdicts.auto_attack()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_adversary_of_radius_0_takes_nothing(name: str) -> None:
    pixels, labels = grey()
    labels = (labels + (torch.arange(len(labels)) % 2)) % 3  # half of them wrong as they are
    found = verdict(named(name, radius=0), pixels, labels)
    assert torch.equal(found, right(linear, Batch(pixels, labels)))
    assert 0 < found.sum() < len(found)


def test_what_is_wrong_as_it_is_cannot_withstand() -> None:
    pixels, labels = grey()
    assert not verdict(named("pgd-20"), pixels, (labels + 1) % 3).any()


def curved(images: Tensor) -> Tensor:
    """A model whose gradient turns, so that the last place of an ascent need not be its worst."""
    return torch.stack([(3 * images).sin().mean((1, 2, 3)), (5 * images).cos().mean((1, 2, 3))], 1)


def test_more_steps_of_one_attack_never_leave_more() -> None:
    images = torch.rand(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, curved(images).argmax(1))
    left = []
    for steps in (0, 1, 2, 5, 20):
        trial = named("pgd-20", radius=40).model_copy(
            update={"attack": named("pgd-20", radius=40).attack.model_copy(update={"steps": steps})}  # type: ignore[union-attr]
        )
        everyone = torch.ones(64, dtype=torch.bool)
        left.append(withstood(trial, curved, batch, everyone, AS_PIXELS, generator(0, "attack")))
    for fewer, more in pairwise(left):
        assert not (more & ~fewer).any()
    assert left[-1].sum() < left[0].sum()


def test_what_has_fallen_is_not_attacked_again() -> None:
    """The rest stands as if nothing else had been in the batch."""
    images = torch.rand(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    batch, looked_at = Batch(images, curved(images).argmax(1)), []

    def counted(images: Tensor) -> Tensor:
        looked_at.append(len(images))
        return curved(images)

    trial, everyone = named("pgd-20", radius=40), torch.ones(64, dtype=torch.bool)
    found = withstood(trial, counted, batch, everyone, AS_PIXELS, generator(0, "attack"))
    assert looked_at == sorted(looked_at, reverse=True)
    assert looked_at[0] == 64 > looked_at[-1] >= found.sum() > 0
    # One attack on all of them to the end, for comparison.
    standing = torch.ones(64, dtype=torch.bool)

    def watched(images: Tensor) -> Tensor:
        standing.logical_and_(curved(images).detach().argmax(1) == batch.labels)
        return cross_entropy(curved(images), batch.labels)

    last = perturb(watched, images, AS_PIXELS, trial.attack, generator(0, "attack"))  # type: ignore[arg-type]
    assert torch.equal(found, standing & (curved(last).argmax(1) == batch.labels))


def test_a_verdict_is_the_seeds() -> None:
    images = torch.rand(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    batch, clean = Batch(images, curved(images).argmax(1)), torch.ones(64, dtype=torch.bool)
    trial = named("pgd-20", radius=12)
    found = [withstood(trial, curved, batch, clean, AS_PIXELS, generator(seed, "attack")) for seed in (0, 0)]
    assert torch.equal(*found)


# --- corruptions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_grows_and_stays_a_picture(kind: str) -> None:
    torch.manual_seed(0)
    coarse = torch.rand(4, 3, 8, 8)
    pixels = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    before, changes = pixels.clone(), []
    for severity in SEVERITIES:
        found, again = (corrupted(pixels, kind, severity, generator(0, kind)) for _ in range(2))
        assert torch.equal(found, again)
        assert found.shape == pixels.shape
        assert found.dtype == torch.float32
        assert 0 <= found.min() <= found.max() <= 1
        changes.append((found - pixels).square().mean().item())
    assert torch.equal(pixels, before)
    assert changes[0] > 0
    assert changes == sorted(changes)


def test_every_kind_has_five_strengths() -> None:
    assert set(KINDS) == set(CORRUPTIONS)
    assert {len(strengths) for _, strengths in KINDS.values()} == {len(SEVERITIES)}


def test_a_corruption_asks_whether_it_is_right_and_not_whether_it_stays_right() -> None:
    pixels, labels = grey()
    clean = torch.zeros(len(labels), dtype=torch.bool)
    batch = Batch(normalised(pixels), labels)
    found = withstood(trials(["brightness"], "linf", 8)[0], on_normalised, batch, clean, CIFAR, generator(0, "b"))
    assert found.any()


# --- names ---------------------------------------------------------------------------------------------


def test_trials_are_what_their_names_say() -> None:
    pgd, margin, saturated, long, once = trials(["pgd-20", "cw-20", "lsa-20", "pgd-40", "fgsm"], "linf", 8)
    for trial in (pgd, margin, saturated):
        assert trial.attack is not None
        assert (trial.attack.steps, trial.attack.step, trial.attack.radius, trial.attack.start) == (20, 2, 8, "uniform")
    assert [trial.objective for trial in (pgd, margin)] == ["cross-entropy", "margin"]
    assert (saturated.scale, pgd.scale) == (10, 1)
    assert long.attack is not None
    assert [round(long.attack.step_at(k), 6) for k in (0, 20, 30)] == [0.1, 0.01, 0.0001]
    assert (long.attack.ascent, long.attack.steps, long.objective) == ("adam", 40, "margin")
    assert once.attack is not None
    assert (once.attack.steps, once.attack.step, once.attack.start) == (1, 8, "image")
    assert len(trials(["corruptions", "jpeg"], "linf", 8)) == 45
    assert [trial.name for trial in trials(["jpeg"], "linf", 8)] == [f"jpeg-{k}" for k in SEVERITIES]
    with pytest.raises(UserError, match="'pgd20' is not a known trial; did you mean pgd-20"):
        trials(["pgd20"], "linf", 8)
