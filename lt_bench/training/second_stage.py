"""What a second stage needs beside the ordinary loop."""

from __future__ import annotations

import time
from typing import Any

from lt_bench.stages import DecoupledNetwork
from lt_bench.training.checkpoint import State
from lt_bench.training.features import features_of
from lt_bench.training.loop import EVALUATION_BATCH, Job


def prepare_second_stage(job: Job, network: DecoupledNetwork, state: State) -> None:
    """Fit a stage that begins to the training images' features, if it asks for them; let it act after each step."""
    stage = network.second_stage
    if stage.needs_features and not state.curve:
        start = time.perf_counter()
        network.eval()
        stage.fit(*features_of(network.features, job.sets.train.clean(EVALUATION_BATCH), job.runtime))
        state.wall_s += time.perf_counter() - start

    def after_step(*_: Any) -> None:
        stage.after_step()

    state.optimizer.register_step_post_hook(after_step)
