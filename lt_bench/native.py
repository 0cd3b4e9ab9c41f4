"""C++ of the suite, compiled for the processor at hand on first use and kept in the cache.

The sources include no header of torch and are called through ctypes with pointers: a second of compilation, no
extension to build at installation. A machine without a compiler runs the same arithmetic in plain torch.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from lt_bench.data.arrays import build_folder, cache_folder
from lt_bench.errors import UserError

COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math: a sum keeps its order and NaN stays NaN.
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno")


class NoCompilerError(Exception):
    """The sources cannot be compiled here. The message says why, in one line."""


@cache
def load_native(source: Path, *flags: str) -> ctypes.CDLL:
    """The shared library made of a C++ source, with further flags. Raises NoCompilerError where it cannot be had."""
    key = hashlib.sha256(b"\0".join([source.read_bytes(), _processor().encode(), *map(str.encode, (*FLAGS, *flags))]))
    folder = cache_folder(None) / "native" / f"{source.stem}-{key.hexdigest()[:16]}"
    library = folder / f"{source.stem}.so"
    try:
        if not library.is_file():
            build_folder(
                folder, lambda scratch: _compile(source, scratch / library.name, flags), lambda _: library.is_file()
            )
        return ctypes.CDLL(str(library))
    except (UserError, OSError) as error:
        raise NoCompilerError(f"{library}: {' '.join(str(error).split())}") from None


def _compiler() -> str:
    named = os.environ.get("CXX")
    found = next((path for name in (named, *COMPILERS) if name and (path := shutil.which(name))), None)
    if found is None:
        raise NoCompilerError(f"no C++ compiler on PATH, looked for {', '.join(COMPILERS)} and $CXX")
    return found


def _compile(source: Path, library: Path, flags: Sequence[str]) -> None:
    compiler = _compiler()
    # The very OpenMP library that torch has loaded: two pools of threads would fight for the cores.
    beside = ["-L", str(Path(torch.__file__).parent / "lib")]
    command = [compiler, *FLAGS, *beside, str(source), *flags, "-o", str(library)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise NoCompilerError(f"{compiler}: {' '.join(reason.split())}")


@cache
def _processor() -> str:
    """What -march=native depends on: a cache that several machines share holds a library for each."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return "\n".join([platform.machine(), platform.processor(), *sorted(set(facts))])
