"""A run with wrong labels: what it trains on, what it leaves, and that its record is believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_cases import only, options, record, tiny, train

from lt_bench.data.opening import open_split
from lt_bench.data.types import Epoch
from lt_bench.leaderboard import load_record
from lt_bench.leaderboard.aggregate import scores
from lt_bench.losses.logit_adjustment import BalancedSoftmax
from lt_bench.methods import Suspects
from lt_bench.tensor_files import read_tensors
from lt_bench.training import tryout
from lt_bench.training.noise import FILE, outcome
from lt_bench.training.run import build_job
from lt_bench.training.tryout import try_out

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

NOISE = "data.noise={name: symmetric, rate: 0.4}"


def test_a_training_sees_given_labels_alone(tmp_path: Path) -> None:
    recipe = tiny("balanced-softmax", NOISE)
    split = open_split(recipe.data)
    job = build_job(recipe, split, 0, options(tmp_path), epochs=5)
    assert split.given is not None
    assert (job.sets.train.labels == split.given).all()
    assert torch.cat([batch.labels for batch in job.sets.train.clean(16)]).tolist() == split.given.tolist()
    counts = np.bincount(split.given, minlength=10)
    assert (job.sets.counts == split.counts).all()
    assert (counts != split.counts).any()
    prior = next(loss for loss in job.method.modules() if isinstance(loss, BalancedSoftmax)).log_prior
    assert torch.allclose(prior.exp() * counts.sum(), torch.from_numpy(counts).float(), rtol=1e-4)


def test_the_record_of_a_noisy_run(tmp_path: Path) -> None:
    done = train(tiny("ce", NOISE), tmp_path)
    found = load_record(done.record)
    split = open_split(tiny("ce", NOISE).data)
    right, given = split.train.labels, split.given
    assert given is not None
    noise, fate = found.dataset.noise, found.label_noise
    assert noise is not None
    assert fate is not None
    assert found.dataset.train_counts == tuple(split.counts)
    assert noise.given_sha256 == split.given_sha256
    assert noise.wrong == tuple(np.bincount(right[given != right], minlength=10))
    assert sum(fate.by_loss.flagged) == sum(noise.wrong)
    assert fate.by_method is None
    assert sum(fate.losses["all"].right) + sum(fate.losses["all"].wrong) == len(given)
    tensors, _ = read_tensors(only(tmp_path, FILE))
    assert (tensors["right"].numpy() == right).all()
    assert (tensors["given"].numpy() == given).all()
    learned = (tensors["predicted"].numpy() == given) & (given != right)
    assert fate.memorised == tuple(np.bincount(given[learned], minlength=10))
    again = train(tiny("ce", NOISE), tmp_path)
    assert not again.trained


def test_clean_runs_say_nothing_of_noise(tmp_path: Path) -> None:
    train(tiny("ce"), tmp_path)
    text = only(tmp_path, "seed*.json").read_text()
    assert "noise" not in text
    assert record(tmp_path).label_noise is None
    assert not list(tmp_path.rglob(FILE))


def test_what_a_method_suspects_is_counted_by_the_given_class() -> None:
    split = open_split(tiny("ce", NOISE).data)
    assert split.given is not None
    wrong = split.given != split.train.labels
    perfect = Suspects(torch.from_numpy(wrong), torch.from_numpy(wrong))
    nothing = np.zeros(len(wrong))
    found = outcome(split, split.given, nothing, nothing.astype(np.int64), perfect).by_method
    assert found is not None
    assert found.hits == found.flagged == tuple(np.bincount(split.given[wrong], minlength=10))
    assert found.auc["all"] == 1.0
    assert found.auc["many"] is None  # there are no such classes


def test_a_noisy_recipe_can_be_tried(tmp_path: Path) -> None:
    recipe = tiny("class-balanced-sampling", NOISE)
    told: list[object] = []
    try_out(recipe, 0, replace(options(tmp_path)), lambda *said: told.append(said))
    assert told


@torch.no_grad()
def test_the_time_of_a_look_is_that_of_all_images_and_leaves_nothing(tmp_path: Path) -> None:
    recipe = tiny("m-dyr-h", NOISE)
    job = build_job(recipe, open_split(recipe.data), 0, options(tmp_path), epochs=5)
    before = {name: value.clone() for name, value in job.method.state_dict().items()}
    job.network.eval()
    assert tryout._look_s(job, Epoch(4, 5, 0)) > 0
    assert all(torch.equal(value, before[name]) for name, value in job.method.state_dict().items())
    plain = build_job(tiny("ce"), open_split(tiny("ce").data), 0, options(tmp_path), epochs=5)
    assert tryout._look_s(plain, Epoch(4, 5, 0)) == 0.0


@pytest.mark.parametrize("name", ["ce", "m-dyr-h", "paddles"])
def test_a_class_without_a_right_label_is_trained_and_measured(name: str, tmp_path: Path) -> None:
    """All three images of the rarest class are labelled as others, and others bear its label."""
    noise = "data.noise={name: symmetric-exclusive, rate: 0.9, seed: 1}"
    done = train(tiny(name, "data.n_max=60", "data.factor=20", noise), tmp_path)
    found = load_record(done.record)
    given = found.dataset.noise
    assert given is not None
    lost = [k for k in range(10) if given.wrong[k] == found.dataset.train_counts[k]]
    assert lost
    assert all(given.given[k] > 0 for k in lost)
    figures = scores(found)
    assert figures["memorised"] is not None
    assert figures["loss_auc"] is not None
