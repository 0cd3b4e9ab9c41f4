"""Settings ranked by held-out images: by hand, and as a user gets them from runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records_factory import EPOCHS, add_record, digest, make_data
from run_cases import refused

from lt_bench.leaderboard.tuning import choices

LtBench = Callable[..., Any]
HELD_OUT = "data.validation_per_class=20"


def tried(folder: Path, *said: str, seed: int = 0, best: float = 0.5, last: float = 0.5, **changes: Any) -> Path:
    """A record with a validation part: top-1 there is `best` after the first epoch, `last` after the last one."""
    data = {"name": "tiny-lt", "factor": 500.0, "profile": "exponential", "subset_seed": 0, "n_max": None}
    plain = make_data(seed=seed)
    curve = plain["curve"] | {"val_top1": [best, *[None] * (EPOCHS - 2), last]}
    selections = plain["selections"] | {"best-on-val": plain["selections"]["last"] | {"epoch": 0}}
    curve["test_top1"][0] = curve["test_top1"][-1]
    changes = {"dataset": {"validation_sha256": digest("held out")}} | changes
    held_out = {"data": data | {"validation_per_class": 20}}
    return add_record(
        folder, seed=seed, overrides=(HELD_OUT, *said), curve=curve, selections=selections, recipe=held_out, **changes
    )


def test_by_hand(tmp_path: Path) -> None:
    for seed, last in enumerate((0.40, 0.42, 0.44)):
        tried(tmp_path, "loss.tau=2", seed=seed, best=0.5, last=last)
        tried(tmp_path, seed=seed, best=0.4, last=last - 0.1)
    tried(tmp_path, "mix=cutmix", best=0.48, last=0.46, protocol={"name": "cifar-200ep"})
    ((key, found),) = choices(tmp_path).items()
    assert key.split_sha256  # of a set that does not ship
    assert key.title == f"tiny-lt-if500, split {key.split_sha256[:12]}, validated on {digest('held out')[:12]}"
    assert [(one.method, one.protocol, one.seeds, one.rank) for one in found] == [
        ("ce (mix=cutmix)", "cifar-200ep", (0,), None),
        ("ce (loss.tau=2)", "cifar-30ep", (0, 1, 2), (1, 1)),
        ("ce", "cifar-30ep", (0, 1, 2), (2, 2)),
    ]
    assert [(one.last, one.best) for one in found] == [
        (pytest.approx(46), pytest.approx(48)),
        (pytest.approx(42), pytest.approx(50)),
        (pytest.approx(32), pytest.approx(40)),
    ]
    # s = 2, t(0.975, 2) = 4.302653
    assert [one.interval for one in found] == [None, *[pytest.approx(4.302653 * 2 / 3**0.5, rel=1e-6)] * 2]


def test_other_images_are_another_table(tmp_path: Path) -> None:
    tried(tmp_path, last=0.4)
    tried(tmp_path, last=0.5, dataset={"validation_sha256": digest("others"), "split_sha256": digest("other split")})
    tried(
        tmp_path, last=0.45, dataset={"validation_sha256": digest("held out"), "split_sha256": digest("another card")}
    )
    found = choices(tmp_path).values()
    assert sorted(one.last for (one,) in found) == [pytest.approx(40), pytest.approx(45), pytest.approx(50)]


def test_without_held_out_images_there_is_nothing_to_tell(lt_bench: LtBench, working_folder: Path) -> None:
    add_record(working_folder / "records")
    refused(lt_bench("leaderboard", "tuning", "--records", "records"), "records: no run there held images out")


def test_from_a_grid_to_the_choice(lt_bench: LtBench, working_folder: Path) -> None:
    quick = ("protocol.epochs=1", "protocol.schedule={warmup_epochs: 0}", "data.validation_per_class=2")
    swept = lt_bench("sweep", "digits-lt/ce", *quick, "--grid", "protocol.optimizer.lr=0.1,0.01", "--seeds", "0,1")
    assert swept.code == 0, swept.err
    told = lt_bench("leaderboard", "tuning")
    assert (told.code, told.out.count("protocol.optimizer.lr="), HELD_OUT in told.out) == (0, 2, False)
    rows = json.loads(lt_bench("leaderboard", "tuning", "--json").out)
    assert [row["seeds"] for row in rows] == [[0, 1]] * 2
    curves = [json.loads(path.read_text())["curve"]["val_top1"] for path in working_folder.rglob("seed*.json")]
    assert sum(row["last"] for row in rows) == pytest.approx(100 * sum(curve[-1] for curve in curves) / 2)
