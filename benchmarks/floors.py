"""What a training step of ResNet-32 on this CPU cannot go below: its convolutions and the bytes between them.

Times every kind of convolution of the network, forward and both gradients, as torch runs them (oneDNN), and the kernels
of models/norm.cpp; sums them up over the network; and sets them against the machine's limit: products that never leave
the registers (registers.cpp), on as many threads. A large matrix product of torch's stands beside it. The FLOP are
without the taps that fall outside the image.

    python benchmarks/floors.py [--precision float32]

On a machine that is busy otherwise, OMP_NUM_THREADS=1 and --clock processor: the processor's time of one thread.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.models.norm import BatchNormReLU, fuse
from lt_bench.native import load_native
from lt_bench.training.runtime import choose_runtime

BATCH = 128
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}
Timed = Callable[[Callable[[], object]], float]
# channels in and out, size of the input, stride, how often it stands in ResNet-32
CONVOLUTIONS = (
    (3, 16, 32, 1, 1),
    (16, 16, 32, 1, 10),
    (16, 32, 32, 2, 1),
    (32, 32, 16, 1, 9),
    (32, 64, 16, 2, 1),
    (64, 64, 8, 1, 9),
)
# channels, size, how often without and with a residual
NORMS = ((16, 32, 6, 5), (32, 16, 5, 5), (64, 8, 5, 5))


def milliseconds(call: Callable[[], object], repeats: int = 15, clock: Clock = time.perf_counter) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats + 3):
        start = clock()
        call()
        times.append(clock() - start)
    return 1e3 * statistics.median(times[3:])


def limit(precision: str, tries: int = 20) -> tuple[float, str]:
    """GFLOP/s of products in `precision`, float32 or bf16, that never leave the registers; and what multiplies.

    The best of some short tries: what else runs on the machine, and its clock, can only lower it.
    """
    library = load_native(Path(__file__).with_name("registers.cpp"))
    multiply, unit = library[f"multiply_{precision}"], library[f"unit_{precision}"]
    multiply.argtypes, multiply.restype, unit.restype = [ctypes.c_int64], ctypes.c_int64, ctypes.c_char_p
    best = 0.0
    for _ in range(tries):
        start = time.perf_counter()
        done = multiply(100_000)
        best = max(best, 1e-9 * done / (time.perf_counter() - start))
    return best, unit().decode()


def taps(size: int, stride: int) -> int:
    """Of the three taps of every output along one side, those that fall inside the image."""
    return sum(0 <= place + tap < size for place in range(0, size, stride) for tap in (-1, 0, 1))


def passes(x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> dict[str, Callable[[], Tensor]]:
    """The three passes of a 3x3 convolution with padding 1, each a function without arguments.

    Images [B, C_in, H, W] and weight [C_out, C_in / groups, 3, 3], both channels last.
    """
    y = F.conv2d(x, weight, None, stride, 1, 1, groups)

    def gradient(which: int) -> Callable[[], Tensor]:
        geometry = ([stride, stride], [1, 1], [1, 1], False, [0, 0], groups)
        mask = [place == which for place in range(3)]
        return lambda: torch.ops.aten.convolution_backward(y, x, weight, None, *geometry, mask)[which]

    return {
        "forward": lambda: F.conv2d(x, weight, None, stride, 1, 1, groups),
        "data gradient": gradient(0),
        "weight gradient": gradient(1),
    }


def convolution(
    c_in: int, c_out: int, size: int, stride: int, dtype: torch.dtype, timed: Timed
) -> tuple[float, float, float, float]:
    """GFLOP of one pass, and ms of forward, data gradient and weight gradient."""
    x = torch.randn(BATCH, c_in, size, size).to(dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(c_out, c_in, 3, 3).to(dtype).to(memory_format=torch.channels_last)
    forward, data, weights = passes(x, weight, stride).values()
    # Nobody asks for the gradient of the images.
    times = timed(forward), 0.0 if c_in == 3 else timed(data), timed(weights)
    return 2e-9 * BATCH * c_in * c_out * taps(size, stride) ** 2, *times


def norm(channels: int, size: int, residual: bool, dtype: torch.dtype, timed: Timed) -> float:
    """ms of the fused layer, forward and backward."""
    layer = BatchNormReLU(channels)
    fuse(layer)
    shape = (BATCH, channels, size, size)
    x, r, dy = (torch.randn(shape).to(dtype).to(memory_format=torch.channels_last) for _ in range(3))
    x.requires_grad_()
    r.requires_grad_(residual)
    inputs = (x, r) if residual else (x,)

    def step() -> None:
        torch.autograd.grad(layer(*inputs), inputs, dy)

    return timed(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    arguments = parser.parse_args()
    runtime = choose_runtime("cpu", arguments.precision, "on")
    timed = partial(milliseconds, clock=CLOCKS[arguments.clock])
    dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    (most, unit), product = limit(runtime.precision), 2 * 2048**3 / timed(lambda: a @ b) / 1e6
    print(f"{runtime.description}, torch {torch.__version__}, time of the {arguments.clock}")
    print(f"Limit: {most:.0f} GFLOP/s, {unit}. A matrix product: {product:.0f} ({product / most:.0%})\n")

    print("| convolution | times | forward ms (GFLOP/s, of the limit) | data gradient | weight gradient |")
    print("| :-- | --: | --: | --: | --: |")
    work = spent = 0.0
    for c_in, c_out, size, stride, count in CONVOLUTIONS:
        gflop, *times = convolution(c_in, c_out, size, stride, dtype, timed)
        cells = [f"{t:.2f} ({1e3 * gflop / t:.0f}, {1e3 * gflop / t / most:.0%})" if t else "" for t in times]
        print(f"| {c_in} to {c_out}, {size}x{size}, stride {stride} | {count} | {' | '.join(cells)} |")
        work += count * gflop * sum(t > 0 for t in times)
        spent += count * sum(times)
    between = sum(
        plain * norm(c, size, False, dtype, timed) + joined * norm(c, size, True, dtype, timed)
        for c, size, plain, joined in NORMS
    )
    total = spent + between
    print(
        f"\n{BATCH} images: {work:.1f} GFLOP of convolutions, {spent:.0f} ms, {1e3 * work / spent / most:.0%} of the"
        f" limit; at it {1e3 * work / most:.0f} ms, at the product's rate {1e3 * work / product:.0f} ms."
    )
    print(
        f"Fused normalisation, residual sums and ReLU: {between:.0f} ms. Together {1e3 * BATCH / total:.0f} images/s."
    )


if __name__ == "__main__":
    main()
