"""Each convolution of ResNet-32 alone: do the convolutions bind a GPU, or the number of kernels around them?

Forward and both gradients of every kind of convolution of the network, in three forms: plain; grouped, four seeds side
by side as one convolution of four groups; dense, four seeds as one convolution of four times the channels whose weight
is zero but for the four blocks on its diagonal. In one process, and in several that time the same convolution at once.

On a GPU the times are the device's own: CALLS calls are captured in a CUDA graph, so that no launch is waited for, and
REPLAYS replays of it run between two events. On a CPU they are wall times of single calls. The inputs stay the same, so
they are in the cache as far as they fit. TFLOP/s count useful arithmetic, all processes together: without the taps that
fall outside the image and without the zeros of the dense form.

The last column of the last table is what the convolutions of one training step take of the machine. Beside it stands
the whole step, 128 images over the images/s of all runs in sharing.py: where the two are close, the convolutions bind.

    python benchmarks/convolutions.py [--device cpu] [--processes 1 8]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from floors import BATCH, CONVOLUTIONS, milliseconds, passes, taps
from sharing import together
from torch import Tensor

from lt_bench.errors import UserError
from lt_bench.training.options import Precision
from lt_bench.training.runtime import Runtime, choose_runtime

SEEDS = 4
FORMS = ("plain", "grouped", "dense")
PASSES = ("forward", "data gradient", "weight gradient")
CALLS = 50
REPLAYS = 4


class Case(NamedTuple):
    """What one time belongs to: a kind of convolution, by its place in CONVOLUTIONS, a form and a pass."""

    kind: int
    form: str
    name: str

    @property
    def gflop(self) -> float:
        """Useful arithmetic of one call on one image."""
        c_in, c_out, size, stride, _ = CONVOLUTIONS[self.kind]
        return 2e-9 * c_in * c_out * taps(size, stride) ** 2 * seeds(self.form)

    @property
    def times(self) -> int:
        """How often it stands in a training step."""
        return CONVOLUTIONS[self.kind][-1]


@dataclass(frozen=True)
class Settings:
    """How to measure: `device` is cpu or cuda, `precision` float32 or bf16, `batch` in images."""

    device: str
    precision: Precision
    batch: int
    rounds: int


def seeds(form: str) -> int:
    """Networks that one convolution serves."""
    return 1 if form == "plain" else SEEDS


def cases() -> Iterator[Case]:
    """Everything that is timed, in the order of the tables."""
    for kind, (c_in, *_) in enumerate(CONVOLUTIONS):
        for form in FORMS:
            # Nobody asks for the gradient of the images.
            yield from (Case(kind, form, name) for name in PASSES if c_in != 3 or name != "data gradient")


def merged(form: str, images: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor, int]:
    """Images, weight and number of groups of one convolution for all seeds; in the plain form for the first alone."""
    if form == "plain":
        return images[0], weights[0], 1
    side_by_side = torch.cat(tuple(images), 1)
    if form == "grouped":
        return side_by_side, torch.cat(tuple(weights)), len(weights)
    return side_by_side, block_diagonal(weights), 1


def block_diagonal(weights: Sequence[Tensor]) -> Tensor:
    """The weight [S * C_out, S * C_in, 3, 3] whose diagonal blocks are the S weights [C_out, C_in, 3, 3]."""
    c_out, c_in, *window = weights[0].shape
    dense = weights[0].new_zeros(len(weights), c_out, len(weights), c_in, *window)
    for seed, weight in enumerate(weights):
        dense[seed, :, seed] = weight
    return dense.flatten(2, 3).flatten(0, 1)


def pass_of(case: Case, batch: int, runtime: Runtime) -> Callable[[], Tensor]:
    """The pass of the case on random numbers."""
    c_in, c_out, size, stride, _ = CONVOLUTIONS[case.kind]
    dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    images = [torch.randn(batch, c_in, size, size) for _ in range(SEEDS)]
    weights = [torch.randn(c_out, c_in, 3, 3) for _ in range(SEEDS)]
    *tensors, groups = merged(case.form, images, weights)
    x, weight = (t.to(runtime.device, dtype).to(memory_format=torch.channels_last) for t in tensors)
    return passes(x, weight, stride, groups)[case.name]


class Replays:
    """A CUDA graph of CALLS calls."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call  # with the tensors that the graph reads
        self.graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            call()
        torch.cuda.synchronize()
        with torch.cuda.graph(self.graph, stream=stream):
            for _ in range(CALLS):
                call()
        self.graph.replay()

    def milliseconds(self) -> float:
        """The device's time of a call, the mean over REPLAYS replays."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(REPLAYS):
            self.graph.replay()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / (REPLAYS * CALLS)


def prepare(call: Callable[[], object], rounds: int, runtime: Runtime) -> Callable[[], float]:
    """A function that times the call so many times and returns the median in ms."""
    if runtime.device.type == "cpu":
        return lambda: milliseconds(call, rounds)
    replays = Replays(call)
    return lambda: statistics.median(replays.milliseconds() for _ in range(rounds))


def work(settings: Settings, processes: int, start: Any) -> dict[Case, float]:
    """What one of the processes does: ms of every case, each begun by all at the same time."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    runtime = choose_runtime(settings.device, settings.precision, "off")
    found = {}
    for case in cases():
        timed = prepare(pass_of(case, settings.batch, runtime), settings.rounds, runtime)
        start.wait()
        found[case] = timed()
    return found


def measure(settings: Settings, processes: int) -> dict[Case, float]:
    """Milliseconds of every case, the median over the processes that ran at once."""
    each = together(processes, work, settings, processes)
    return {case: statistics.median(found[case] for found in each) for case in cases()}


def table(found: dict[Case, float], batch: int, processes: int) -> list[str]:
    """A row for every kind of convolution in every form."""
    lines = [f"| convolution | times | form | {' | '.join(f'{name} ms (TFLOP/s)' for name in PASSES)} |"]
    lines.append("| :-- | --: | :-- | --: | --: | --: |")
    for kind, (c_in, c_out, size, stride, times) in enumerate(CONVOLUTIONS):
        for form in FORMS:
            cells = [_cell(found, Case(kind, form, name), batch, processes) for name in PASSES]
            title = f"{c_in} to {c_out}, {size}x{size}, stride {stride}"
            lines.append(f"| {title} | {times} | {form} | {' | '.join(cells)} |")
    return lines


def _cell(found: dict[Case, float], case: Case, batch: int, processes: int) -> str:
    if case not in found:
        return ""
    return f"{found[case]:.3f} ({processes * batch * case.gflop / found[case]:.3g})"


def step_row(found: dict[Case, float], form: str, batch: int, processes: int) -> str:
    """All convolutions of a training step in one form."""
    own = [case for case in found if case.form == form]
    count = sum(case.times for case in own)
    spent = sum(case.times * found[case] for case in own)
    gflop = processes * batch * sum(case.times * case.gflop for case in own)
    networks = processes * seeds(form)
    return (
        f"| {processes} | {form} | {networks} | {count} | {spent:.3f} | {gflop / spent:.3g} | {spent / networks:.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--processes", type=int, nargs="+", help="1 and 8 on a GPU, 1 and 2 on a CPU")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rounds", type=int, default=7, help="of which the median counts")
    arguments = parser.parse_args()
    try:
        runtime = choose_runtime(arguments.device, arguments.precision, "off")
    except UserError as error:
        raise SystemExit(f"convolutions.py: {error}") from None
    settings = Settings(runtime.device.type, runtime.precision, arguments.batch, arguments.rounds)
    print(f"{runtime.device_name}, {runtime.precision}, torch {torch.__version__}, batch {arguments.batch}")
    rows = ["| processes | form | networks at once | convolutions | ms a step | TFLOP/s | ms a step and network |"]
    rows.append("| --: | :-- | --: | --: | --: | --: | --: |")
    for processes in arguments.processes or (1, 2 if runtime.device.type == "cpu" else 8):
        found = measure(settings, processes)
        print(f"\nProcesses at once: {processes}\n", *table(found, arguments.batch, processes), sep="\n", flush=True)
        rows += [step_row(found, form, arguments.batch, processes) for form in FORMS]
    print("\nA training step:\n", *rows, sep="\n")


if __name__ == "__main__":
    main()
