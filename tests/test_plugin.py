"""A stranger's component: one new file and one recipe, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from run_cases import STRANGER, TINY

from lt_bench import plugins
from lt_bench.errors import UserError
from lt_bench.leaderboard.record import load_record
from lt_bench.plugins import load_plugin
from lt_bench.registry import FAMILIES, lookup, members

pytestmark = pytest.mark.usefixtures("working_folder", "registry")

MIX = '''
"""Fade every image towards grey."""

from pydantic import Field

from lt_bench.mixing import Mix, Mixed
from lt_bench.registry import Info


class Fade(Mix):
    """Images times `strength`, labels as they are."""

    name = "fade"
    info = Info("images closer to the mean")

    class Config(Mix.Config):
        strength: float = Field(default=0.5, ge=0, le=1)

    def forward(self, batch, partner, step):
        plain = Mixed.plain(batch)
        return Mixed(plain.images * self.config.strength, plain.terms)
'''
RECIPE = """# Fading on the digits.
extends: protocols/digits-demo
data: {name: digits-lt, factor: 20}
model: {backbone: resnet8}
mix: {name: fade, strength: 0.8}
"""


@pytest.fixture
def stranger(working_folder: Path) -> Path:
    """A folder with a plug-in and a recipe that names its mix."""
    (working_folder / "fade.py").write_text(MIX)
    (working_folder / "fade-ce.yaml").write_text(RECIPE)
    return working_folder


def complaint(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_plugin(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the way through -----------------------------------------------------------------------------------


def test_a_stranger_s_mix_runs(lt_bench: Callable[..., Any], stranger: Path) -> None:
    done = lt_bench("run", "fade-ce.yaml", *STRANGER, "--plugin", "fade.py", "--device", "cpu")
    assert done.code == 0, done.err
    (path,) = stranger.glob("results/records/digits-lt-if4/digits-demo/fade-ce/seed0-*.json")
    recipe = load_record(path).recipe
    assert recipe["phases"][0]["mix"] == {"name": "fade", "strength": 0.8}
    assert recipe["plugins"] == {"mix/fade": hashlib.sha256(MIX.encode()).hexdigest()}
    assert "Plug-ins were loaded beside" not in lt_bench("leaderboard", "show").out
    (weights,) = stranger.rglob("weights.safetensors")
    shown = lt_bench("evaluate", weights, "--plugin", "fade.py", "--device", "cpu", "--json")
    assert json.loads(shown.out)["correct"] == list(load_record(path).selections["last"].correct)
    (stranger / "fade.py").write_text(MIX + "\n# tried something\n")
    for command in ("evaluate", "attack"):
        done = lt_bench(command, weights, "--plugin", "fade.py")
        assert (done.code, "plugins: mix/fade is of another file than the plug-in here" in done.err) == (2, True)


def test_what_was_loaded_and_not_named_is_in_the_record(lt_bench: Callable[..., Any], stranger: Path) -> None:
    assert lt_bench("run", "digits-lt/ce", *STRANGER, "--plugin", "fade.py", "--device", "cpu").code == 0
    (path,) = stranger.glob("results/records/digits-lt-if4/digits-demo*/ce/seed0-*.json")
    record = load_record(path)
    assert record.environment is not None
    assert (record.recipe["plugins"], record.environment.plugins) == ({}, (hashlib.sha256(MIX.encode()).hexdigest(),))
    line = "Plug-ins were loaded beside what the recipe names, and may have changed it: ce"
    assert line in " ".join(lt_bench("leaderboard", "show").out.split())
    assert lt_bench("leaderboard", "build", "--out", "board").code == 0
    (table,) = (stranger / "board" / "tables").glob("*.md")
    assert line in table.read_text()
    assert ") (yours): its records" in table.read_text()


def test_it_is_listed_and_validated(lt_bench: Callable[..., Any], stranger: Path) -> None:
    listed = json.loads(lt_bench("list", "mixes", "--plugin", "fade.py", "--json").out)
    assert {row["name"]: row["settings"] for row in listed}["fade"] == "strength"
    assert lt_bench("validate", "fade-ce.yaml", "mix.strength=0.3", "--plugin", "fade.py").code == 0
    wrong = lt_bench("validate", "fade-ce.yaml", "mix.strenght=0.3", "--plugin", "fade.py")
    assert (wrong.code, "did you mean strength?" in wrong.err) == (2, True)


def test_without_the_plug_in_its_name_is_unknown(lt_bench: Callable[..., Any], stranger: Path) -> None:
    done = lt_bench("run", "fade-ce.yaml", *STRANGER)
    assert done.code == 2
    assert "mix.name: 'fade' is not a known mix" in done.err


def test_it_cannot_hide_inside_another_mix(lt_bench: Callable[..., Any], stranger: Path) -> None:
    """Where its sha256 would be missing from the identity."""
    mix = "mix={name: class-distance-mix-ours, generator: fade}"
    done = lt_bench("validate", "digits-lt/ce", mix, "--plugin", "fade.py")
    assert done.code == 2
    assert "mix.generator: fade cannot be a generator: it comes from a plug-in" in done.err


def test_a_changed_plug_in_is_another_run(lt_bench: Callable[..., Any], stranger: Path) -> None:
    def digest() -> str:
        done = lt_bench("validate", "fade-ce.yaml", "--plugin", "fade.py")
        return str(done.out.split()[-1])

    first = digest()
    assert digest() == first
    (stranger / "fade.py").write_text(MIX + "\n# tried something\n")
    assert digest() != first


def test_a_recipe_that_does_not_use_it_keeps_its_identity(lt_bench: Callable[..., Any], stranger: Path) -> None:
    plain = lt_bench("validate", "digits-lt/ce").out
    assert lt_bench("validate", "digits-lt/ce", "--plugin", "fade.py").out == plain


@pytest.mark.parametrize(
    ("kind", "base", "body"),
    [
        ("sampler", "lt_bench.data.samplers.Sampler", "def order(self, epoch, rng): return rng.permutation(9)"),
        ("loss", "lt_bench.losses.Loss", "def per_sample(self, logits, labels): return logits.sum(1)"),
        ("head", "lt_bench.models.heads.Head", "def build(self, backbone, num_classes): return None"),
        ("backbone", "lt_bench.models.backbones.Backbone", "feature_dim = 3; trunk = last_stage = None"),
        ("method", "lt_bench.methods.Method", "streams = loss = None"),
    ],
)
def test_every_family_can_be_extended(kind: str, base: str, body: str, tmp_path: Path) -> None:
    module, name = base.rsplit(".", 1)
    text = f"from {module} import {name}\nfrom lt_bench.registry import Info\n"
    text += f"class Mine({name}):\n    name = 'mine'\n    info = Info('mine')\n    {body}\n"
    (tmp_path / "mine.py").write_text(text)
    load_plugin(tmp_path / "mine.py")
    assert lookup(kind, "mine").__name__ == "Mine"
    assert name not in [component.__name__ for component in members(kind).values()]  # the imported base is no member
    assert all("mine" not in members(other) for other in FAMILIES if other != kind)


# --- what can be wrong with it -------------------------------------------------------------------------

LOSS = """from pydantic import BaseModel
from lt_bench.losses import Loss
from lt_bench.registry import Info
class Mine(Loss):
    name = "mine"
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def per_sample(self, logits, labels): return logits.sum(1)", "has no `info`"),
        ("info = Info('mine')", "does not define per_sample"),
        ("info = Info('mine')\n    def __init__(self, config, stats): ...", "has an `__init__"),
        ("info = Info('mine')\n    class Config(BaseModel): ...\n    per_sample = None", "has a `Config` that is no"),
    ],
)
def test_a_component_lacks_something(lt_bench: Callable[..., Any], working_folder: Path, body: str, said: str) -> None:
    (working_folder / "mine.py").write_text(f"{LOSS}    {body}\n")
    for command in (["run", "digits-lt/ce", *TINY, "loss=mine"], ["list", "losses"]):
        done = lt_bench(*command, "--plugin", "mine.py")
        assert done.code == 2
        assert f"mine.py: the loss 'mine' {said}" in done.err
        assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["3", "''", "'two words'", "'a/b'", "None"])
def test_a_name_is_a_word(lt_bench: Callable[..., Any], working_folder: Path, name: str) -> None:
    (working_folder / "mine.py").write_text(LOSS.replace('"mine"', name) + "    info = Info('mine')\n")
    done = lt_bench("list", "losses", "--plugin", "mine.py")
    assert done.code == 2
    assert done.err.endswith("has a `name` that is no text of letters, digits and _ . + -\n")
    assert len(done.err.splitlines()) == 1


def test_two_classes_of_one_file_cannot_share_a_name(lt_bench: Callable[..., Any], working_folder: Path) -> None:
    whole = LOSS + "    info = Info('mine')\n    def per_sample(self, logits, labels): return logits.sum(1)\n"
    (working_folder / "mine.py").write_text(whole + whole.replace("class Mine", "class Other"))
    done = lt_bench("validate", "digits-lt/ce", "loss=mine", "--plugin", "mine.py")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "mine.py: two loss classes are called 'mine'" in done.err
    (working_folder / "mine.py").write_text(f"{whole}Usual = Mine\n")
    assert lt_bench("validate", "digits-lt/ce", "loss=mine", "--plugin", "mine.py").code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:\n", "SyntaxError: "),
        ("import a_package_that_is_not_there\n", "ModuleNotFoundError: No module named"),
        ("raise ValueError('one\\ntwo')\n", "ValueError: one two"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)\n", "SystemExit: 0"),
        ("\x00", "plugin.py: "),
    ],
)
def test_a_broken_file_is_one_line(lt_bench: Callable[..., Any], working_folder: Path, text: str, said: str) -> None:
    (working_folder / "plugin.py").write_text(text)
    for command in (["run", "digits-lt/ce", *TINY], ["list", "mixes"], ["validate", "digits-lt/ce"]):
        done = lt_bench(*command, "--plugin", "plugin.py")
        assert done.code == 2
        assert done.err.startswith(f"lt-bench: --plugin {working_folder / 'plugin.py'}: ")
        assert said in done.err
        assert len(done.err.splitlines()) == 1


def test_a_file_that_is_none(tmp_path: Path) -> None:
    assert "not a readable plug-in: No such file" in complaint(tmp_path / "absent.py")
    assert "not a readable plug-in: not a regular file" in complaint(tmp_path)
    os.mkfifo(tmp_path / "pipe.py")
    assert "not a readable plug-in: not a regular file" in complaint(tmp_path / "pipe.py")
    (tmp_path / "plugin.txt").write_text(MIX)
    assert "not a Python file" in complaint(tmp_path / "plugin.txt")


def test_an_unknown_name_beside_a_plug_in_is_answered_with_what_that_defines(
    lt_bench: Callable[..., Any], stranger: Path
) -> None:
    done = lt_bench("validate", "digits-lt/ce", "mix=fading", "--plugin", "fade.py")
    assert (done.code, "; the plug-ins define mix fade (with mix=fading)" in done.err) == (2, True)
    (stranger / "fade.py").write_text(MIX.replace('    name = "fade"\n', ""))
    done = lt_bench("validate", "digits-lt/ce", "mix=fading", "--plugin", "fade.py")
    assert "; the plug-ins define no component, which is a class with a `name` and" in done.err


def test_a_shipped_name_is_taken(lt_bench: Callable[..., Any], working_folder: Path) -> None:
    (working_folder / "mine.py").write_text(MIX.replace('"fade"', '"cmo"'))
    done = lt_bench("run", "digits-lt/cmo", *TINY, "--plugin", "mine.py")
    assert done.code == 2
    assert "mine.py: the mix 'cmo' already exists in lt_bench.mixing.cmo" in done.err


def test_two_plug_ins_cannot_share_a_name(stranger: Path) -> None:
    (stranger / "other.py").write_text(MIX)
    load_plugin(stranger / "fade.py")
    load_plugin(stranger / "other.py")
    with pytest.raises(UserError, match=r"other\.py: the mix 'fade' already exists in .*fade\.py; rename one"):
        members("mix")


def test_two_plug_ins_can_share_a_file_name(stranger: Path) -> None:
    (stranger / "more").mkdir()
    (stranger / "more" / "fade.py").write_text(MIX.replace('"fade"', '"fade-more"'))
    load_plugin(stranger / "fade.py")
    load_plugin(stranger / "more" / "fade.py")
    assert {"fade", "fade-more"} <= set(members("mix"))


def test_a_plug_in_is_loaded_once_and_again_when_it_has_changed(stranger: Path) -> None:
    path = stranger / "fade.py"
    load_plugin(path)
    first = lookup("mix", "fade")
    load_plugin(path)
    assert lookup("mix", "fade") is first
    path.write_text(MIX.replace("default=0.5", "default=0.9"))
    load_plugin(path)
    assert lookup("mix", "fade").Config().strength == 0.9


# --- installed packages --------------------------------------------------------------------------------


def installed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = EntryPoint("strange", value, "lt_bench.plugins")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == entry.group else [])


def test_an_installed_package_is_found(
    lt_bench: Callable[..., Any], stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stranger / "a_strange_package.py").write_text(MIX)
    monkeypatch.syspath_prepend(stranger)
    installed(monkeypatch, "a_strange_package")
    done = lt_bench("run", "fade-ce.yaml", "--dry-run")
    assert done.code == 0, done.err
    resolved = json.loads(done.out)
    assert resolved["plugins"] == {"mix/fade": hashlib.sha256(MIX.encode()).hexdigest()}


def test_an_installed_package_that_is_broken_is_named(
    lt_bench: Callable[..., Any], working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, "a_package_that_is_not_there")
    done = lt_bench("validate", "digits-lt/ce")
    assert done.code == 2
    assert "plug-in strange (a_package_that_is_not_there): ModuleNotFoundError" in done.err
    assert len(done.err.splitlines()) == 1
