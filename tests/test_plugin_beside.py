"""What a plug-in imports from its folder is a part of it: hashed with it, and executed as it was hashed."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_cases import STRANGER
from test_plugin import MIX, RECIPE

from lt_bench import plugins
from lt_bench.errors import UserError
from lt_bench.plugins import load_plugin
from lt_bench.registry import lookup

pytestmark = pytest.mark.usefixtures("working_folder", "registry")

NAMES = ("fading", "greys", "greys.by", "bare", "bare.inner")


@pytest.fixture(autouse=True)
def helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test imports."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def helped(working_folder: Path) -> Path:
    """A plug-in that takes what it does from a file beside it, which takes it from a package and a folder there."""
    for name, text in (
        ("greys/__init__.py", "from .by import HALF"),
        ("greys/by.py", "import fading\nfrom bare.inner import ONE\nHALF = ONE / 2\n"),  # in a circle
        ("bare/inner.py", "ONE = 1.0\n"),
        ("fading.py", "from greys import HALF\n"),
        ("unused.py", ""),
        ("random.py", "raise ImportError('of the standard library is another')"),
        ("fade-ce.yaml", RECIPE),
        ("fade.py", "import lt_bench, json, random\nfrom fading import HALF\n" + MIX.replace("=0.5", "=HALF")),
    ):
        path = working_folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return working_folder / "fade.py"


def strength(path: Path) -> float:
    load_plugin(path)
    return float(lookup("mix", "fade").Config().strength)


def digest(path: Path) -> str:
    load_plugin(path)
    found = plugins.plugin_digest(lookup("mix", "fade"))
    assert found is not None
    return found


def rewritten(path: Path, text: str) -> None:
    """Another content of the same length, in the same second: what bytecode on the disk does not notice."""
    at = path.stat()
    path.write_text(text)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))


def test_all_of_it_is_in_the_digest(helped: Path) -> None:
    first = digest(helped)
    assert first == digest(helped)
    (helped.parent / "unused.py").write_text("1")
    (helped.parent / "random.py").write_text("2")
    assert first == digest(helped)
    rewritten(helped.parent / "bare" / "inner.py", "ONE = 0.5\n")
    assert first != digest(helped)
    assert strength(helped) == 0.25
    assert plugins.loaded_plugins() == [digest(helped)]
    with pytest.raises(UserError, match="has changed since the sweep began"):
        load_plugin(helped, first)


def test_another_plug_in_of_the_folder_gets_what_is_there_now(helped: Path) -> None:
    assert strength(helped) == 0.5
    rewritten(helped.parent / "bare" / "inner.py", "ONE = 0.5\n")
    other = helped.with_name("other.py")
    other.write_text(helped.read_text().replace('"fade"', '"fade-other"'))
    load_plugin(other)
    assert lookup("mix", "fade-other").Config().strength == 0.25
    assert lookup("mix", "fade").Config().strength == 0.5


def test_what_failed_is_loaded_again_as_it_is_now(helped: Path) -> None:
    whole = helped.read_text()
    helped.write_text(f"{whole}\nraise ValueError('not yet')\n")
    with pytest.raises(UserError, match="ValueError: not yet"):
        load_plugin(helped)
    rewritten(helped.parent / "bare" / "inner.py", "ONE = 0.5\n")
    helped.write_text(whole)
    assert strength(helped) == 0.25


def test_one_name_for_the_files_of_two_plug_ins_is_refused(helped: Path) -> None:
    load_plugin(helped)
    (helped.parent / "deep").mkdir()
    (helped.parent / "deep" / "fading.py").write_text("HALF = 0.125\n")
    other = helped.parent / "deep" / "other.py"
    other.write_text(helped.read_text().replace('"fade"', '"fade-other"'))
    with pytest.raises(UserError, match=r"other\.py: imports fading from .*deep/fading\.py, and another plug-in from "):
        load_plugin(other)


def test_a_folder_that_is_a_package_is_sought_too(helped: Path) -> None:
    (helped.parent / "__init__.py").touch()
    first = digest(helped)
    rewritten(helped.parent / "bare" / "inner.py", "ONE = 0.5\n")
    assert first != digest(helped)


def test_what_is_installed_is_no_part_of_it(helped: Path) -> None:
    (helped.parent / "numpy.py").write_text("raise ImportError('the installed one is meant')")
    helped.write_text(f"import numpy\n{MIX}")
    assert digest(helped) == hashlib.sha256(helped.read_bytes()).hexdigest()


def test_relative_imports_fail_as_in_any_script(helped: Path) -> None:
    helped.write_text("from ..fade import Fade\nfrom .........far import x\n")
    with pytest.raises(UserError, match="ImportError: attempted relative import"):
        load_plugin(helped)


def test_the_run_of_a_changed_helper_is_another(lt_bench: Callable[..., Any], helped: Path) -> None:
    for one in ("1.0", "0.5"):
        (helped.parent / "bare" / "inner.py").write_text(f"ONE = {one}\n")
        done = lt_bench("run", "fade-ce.yaml", *STRANGER, "--plugin", "fade.py", "--device", "cpu")
        assert done.code == 0, done.err
    records = helped.parent.glob("results/records/digits-lt-if4/digits-demo/fade-ce/seed0-*.json")
    assert len([*records]) == 2
    assert re.search(r"epoch 2/2", done.err)
