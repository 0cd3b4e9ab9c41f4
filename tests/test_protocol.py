"""The learning rates of the shipped protocols against those the field's code gives, and what a protocol refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from lt_bench.epochs import with_whole_epochs
from lt_bench.protocol import SGD, AdamW, Lamb, Protocol, Schedule, shipped_protocol
from lt_bench.recipe import load_recipe
from lt_bench.recipe.files import PROTOCOLS
from lt_bench.recipe.files import shipped as shipped_files


def shipped(name: str) -> Protocol:
    protocol = shipped_protocol(name)
    assert protocol is not None
    return protocol


def rates(protocol: Protocol, steps: int = 10) -> list[float]:
    """Every learning rate that a training uses, step by step."""
    return [protocol.lr(epoch, step, steps) for epoch in range(protocol.epochs) for step in range(steps)]


# --- oracles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "lr"), [(0, 0.02), (1, 0.04), (4, 0.1), (5, 0.1), (159, 0.1), (160, 0.001), (179, 0.001), (180, 1e-5)]
)
def test_the_classic_protocol(epoch: int, lr: float) -> None:
    protocol = shipped("cifar-200ep")
    assert protocol.lr(epoch) == pytest.approx(lr, rel=1e-12)
    assert protocol.lr(epoch, 84, 85) == protocol.lr(epoch)  # set once an epoch


def test_the_classic_protocol_in_full() -> None:
    protocol = shipped("cifar-200ep")
    assert (protocol.epochs, protocol.batch_size) == (200, 128)
    assert protocol.optimizer == SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=2e-4)
    augmentation = protocol.augmentation
    assert (augmentation.padding, augmentation.padding_mode) == (4, "zero")
    assert (augmentation.autoaugment, augmentation.cutout) == (False, 0)


@pytest.mark.parametrize("name", ["dbn-mix-200ep-cifar10", "dbn-mix-200ep-cifar100"])
def test_the_protocol_of_dbn_mix(name: str) -> None:
    protocol = shipped(name)
    steps = 97
    assert protocol.lr(0, 0, steps) == 0
    assert protocol.lr(2, 0, steps) == pytest.approx(0.04)
    assert 0.0997 < protocol.lr(4, steps - 1, steps) < 0.1
    assert protocol.lr(5, 0, steps) == protocol.lr(159, 96, steps) == 0.1
    assert protocol.lr(160, 0, steps) == protocol.lr(179, 96, steps) == pytest.approx(0.01)
    assert protocol.lr(180, 0, steps) == pytest.approx(0.001)
    assert protocol.optimizer.nesterov
    assert protocol.augmentation.padding_mode == "reflect"


def test_the_protocol_of_bbn_as_its_pinned_framework_ran_it() -> None:
    protocol = shipped("bbn-200ep")
    found = [protocol.lr(epoch - 1) for epoch in (1, 2, 3, 4, 5, 6, 120, 121, 160, 161, 200)]
    warm_up = [0.033333, 0.046667, 0.06, 0.073333, 0.086667]
    assert found == pytest.approx([*warm_up, 0.1, 0.1, 0.001, 0.001, 1e-5, 1e-5], abs=1e-6)
    assert protocol.optimizer.nesterov


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("bag-of-tricks-200ep", (160, 180)),
        ("bag-of-tricks-400ep", (320, 360)),
        ("bag-of-tricks-200ep-ib", (100, 160, 180)),
    ],
)
def test_the_protocols_of_the_bag_of_tricks_are_an_epoch_ahead_of_bbns(name: str, steps: tuple[int, ...]) -> None:
    protocol, bbn = shipped(name), shipped("bbn-200ep")
    warm_up = [protocol.lr(epoch - 1) for epoch in (1, 2, 3, 4, 5, 6)]
    assert warm_up == pytest.approx([0.0466667, 0.06, 0.0733333, 0.0866667, 0.1, 0.1], abs=1e-7)
    assert warm_up[:5] == pytest.approx([bbn.lr(epoch) for epoch in range(1, 6)])
    found = [protocol.lr(epoch - 1) for first in steps for epoch in (first - 1, first)]
    expected = [0.1, 0.001, 0.001, 1e-5, 1e-5, 1e-7]
    assert found == pytest.approx(expected[: len(found)])
    assert (protocol.optimizer, protocol.augmentation) == (bbn.optimizer, bbn.augmentation)


def test_sade_has_half_the_rate_on_cifar_10() -> None:
    half, whole = shipped("sade-200ep-cifar10"), shipped("sade-200ep")
    assert [half.lr(epoch) for epoch in range(200)] == [whole.lr(epoch) / 2 for epoch in range(200)]
    assert (half.schedule, half.augmentation) == (whole.schedule, whole.augmentation)


@pytest.mark.parametrize(
    ("epoch", "lr"), [(0, 0.02), (4, 0.1), (159, 0.1), (160, 0.01), (179, 0.01), (180, 0.001), (199, 0.001)]
)
def test_the_protocol_of_mislas(epoch: int, lr: float) -> None:
    protocol, classic = shipped("mislas-200ep"), shipped("cifar-200ep")
    assert protocol.lr(epoch) == pytest.approx(lr, rel=1e-12)
    assert (protocol.epochs, protocol.batch_size) == (classic.epochs, classic.batch_size)
    assert (protocol.optimizer, protocol.augmentation) == (classic.optimizer, classic.augmentation)


@pytest.mark.parametrize(
    ("name", "like", "expected"),
    [
        ("sade-200ep", "mislas-200ep", [0.02, 0.1, 0.1, 0.01, 0.001]),
        ("ride-200ep", "cifar-200ep", [0.02, 0.1, 0.1, 0.001, 1e-5]),
    ],
)
def test_the_protocols_of_experts_decay_more_and_rotate(name: str, like: str, expected: list[float]) -> None:
    protocol, other = shipped(name), shipped(like)
    assert [protocol.lr(epoch) for epoch in (0, 4, 159, 160, 180)] == pytest.approx(expected)
    assert protocol.optimizer == SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    assert protocol.augmentation == other.augmentation.model_copy(update={"rotation": 15.0})
    assert protocol.schedule == other.schedule


@pytest.mark.parametrize(
    ("base", "epochs", "expected"),
    [
        (0.2, 90, {0: 0.2, 1: 0.199939, 45: 0.1, 89: 6.1e-5}),
        (0.1, 180, {1: 0.099992, 90: 0.05, 179: 8e-6}),
    ],
)
def test_half_a_cosine(base: float, epochs: int, expected: dict[int, float]) -> None:
    schedule = Schedule(name="cosine", warmup_epochs=0)
    found = {epoch: base * schedule.factor(epoch, 0, 1, epochs) for epoch in expected}
    assert found == pytest.approx(expected, abs=5e-7)


def test_the_modern_protocol() -> None:
    protocol = shipped("cifar-400ep-aa")
    assert [protocol.lr(epoch) for epoch in range(6)] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    assert protocol.lr(5 + 395 // 5) == pytest.approx(0.05 * (1 + 0.8090169943749475))  # cos 36 degrees
    assert protocol.lr(399) == pytest.approx(1.58e-6, rel=1e-2)
    assert protocol.optimizer.weight_decay == 5e-4
    assert (protocol.augmentation.autoaugment, protocol.augmentation.cutout) == (True, 16)


def test_cosine_without_warm_up() -> None:
    schedule = Schedule(name="cosine", warmup_epochs=0)
    found = [0.2 * schedule.factor(epoch, 0, 1, 90) for epoch in (0, 1, 45, 89)]
    assert found == pytest.approx([0.2, 0.199939, 0.1, 6.1e-5], abs=1e-6)


def test_a_cosine_as_timm_has_it() -> None:
    """300 epochs, five of them warm-up from 1e-4, and ten more at the minimum; the cosine begins under the warm-up."""
    from timm.scheduler.cosine_lr import CosineLRScheduler

    protocol = shipped("imagenet-300ep-timm")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    theirs = CosineLRScheduler(optimizer, 300, lr_min=1e-6, warmup_t=5, warmup_lr_init=1e-4)
    assert rates(protocol, 1) == pytest.approx([theirs._get_lr(epoch)[0] for epoch in range(310)], rel=1e-12)
    found = [protocol.lr(epoch) for epoch in (0, 1, 4, 150, 299, 300, 309)]
    assert found == pytest.approx([1e-4, 4.8e-4, 1.62e-3, 1.0005e-3, 1.0548e-6, 1e-6, 1e-6], rel=1e-4)


def test_the_protocol_of_nexception() -> None:
    protocol = shipped("imagenet-300ep-timm")
    expected = Lamb(lr=2e-3, weight_decay=0.02, max_grad_norm=1.0, decay_norms_and_biases=False)
    assert protocol.optimizer == expected
    assert (protocol.batch_size, protocol.repeated_augmentation, protocol.ema) == (256, 3, None)
    augmentation = protocol.augmentation
    assert (augmentation.size, round(0.95 * (augmentation.test_resize or 0)), augmentation.color_jitter) == (
        224,
        223,
        0,
    )
    assert augmentation.interpolation == "bicubic"  # timm's default for networks that say nothing
    assert augmentation.steps() == {"rand-augment": {"operations": 2, "magnitude": 30 * 7 // 10}}


def test_the_protocol_of_mixrnet() -> None:
    protocol = shipped("mixrnet-200ep")
    found = [protocol.lr(epoch) for epoch in (0, 50, 100, 150, 199)]
    assert found == pytest.approx([0.05, 0.042678, 0.025, 0.007322, 3.084e-6], rel=1e-4)
    assert (protocol.optimizer, protocol.batch_size) == (SGD(lr=0.05, weight_decay=5e-4), 128)


def test_the_protocol_of_wide_networks() -> None:
    protocol = shipped("cifar-200ep-wrn")
    found = [protocol.lr(epoch) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    assert found == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])
    assert protocol.optimizer == SGD(lr=0.1, nesterov=True, weight_decay=5e-4)


def test_the_protocol_of_resizemix_warms_up_from_almost_nothing() -> None:
    protocol = shipped("resizemix-200ep")
    assert protocol.lr(0, 0, 100) == pytest.approx(1e-5)
    assert protocol.lr(5, 0, 100) == pytest.approx(0.2)
    assert protocol.lr(199, 99, 100) == pytest.approx(1e-5, abs=1e-6)
    assert (protocol.optimizer, protocol.batch_size) == (SGD(lr=0.2, weight_decay=5e-4), 256)


@pytest.mark.parametrize(
    ("name", "epochs", "rates_at", "batch", "decay", "nesterov"),
    [
        ("mixup-200ep", 200, {99: 0.1, 100: 0.01, 149: 0.01, 150: 0.001}, 128, 1e-4, False),
        ("cutmix-300ep", 300, {149: 0.25, 150: 0.025, 224: 0.025, 225: 0.0025}, 64, 1e-4, True),
        ("manifold-mixup-1200ep", 1200, {399: 0.1, 400: 0.01, 799: 0.01, 800: 0.001}, 100, 1e-4, True),
        ("alignmixup-2000ep", 2000, {499: 0.1, 500: 0.01, 999: 0.01, 1000: 0.001, 1500: 0.0001}, 128, 1e-4, False),
        ("openmixup-200ep", 200, {0: 0.1, 100: 0.05}, 100, 1e-4, False),
        # The card's rates over 800 epochs, at the same parts of 200.
        ("automix-200ep", 200, {0: 0.1, 50: 0.09268, 100: 0.075, 150: 0.05732}, 100, 1e-4, False),
    ],
)
def test_the_protocols_of_balanced_classes(
    name: str, epochs: int, rates_at: dict[int, float], batch: int, decay: float, nesterov: bool
) -> None:
    protocol = shipped(name)
    assert {epoch: protocol.lr(epoch) for epoch in rates_at} == pytest.approx(rates_at, abs=1e-5)
    assert (protocol.epochs, protocol.batch_size) == (epochs, batch)
    assert protocol.optimizer == SGD(lr=max(rates_at.values()), nesterov=nesterov, weight_decay=decay)
    assert protocol.schedule.warmup_epochs == 0
    assert protocol.augmentation.padding_mode == ("reflect" if batch == 100 and not nesterov else "zero")


def test_the_protocols_of_small_transformers() -> None:
    short, long = shipped("cifar-30ep-deit"), shipped("cifar-100ep-deit")
    assert short.model_copy(update={"name": long.name, "epochs": 100, "schedule": long.schedule}) == long
    assert (short.schedule.warmup_epochs, long.schedule.warmup_epochs) == (1.5, 5)
    assert long.optimizer == AdamW(lr=1e-3, weight_decay=0.05, decay_norms_and_biases=False)
    found = [long.lr(epoch, step, 97) for epoch, step in ((0, 0), (2, 49), (5, 0), (52, 49), (99, 96))]
    assert found == pytest.approx([0, 5.0103e-4, 1e-3, 5.05e-4, 1e-5], rel=1e-3)


def test_warm_up_and_cosine_by_iteration() -> None:
    schedule = Schedule(name="cosine", warmup_epochs=1, warmup_per="iteration", cosine_per="iteration", minimum_lr=0.25)
    protocol = Protocol(name="p", epochs=5, optimizer=SGD(lr=1.0), schedule=schedule)
    expected = [0, 0.5, 1, 0.971455, 0.890165, 0.768506, 0.625, 0.481494, 0.359835, 0.278545]
    assert rates(protocol, 2) == pytest.approx(expected, abs=1e-6)
    begun = protocol.model_copy(update={"schedule": schedule.model_copy(update={"warmup_from": 0.2})})
    assert rates(begun, 2)[:3] == pytest.approx([0.2, 0.6, 1.0])
    begun = protocol.model_copy(
        update={"schedule": schedule.model_copy(update={"warmup_lr": 0.2}), "optimizer": SGD(lr=0.4)}
    )
    assert rates(begun, 2)[:3] == pytest.approx([0.2, 0.3, 0.4])


def test_a_cool_down_in_percent_has_whole_epochs() -> None:
    protocol = {"epochs": 310, "schedule": {"name": "cosine", "warmup_epochs": "1.613%", "cooldown_epochs": "3.23%"}}
    schedule = with_whole_epochs(protocol)["schedule"]
    assert (schedule["warmup_epochs"], schedule["cooldown_epochs"]) == (5, 10)


def test_the_affordable_protocol_has_the_proportions_of_the_classic() -> None:
    short, classic = shipped("cifar-30ep"), shipped("cifar-200ep")
    scale = classic.epochs / short.epochs
    assert short.schedule.warmup_epochs * scale == classic.schedule.warmup_epochs
    assert tuple(start * scale for start in short.schedule.milestones) == classic.schedule.milestones
    assert short.schedule.factors == classic.schedule.factors
    assert short.optimizer == classic.optimizer
    assert short.augmentation == classic.augmentation
    assert short.batch_size == classic.batch_size
    assert short.lr(0, 0, 97) == 0
    assert short.lr(0, 48, 97) == pytest.approx(0.1 * 48 / 97 / 0.75)
    assert short.lr(0, 96, 97) == 0.1
    assert [short.lr(epoch) for epoch in (1, 23, 24, 26, 27, 29)] == pytest.approx([0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5])


# --- properties --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", shipped_files(PROTOCOLS).values(), ids=lambda path: path.stem)
def test_every_protocol(path: Any) -> None:
    protocol = shipped(path.stem)
    assert protocol.name == path.stem
    assert path.read_text().startswith("# ")
    found = rates(protocol)
    peak = found.index(max(found))
    assert max(found) == pytest.approx(protocol.optimizer.lr, rel=1e-3)  # a cosine may have begun under the warm-up
    assert found[:peak] == sorted(found[:peak])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert min(found) >= 0
    assert all(milestone < protocol.epochs for milestone in protocol.schedule.milestones)


@pytest.mark.parametrize("name", shipped_files(PROTOCOLS))
def test_a_recipe_under_a_shipped_protocol_has_it_as_it_ships(name: str) -> None:
    kind = shipped(name).augmentation.kind
    recipe = load_recipe(f"{'cifar10-lt' if kind == 'crop-flip' else 'imagenet-lt'}/ce", [f"protocol={name}"])
    assert not recipe.protocol_modified()
    assert recipe.protocol.sha256() == shipped(name).sha256()  # which records are held against


def test_names_and_fields_of_old_protocols_are_left_as_they_were() -> None:
    """The digest of a protocol as it was computed when there was no optimizer but `sgd`."""
    assert Protocol.read({"name": "p", "epochs": 3}).sha256() == (
        "1fe26f8c828495013575f90d9ff0740a564e938489db9d97bc4645c79d9c2be8"
    )
    assert list(SGD().model_dump()) == ["name", "lr", "momentum", "nesterov", "weight_decay"]


def test_the_digest_follows_every_setting() -> None:
    base = {"name": "p", "epochs": 3}
    changes: list[dict[str, Any]] = [
        {},
        {"epochs": 4},
        {"version": 2},
        {"batch_size": 64},
        {"evaluate_every": 2},
        {"optimizer": {"nesterov": True}},
        {"schedule": {"warmup_epochs": 0}},
        {"schedule": {"warmup_from": 0.5}},
        {"augmentation": {"padding": 2}},
        {"optimizer": {"name": "adamw"}},
        {"optimizer": {"name": "lamb"}},
        {"optimizer": {"name": "lamb", "max_grad_norm": None}},
        {"optimizer": {"decay_norms_and_biases": False}},
        {"accumulate": 2},
        {"clip_gradients": 1.0},
        {"repeated_augmentation": 3},
        {"batch_augmentation": 3},
        {"ema": {"decay": 0.9}},
        {"schedule": {"warmup_lr": 0.05}},
        {"schedule": {"name": "cosine"}},
        {"schedule": {"name": "cosine", "minimum_lr": 1e-5}},
        {"schedule": {"name": "cosine", "cooldown_epochs": 1}},
        {"schedule": {"name": "cosine", "cosine_per": "iteration"}},
        {"schedule": {"name": "cosine", "cosine_from": "start"}},
    ]
    digests = [Protocol.read(base | change).sha256() for change in changes]
    assert len(set(digests)) == len(digests)
    assert digests[0] == Protocol.read(base | {"batch_size": 128}).sha256()


def test_a_setting_added_later_leaves_old_digests_alone() -> None:
    old = Protocol.read({"name": "p", "epochs": 3})
    assert "warmup_from" not in old.model_dump(mode="json")["schedule"]
    assert old == Protocol.read({"name": "p", "epochs": 3, "schedule": {"warmup_from": None}})
    new = Protocol.read({"name": "p", "epochs": 3, "schedule": {"warmup_from": 0.5}})
    assert Protocol.read(new.model_dump(mode="json")) == new


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"epochs": 1.5}, "integer"),
        ({"batch_size": 1}, "greater than or equal to 2"),
        ({"name": "../other"}, "pattern"),
        ({"name": "a\nb"}, "pattern"),
        ({"optimizer": {"lr": 0}}, "greater than 0"),
        ({"optimizer": {"lr": "0.1"}}, "valid number"),
        ({"optimizer": {"momentum": 0, "nesterov": True}}, "nesterov needs a momentum"),
        ({"schedule": {"milestones": [5]}}, "1 milestones but 0 factors"),
        ({"schedule": {"milestones": [5, 5], "factors": [0.1, 0.1]}}, "must increase"),
        ({"schedule": {"milestones": [5], "factors": [-0.1]}}, "greater than or equal to 0"),
        ({"schedule": {"name": "cosine", "milestones": [5], "factors": [0.1]}}, "no milestones"),
        ({"schedule": {"warmup_per": "step"}}, "'epoch' or 'iteration'"),
        ({"schedule": {"warmup_lr": 0.05, "warmup_from": 0.5}}, "both say where the warm-up starts"),
        ({"schedule": {"warmup_lr": 0.2}}, r"schedule\.warmup_lr 0\.2 is above optimizer\.lr 0\.1"),
        ({"schedule": {"name": "cosine", "minimum_lr": 0.2}}, r"schedule\.minimum_lr 0\.2 is above optimizer\.lr 0\.1"),
        ({"schedule": {"minimum_lr": 1e-5}}, "minimum_lr belongs to a cosine schedule"),
        ({"schedule": {"cooldown_epochs": 1}}, "cooldown_epochs belongs to a cosine schedule"),
        ({"schedule": {"cosine_per": "iteration"}}, "cosine_per belongs to a cosine schedule"),
        ({"accumulate": 0}, "greater than or equal to 1"),
        ({"repeated_augmentation": 101}, "less than or equal to 100"),
        ({"clip_gradients": 0}, "greater than 0"),
        ({"ema": {"decay": 1}}, "less than 1"),
        ({"ema": 0.9}, "should be an object"),
        ({"optimizer": {"name": "adamw", "betas": [0.9]}}, "Field required"),
        ({"optimizer": {"name": "adamw", "betas": [0.9, 1]}}, "less than 1"),
        ({"optimizer": {"name": "lamb", "max_grad_norm": 0}}, "greater than 0"),
        ({"schedule": {"warmup_from": 2}}, "less than or equal to 1"),
    ],
)
def test_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Protocol.read({"name": "p", "epochs": 3} | settings)
