"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples everywhere, on machines of any speed: a red run can be repeated.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Networks are so small here that a second thread only waits. Before torch is imported, and for subprocesses too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where it is set, each of some hundred processes that tests start would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets; a test that uses it carries the mark `data`."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("LT_BENCH_DATA") or beside)
    if not root.is_dir():
        pytest.skip(f"no real data: LT_BENCH_DATA is not set to a folder and {beside} is not there")
    return root


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a benchmark by name."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return import_module


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of decoded data, used by everything in the test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LT_BENCH_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of decoded data that all tests of runs share."""
    return tmp_path_factory.mktemp("decoded")


@pytest.fixture
def working_folder(tmp_path: Path, decoded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, where a relative path of the command line ends up."""
    monkeypatch.setenv("LT_BENCH_CACHE", str(decoded))
    monkeypatch.delenv("LT_BENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def lt_bench(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """The command line as the console script calls it, but in this process, and on no terminal."""
    from lt_bench.cli import main

    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["lt-bench", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the plug-ins that a test loads."""
    from lt_bench import plugins

    monkeypatch.setattr(plugins, "_loaded", list(plugins._loaded))
    monkeypatch.setattr(plugins, "_digests", dict(plugins._digests))
    monkeypatch.setattr(plugins._beside, "sources", dict(plugins._beside.sources))
    plugins._packaged.cache_clear()
    yield
    plugins._packaged.cache_clear()


@pytest.fixture
def tiny_backbone(registry: None) -> Path:
    """The plug-in with the backbone `tiny`, loaded."""
    from lt_bench.plugins import load_plugin

    path = Path(__file__).parent / "tiny_backbone.py"
    load_plugin(path)
    return path
