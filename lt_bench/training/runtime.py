"""The machine a run happens on: device, precision, compiled code, memory, versions."""

from __future__ import annotations

import ctypes
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MethodType
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from lt_bench import ranks
from lt_bench.errors import UserError
from lt_bench.models import Network
from lt_bench.models.norm import fuse, kernels
from lt_bench.native import NoCompilerError
from lt_bench.plugins import loaded_plugins
from lt_bench.training.options import Compile, Precision, device_named

Compiled = Literal["native kernels", "torch.compile"]

COMPILE_FROM_STEPS = 5000
"""torch.compile takes a minute or more before the first step: shorter runs are done sooner without."""


@dataclass(frozen=True)
class Runtime:
    """Where and in which arithmetic a run computes; nothing here changes what is computed."""

    device: torch.device
    precision: Literal["float32", "bf16"]
    compiled: Compiled | None = None
    """What is compiled: on a CPU the kernels of `models.norm`, on CUDA the network by torch; None: nothing."""
    why_not: str = ""
    """Why nothing is compiled although it was not switched off."""

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision for the forward pass where `precision` says so.

        Without its cache of weights: in older versions of torch one that is filled without gradients, by a method that
        looks at its network before it trains it, leaves the weights without a gradient in the step, and says nothing
        (github.com/pytorch/pytorch/pull/165068).
        """
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)

    def uncompiled(self, when: bool = True) -> AbstractContextManager[object]:
        """Where torch.compile is used, do without: it would take half a minute for every new shape of a batch.

        Full training batches pay that back; the last batch of an epoch and evaluations do not.
        """
        eager = when and self.compiled == "torch.compile"
        return torch.compiler.set_stance("force_eager") if eager else nullcontext()

    def begin_step(self) -> None:
        """Tell CUDA graphs that what the network gave in the step before is read no more: they write over it."""
        if self.compiled == "torch.compile":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def prepare(self, network: Network) -> Network:
        """The network on the device, in the faster layout, compiled where this runtime compiles."""
        network = network.to(self.device).to(memory_format=self.memory_format)
        if self.compiled == "native kernels":
            fuse(network)
        elif self.compiled == "torch.compile":
            # Or a network would run the code of an earlier one that it differs from by hooks alone, by a dropout say:
            # torch does not look at them.
            torch.compiler.reset()
            # By parts, so that methods may call the branches one by one. Into CUDA graphs: so small a network has
            # hundreds of kernels of a few microseconds, which a processor cannot launch as fast as the GPU is done.
            for part in (network.trunk, *network.branches):
                # torch 2.11 traces no forward of torch's own, such as Sequential's: it would compile block by block.
                part.forward = MethodType(_forward, part)
                part.compile(dynamic=False, mode="reduce-overhead")
        return network

    @property
    def memory_format(self) -> torch.memory_format:
        """Channels last, which the kernels need; contiguous for bf16 on a CPU without them."""
        plain = self.device.type == "cpu" and self.precision == "bf16" and self.compiled is None
        return torch.contiguous_format if plain else torch.channels_last

    @property
    def description(self) -> str:
        """Device, precision and compiled code in a line."""
        count = torch.get_num_threads()
        threads = f", {count} thread{'s' * (count > 1)}" if self.device.type == "cpu" else ""
        without = f"not compiled ({self.why_not})" if self.why_not else "not compiled"
        processes = f"{ranks.count()} processes on " if ranks.count() > 1 else ""
        return f"{processes}{self.device_name}{threads}, {self.precision}, {self.compiled or without}"

    @property
    def device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else _cpu_name()


def _forward(module: torch.nn.Module, *inputs: Any) -> Any:
    """The module's own forward, called from a frame of this package."""
    return type(module).forward(module, *inputs)


def choose_runtime(
    device: str = "auto", precision: Precision = "auto", compile: Compile = "auto", steps: int = 0
) -> Runtime:
    """Resolve `auto`: CUDA where there is one, bf16 where the hardware multiplies in it, compiled code where it pays.

    `steps` is the length of the training, on which it depends whether torch.compile pays.
    Raises UserError for a device or a compiler that was asked for and is not there.
    """
    device = device_named(device)
    name = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    fast_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if name == "cuda" else _cpu_multiplies_bf16()
    chosen = precision if precision != "auto" else "bf16" if fast_bf16 else "float32"
    keep_freed_memory()
    if name == "cuda":
        # float32 means float32: by default cuDNN would convolve in TF32.
        torch.backends.cudnn.allow_tf32 = False
        torch.cuda.reset_peak_memory_stats()
    if compile == "off":
        return Runtime(torch.device(name), chosen)
    if ranks.count() > 1:
        # Compiled code has its own batch normalisation, of the rows of one process.
        if compile == "on":
            raise UserError(f"--compile on: not with {ranks.count()} processes, which normalise their batches together")
        return Runtime(torch.device(name), chosen, None, f"{ranks.count()} processes")
    if name == "cuda":
        compiled, why_not = _torch_compile(needed=compile == "on", steps=steps)
    else:
        compiled, why_not = _native_kernels(chosen, needed=compile == "on")
    return Runtime(torch.device(name), chosen, compiled, why_not)


def _torch_compile(*, needed: bool, steps: int) -> tuple[Compiled | None, str]:
    if find_spec("triton") is None:
        if needed:
            raise UserError("--compile on: torch.compile needs the package triton on CUDA, which is not installed")
        return None, "no triton"
    if not needed and steps < COMPILE_FROM_STEPS:
        return None, f"only {steps} steps"
    return "torch.compile", ""


def _native_kernels(precision: str, *, needed: bool) -> tuple[Compiled | None, str]:
    try:
        kernels()
    except NoCompilerError as error:
        if needed:
            raise UserError(f"--compile on: {error}") from None
        return None, str(error)
    if not needed and precision == "bf16" and not _channels_last_is_fast():
        return None, "slow convolutions in channels last"
    return "native kernels", ""


@cache
def _channels_last_is_fast() -> bool:
    """Whether convolutions in bf16 run in channels last, which the kernels need, at a speed worth having.

    They do where they were measured, and better than contiguous; but one CPU was reported on which they were six
    times slower. The answer must be the same in every process, or a run could not be resumed: so one thread's own
    time counts, which other programs do not lengthen, and the bound of 3 is far from both findings.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rounds = [(_convolution_s(torch.channels_last), _convolution_s(torch.contiguous_format)) for _ in range(5)]
    finally:
        torch.set_num_threads(threads)
    return min(last for last, _ in rounds) < 3 * min(contiguous for _, contiguous in rounds)


def _convolution_s(layout: torch.memory_format) -> float:
    """Seconds of this thread for a convolution of the first stage of ResNet-32, forward and backward, in bf16."""
    x = torch.ones(16, 16, 32, 32, dtype=torch.bfloat16).to(memory_format=layout).requires_grad_()
    weight = torch.ones(16, 16, 3, 3, dtype=torch.bfloat16).to(memory_format=layout).requires_grad_()
    start = time.thread_time()
    y = F.conv2d(x, weight, padding=1)
    torch.autograd.grad(y, (x, weight), torch.ones_like(y))
    return time.thread_time() - start


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks for the next step instead of handing them back to the system.

    Without this, every step pays page faults for the same activations again. Returns whether it was
    possible; elsewhere than on glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
    mallopt = ctypes.CDLL(None).mallopt
    settings = [(m_mmap_threshold, 1 << 30), (m_trim_threshold, (1 << 31) - 1), (m_top_pad, 1 << 28)]
    return all(mallopt(option, value) == 1 for option, value in settings)


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far in MiB: allocated by the run on a CUDA device, else resident in the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def environment(runtime: Runtime) -> dict[str, object]:
    """What a record says of code, versions and machine."""
    commit, dirty = _commit()
    return {
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),  # to import it takes as long as torch does
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": runtime.device.type if runtime.device.type == "cpu" else runtime.device_name,
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "precision": runtime.precision,
        "compile": runtime.compiled or False,
        "processes": ranks.count(),
        "synchronised_batch_norm": ranks.count() > 1,
        "plugins": loaded_plugins(),
    }


def _cpu_multiplies_bf16() -> bool:
    # AVX-512 without the bf16 extension only emulates it, slower than float32; autocast would not pay.
    checks: list[Callable[[], bool]] = [
        getattr(torch.cpu, name, lambda: False) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return any(check() for check in checks)


@cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


@cache
def _commit() -> tuple[str | None, bool | None]:
    """The commit of the running code and whether what matters differs from it; None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--", "lt_bench", "recipes", "datasets", "pyproject.toml")
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit, bool(changes)


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()
