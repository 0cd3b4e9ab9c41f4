"""Losses, mixtures and confident sets are in the checkpoint: a training that was broken off ends as if it was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_cases import assert_same_result, at_epoch, once, only, record, tiny, train, until_done

from lt_bench.tensor_files import read_tensors
from lt_bench.training.noise import FILE

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

NOISE = ("data.noise={name: symmetric, rate: 0.4}", "data.n_max=24")
METHODS = {
    "m-dyr-h": (),
    "md-dyr-sh": ("method.guided_before=0.2",),
    "jocor": (),
    "paddles": ("method.amplitude_stop=0", "method.phase_stop=2"),
    "paddles-semi": ("method.amplitude_stop=1", "method.phase_stop=2"),
}
"""Settings under which five epochs have all their parts, the interruptions in between."""


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_is_the_same_to_the_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(name, *NOISE, *METHODS[name])
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train(recipe, straight)
    at_epoch(monkeypatch, before=lambda _: None, after=once(1, 2, 3, 4))
    assert until_done(recipe, broken) == 4
    assert_same_result(broken, straight)
    assert record(broken).label_noise == record(straight).label_noise
    found, expected = (read_tensors(only(folder, FILE))[0] for folder in (broken, straight))
    assert {"flagged", "score"} <= found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    noise = record(straight).label_noise
    assert noise is not None
    assert noise.by_method is not None
