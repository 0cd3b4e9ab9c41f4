"""The suite in a script of one's own: the page's blocks, the example, and that its imports are all there is."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from run_cases import only
from test_documents import blocks

from lt_bench.registry import members

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "ldam_drw_cmo.py"


def test_every_block_of_the_page_runs(working_folder: Path, lt_bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    done = lt_bench("run", "digits-lt/ce", "protocol.epochs=1")
    assert done.code == 0, done
    names: dict[str, Any] = {"weights": only(working_folder, "weights.safetensors")}
    for block in blocks("docs/library.md", "python"):
        exec(compile(block, "docs/library.md", "exec"), names)
    assert names["loss"].margins.shape == names["train"].counts.shape
    assert sum(names["found"]["total"]) == len(names["test"])
    # The network and the metrics agree with the record of the run.
    record = json.loads(only(working_folder / "results", "*.json").read_text(encoding="utf-8"))
    assert names["found"]["correct"] == record["selections"]["last"]["correct"]


@pytest.mark.parametrize(("package", "kind"), [("lt_bench.losses", "loss"), ("lt_bench.mixing", "mix")])
def test_every_component_can_be_imported_from_its_package(package: str, kind: str) -> None:
    module = importlib.import_module(package)
    shipped = {component for component in members(kind).values() if component.__module__.startswith("lt_bench.")}
    named = {getattr(module, name) for name in module.__all__}
    assert shipped <= named
    # mypy sees the same names.
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    seen = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name for node in seen.body for alias in node.names}  # type: ignore[attr-defined]
    assert {getattr(module, name) for name in imported & set(module.__all__)} == shipped


def test_the_packages_import_none_of_their_components() -> None:
    code = "import sys, lt_bench.losses, lt_bench.mixing; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "lt_bench.losses" in loaded
    assert not [name for name in loaded if name.startswith(("lt_bench.losses.", "lt_bench.mixing."))]


def test_the_example_is_short_and_uses_what_the_page_documents() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    page = "".join(blocks("docs/library.md", "python"))
    assert imports_of(text) <= imports_of(page) | {("lt_bench.data.samplers", "Instance")}


def imports_of(text: str) -> set[tuple[str, str]]:
    """What a script takes from the suite."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    return {(str(n.module), a.name) for n in found if str(n.module).startswith("lt_bench") for a in n.names}


@pytest.mark.data
def test_the_example_trains_on_the_real_images(data_root: Path, tmp_path: Path) -> None:
    # Eight epochs of a step: the mix is on in epoch 4, the weights from epoch 7 on.
    environment = os.environ | {"LT_BENCH_DATA": str(data_root), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(EXAMPLE), "8", "1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = ast.literal_eval(done.stdout)
    assert sum(found["total"]) == 500
    assert 0 <= found["ece"] <= 1
