"""The machine a run happens on: device, precision, memory, versions."""

from __future__ import annotations

import ctypes
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import torchvision

from lt_bench.errors import UserError, unknown

Precision = Literal["auto", "float32", "bf16"]


@dataclass(frozen=True)
class Runtime:
    """Where and in which arithmetic a run computes; nothing here changes what is computed."""

    device: torch.device
    precision: Literal["float32", "bf16"]

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision for the forward pass where `precision` says so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def memory_format(self) -> torch.memory_format:
        """The faster layout of the weights: channels last, but for bf16 on CPUs, where it was several times slower."""
        slow = self.device.type == "cpu" and self.precision == "bf16"
        return torch.contiguous_format if slow else torch.channels_last

    @property
    def description(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def precision_named(name: str) -> Precision:
    """A precision from the command line. Raises UserError for any other word."""
    for allowed in get_args(Precision):
        if name == allowed:
            precision: Precision = allowed
            return precision
    raise UserError(f"--precision {unknown('precision', name, get_args(Precision))}")


def choose_runtime(device: str = "auto", precision: Precision = "auto") -> Runtime:
    """Resolve `auto`: a CUDA device where there is one; bf16 where the hardware multiplies in it."""
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device}: allowed are auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device on this machine; use --device cpu")
    name = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    fast_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if name == "cuda" else _cpu_multiplies_bf16()
    chosen = precision if precision != "auto" else "bf16" if fast_bf16 else "float32"
    keep_freed_memory()
    if name == "cuda":
        # float32 means float32: by default cuDNN would convolve in TF32.
        torch.backends.cudnn.allow_tf32 = False
        torch.cuda.reset_peak_memory_stats()
    return Runtime(torch.device(name), chosen)


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
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": runtime.device.type if runtime.device.type == "cpu" else runtime.description,
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "precision": runtime.precision,
        "compile": False,
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
