"""A run on its way to another machine: what it takes along, and how its records come home."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_cases import TINY, options, tiny

from lt_bench.errors import UserError
from lt_bench.leaderboard.record import load_record
from lt_bench.sweep import Packed, packed
from lt_bench.sweep.elsewhere import Back, Home, Sent, marked
from lt_bench.training.options import BudgetSpent, Outcome

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

STRANGER = Home(Path("/nowhere"), ".none", {})
"""The home of a sweep whose files are not seen from here."""


def sent(folder: Path, home: Home, name: str = "ce", **changes: Any) -> Sent:
    run = Sent.of((f"{name} 0", tiny(name), 0), options(folder, **changes), home)
    return pickle.loads(pickle.dumps(run))  # as it travels


def records(folder: Path) -> list[Path]:
    return sorted((folder / "records").rglob("seed*.json"))


def test_what_is_shared_is_used(working_folder: Path) -> None:
    asked = options(working_folder)
    with marked(asked) as home:
        back = sent(working_folder, home).make()
    assert not back.files
    assert [back.unpack(asked).record] == records(working_folder)
    assert [*working_folder.rglob("weights.safetensors")]
    assert not [*working_folder.rglob(home.mark)]


def test_records_that_are_not_shared_come_home_once(working_folder: Path) -> None:
    """Those of a first stage too, which another run may have brought."""
    asked = options(working_folder)
    first = sent(working_folder, STRANGER).make()
    both = sent(working_folder, STRANGER, "ncm").make()
    assert not records(working_folder)
    assert not [*working_folder.rglob("weights.safetensors")]
    assert [len(back.files) for back in (first, both)] == [2, 4]
    outcomes = [back.unpack(asked) for back in (first, both, both)]
    assert [path.parent.name for path in records(working_folder)] == ["ce", "ncm"]
    assert outcomes[0].record != outcomes[1].record == outcomes[2].record
    assert load_record(outcomes[1].record).recipe_name == "ncm"
    assert outcomes[1].trained


def test_by_force_a_second_record_comes_home_beside_the_first(working_folder: Path) -> None:
    asked = options(working_folder, force=True)
    for _ in range(2):
        back = sent(working_folder, STRANGER, force=True).make()
        assert [back.unpack(asked), back.unpack(asked)][0].record in records(working_folder)
    assert len(records(working_folder)) == 2


def test_a_failure_comes_home_as_one_of_ours(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> Outcome:
        raise SystemExit(3)

    monkeypatch.setattr(packed, "run", run)
    back = sent(working_folder, STRANGER).make()
    assert (str(back.unpack(options(working_folder))), back.files) == ("SystemExit: 3", {})
    with pytest.raises(SystemExit):
        sent(working_folder, STRANGER).make(leaving=lambda: True)


def test_another_version_is_refused(working_folder: Path) -> None:
    back = sent(working_folder, Home(working_folder, ".none", {}, version="0.0")).make()
    assert isinstance(back.result, UserError)
    assert "the sweep 0.0; install the same on both" in str(back.result)


def test_the_environment_of_the_suite_travels(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_BENCH_DATA", "here")
    monkeypatch.setenv("SECRET", "none of theirs")
    with marked(options(working_folder)) as home:
        pass
    assert home.environment["LT_BENCH_DATA"] == "here"
    assert "SECRET" not in home.environment
    monkeypatch.setenv("LT_BENCH_DATA", "there")
    home.enter()
    assert packed.os.environ["LT_BENCH_DATA"] == "there"


def test_the_deadline_is_one_moment_on_all_clocks(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = "ce 0", tiny(), 0
    wrapped = Packed.of(run, options(working_folder, deadline=time.monotonic() + 1000))
    assert wrapped.until == pytest.approx(time.time() + 1000, abs=60)
    told: list[float] = []
    monkeypatch.setattr(packed, "run", lambda recipe, seed, options: told.append(options.deadline))
    wrapped.attempt()
    assert told == [pytest.approx(time.monotonic() + 1000, abs=60)]
    monkeypatch.undo()
    assert isinstance(Packed.of(run, options(working_folder, deadline=time.monotonic() - 1)).attempt(), BudgetSpent)


def test_a_plug_in_that_has_changed_since_is_refused(working_folder: Path, tiny_backbone: Path) -> None:
    changed = Packed(tiny(), 0, options(working_folder), plugins={tiny_backbone: "0" * 64}).attempt()
    assert isinstance(changed, UserError)
    assert str(changed).startswith(f"--plugin {tiny_backbone}: has changed since the sweep began")


def test_a_record_that_cannot_be_read_is_refused(working_folder: Path) -> None:
    back = Back(Outcome(Path("seed0.json"), 0.5, True), {"seed0.json": b"{}"})
    with pytest.raises(UserError, match=r"seed0\.json"):
        back.unpack(options(working_folder))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--on", "slrum"], "'slrum' is not a known engine; did you mean slurm?"),
        (["--on", "ray:"], "'ray:' is not a known engine; did you mean ray?"),
        (["--resources", "gpus=1"], "--resources: runs on this machine share all of it"),
    ],
)
def test_engines_that_are_none(lt_bench: Callable[..., Any], words: list[str], said: str) -> None:
    done = lt_bench("sweep", "digits-lt/ce", *TINY, *words)
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize(("on", "library"), [("slurm", "submitit"), ("ray", "ray"), ("ray:host:6379", "ray")])
def test_an_engine_that_is_not_installed_is_told(
    lt_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, on: str, library: str
) -> None:
    monkeypatch.setattr("lt_bench.sweep.elsewhere.find_spec", lambda name: None)
    done = lt_bench("sweep", "digits-lt/ce", "--on", on)
    extra = on.partition(":")[0]
    assert (done.code, done.out) == (2, "")
    assert done.err == f"lt-bench: --on {extra}: {library} is not installed; pip install 'lt-bench[{extra}]'\n"


def test_a_folder_that_cannot_be_written_is_refused(working_folder: Path) -> None:
    Path("taken").touch()
    with pytest.raises(UserError, match=r"taken.*cannot be written"), marked(options(Path("taken"))):
        pass
