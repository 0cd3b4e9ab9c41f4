"""`lt-bench attack` from weights to record to table, on the real command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from run_cases import TINY, only, options, refused, tiny, train

from lt_bench.errors import UserError
from lt_bench.robustness import evaluate
from lt_bench.robustness.board import tables
from lt_bench.robustness.evaluate import Notes, attack_weights
from lt_bench.robustness.record import RobustRecord, find, load
from lt_bench.robustness.trials import trials
from lt_bench.training.options import BudgetSpent

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LtBench = Callable[..., Any]
QUICK = trials(["fgsm", "pgd-20", "brightness"], "linf", 8)
SHORT = ("method.attack.steps=1", "protocol.epochs=1", "protocol.schedule={warmup_epochs: 0}")
COLUMNS = ["clean", "fgsm", "pgd-20", *(f"brightness-{k}" for k in range(1, 6)), "worst case"]


def trained(folder: Path, name: str = "pgd-at", seed: int = 0) -> Path:
    train(tiny(name, *(SHORT if name == "pgd-at" else SHORT[1:])), folder / name / str(seed), seed)
    return only(folder / name / str(seed), "weights.safetensors")


def attacked(weights: Path, folder: Path, images: int | None = 100, **changes: Any) -> RobustRecord:
    path, _ = attack_weights(weights, QUICK, images, options(folder, records=folder / "robust", **changes))
    return load(path)


def measured(record: RobustRecord) -> dict[str, Any]:
    """All but when, where and how fast."""
    return record.model_dump(exclude={"created", "wall_s", "environment", "sha256"})


def test_from_weights_to_a_table(lt_bench: LtBench, tmp_path: Path) -> None:
    done = lt_bench("run", "digits-lt/pgd-at", *TINY, *SHORT, "--device", "cpu")
    assert done.code == 0, done.err
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    (weights,) = tmp_path.rglob("weights.safetensors")
    asked = ("attack", weights, "--with", "fgsm,pgd-20", "--images", "100", "--device", "cpu")
    done = lt_bench(*asked)
    assert done.code == 0, done.err
    (path,) = (tmp_path / "results" / "robustness").rglob("*.json")
    record, head = load(path), done.out.splitlines()
    assert head[0] == f"{path.relative_to(tmp_path)}: written"
    assert head[2].split() == ["under", "all", "many", "medium", "few", "worst", "class"]
    assert [line.split()[0] for line in head[3:7]] == ["clean", "fgsm", "pgd-20", "worst"]
    assert {old: old.read_bytes() for old in before} == before
    assert list(weights.parent.glob("attack-*")) == []
    # The counts are of ten images of each class, and every sha256 is that of the file that it names.
    assert record.total == (10,) * 10
    assert record.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    (run,) = (tmp_path / "results" / "records").rglob("*.json")
    told = json.loads(run.read_text())
    assert record.dataset.model_dump(mode="json") == told["dataset"]
    assert (record.identity, record.seed, record.protocol.name) == (told["identity"], 0, told["protocol"]["name"])
    again = lt_bench(*asked)
    assert "there already, nothing done" in again.out
    assert json.loads(lt_bench(*asked, "--json").out)["correct"]["clean"] == list(record.clean)
    shown = lt_bench("leaderboard", "robust")
    assert shown.code == 0
    assert "linf 8/255 by fgsm, pgd-20, 10 test images a class" in shown.out
    assert "pgd-20" in shown.out
    assert lt_bench("leaderboard", "robust", "--csv").out.startswith("table,method,seeds,clean,fgsm,pgd-20,worst case")
    assert lt_bench("leaderboard", "show").out.count("pgd-20") == 0
    for _ in range(2):  # the second over the first
        assert lt_bench("leaderboard", "robust", "--out", "page.md").code == 0
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| method | n | clean | fgsm | pgd-20 | worst case |" in page
    (tmp_path / "page.md").write_text("mine")
    refused(lt_bench("leaderboard", "robust", "--out", "page.md"), "page.md: was not made by this command")


def test_what_an_attack_leaves_is_part_of_what_was_right(tmp_path: Path) -> None:
    record = attacked(trained(tmp_path), tmp_path)
    assert list(record.columns) == COLUMNS
    for name in ("fgsm", "pgd-20", "worst case"):
        assert all(left <= clean for left, clean in zip(record.columns[name], record.clean, strict=True))
    assert sum(record.worst) <= min(sum(record.columns[name]) for name in ("fgsm", "pgd-20"))
    assert (record.norm, record.radius, record.sample) == ("linf", 8, 10)


def test_clean_counts_are_those_of_the_evaluation(tmp_path: Path) -> None:
    from lt_bench.training.evaluate import evaluate_weights

    weights = trained(tmp_path, "ce")
    record = attacked(weights, tmp_path, images=None)
    assert list(record.clean) == evaluate_weights(weights, options(tmp_path)).summary["correct"]
    assert record.sample is None
    assert sum(record.total) == 600


def test_a_spent_budget_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = trained(tmp_path)
    whole = attacked(weights, tmp_path / "whole")
    moments, asked = iter(range(10_000)), []

    class Clock:
        """Every look at it, from the third verdict of a call on, is behind the deadline."""

        perf_counter = staticmethod(lambda: float(next(moments)))

        @staticmethod
        def monotonic() -> float:
            asked.append(1)
            return 0.0 if len(asked) % 3 else 2.0

    monkeypatch.setattr(evaluate, "time", Clock)
    stops = 0
    while True:
        try:
            cut = attacked(weights, tmp_path / "cut", deadline=1.0)
        except BudgetSpent:
            stops += 1
            assert not list((tmp_path / "cut").rglob("seed*.json"))
            assert stops < 20
        else:
            break
    assert stops >= 3
    assert measured(cut) == measured(whole)
    assert not list(weights.parent.glob("attack-*"))


def test_a_line_cut_short_was_never_written(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "attack.jsonl")
    assert notes.known() == {}
    notes.add({"trial": "fgsm", "batch": 0, "right": [1, 0]})
    notes.add({"seconds": 1.5})
    notes.add({"seconds": 2.0})
    with notes.path.open("a") as file:
        file.write('{"trial": "fgsm", "bat')
    assert notes.known() == {("fgsm", 0): [1, 0]}
    assert notes.seconds == 3.5


def test_another_question_is_another_record_and_force_a_revision(tmp_path: Path) -> None:
    weights = trained(tmp_path)
    folder = tmp_path / "robust"
    first = attacked(weights, tmp_path)
    assert find(folder, first.asked) is not None
    attacked(weights, tmp_path)
    assert len(list(folder.rglob("seed*.json"))) == 1
    attacked(weights, tmp_path, force=True)
    attacked(weights, tmp_path, images=50)
    assert len(list(folder.rglob("seed*.json"))) == 3
    found = find(folder, first.asked)
    assert found is not None and found.name.endswith(".r2.json")
    assert measured(load(found)) == measured(first)


def test_tables_hold_what_was_looked_at_alike(tmp_path: Path) -> None:
    for seed in (0, 1):
        attacked(trained(tmp_path, seed=seed), tmp_path)
    attacked(trained(tmp_path, "ce"), tmp_path, images=50)
    found = tables(tmp_path / "robust")
    assert sorted(key.total[0] for key in found) == [5, 10]
    for key, rows in found.items():
        (row,) = rows
        assert row.seeds == ((0, 1) if key.total[0] == 10 else (0,))
        assert (row.interval is None) == (key.total[0] == 5)
    (row,) = next(rows for key, rows in found.items() if key.total[0] == 10)
    records = [load(path) for path in (tmp_path / "robust").rglob("seed*.json")]
    clean = [sum(record.clean) for record in records if record.sample == 10]
    assert row.scores["clean"] == pytest.approx(sum(clean) / 2)
    assert "worst case, worst class" in row.scores
    with pytest.raises(UserError, match="there are no records of robustness"):
        tables(tmp_path / "nothing")


def test_a_worst_case_of_other_attacks_is_another_table(tmp_path: Path) -> None:
    weights = trained(tmp_path)
    attacked(weights, tmp_path)
    records = tmp_path / "robust"
    for names in (("fgsm",), ("posterize",), ("fgsm", "brightness")):
        attack_weights(weights, trials(names, "linf", 8.0), 100, options(tmp_path, records=records))
    found = {key.attacks: rows for key, rows in tables(records).items()}
    assert set(found) == {tuple(sorted(one.name for one in QUICK if one.harms)), ("fgsm",), ()}
    (row,) = found["fgsm",]  # the newest of two records that looked under the same attack
    assert "brightness-1" in row.scores
    (row,) = found[()]
    assert "posterize-5" in row.scores and "worst case" not in row.scores


def test_a_changed_record_is_refused(tmp_path: Path) -> None:
    attacked(trained(tmp_path), tmp_path)
    (path,) = (tmp_path / "robust").rglob("seed*.json")
    text = path.read_text()
    path.write_text(text.replace('"radius": 8.0', '"radius": 4.0', 1))
    with pytest.raises(UserError, match="sha256: not that of all before it"):
        load(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="seed0"):
        load(path)


def test_counts_that_contradict_themselves_are_no_record(tmp_path: Path) -> None:
    data = attacked(trained(tmp_path), tmp_path).model_dump(mode="json")
    for change, said in [
        ({"clean": [11, *data["clean"][1:]]}, "clean: more right than there are images"),
        ({"worst": [10] * 10, "clean": [9] * 10}, "more"),
        ({"clean": data["clean"][1:]}, "clean: 9 classes of 10"),
    ]:
        with pytest.raises(ValueError, match=said):
            RobustRecord.read(data | change)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--with", "pgd20"], ["--with: 'pgd20' is not a known trial", "did you mean pgd-20"]),
        (["--norm", "l1"], ["--norm l1: allowed are linf, l2"]),
        (["--budget", "soon"], ["--budget soon"]),
        (["--images", "5"], ["--images 5: expected 10 to 600, alike for all classes"]),
        (["--images", "700"], ["--images 700"]),
        (["--radius", "-1"], ["--radius"]),
        (["--radius", "inf"], ["--radius inf: expected a number of 255ths"]),
        (["--records", "file"], ["--records file: cannot be written"]),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(
    lt_bench: LtBench, tmp_path: Path, arguments: list[str], said: list[str]
) -> None:
    weights = trained(tmp_path, "ce")
    (tmp_path / "file").write_text("")
    refused(lt_bench("attack", weights, *arguments), *said)
    assert not list(tmp_path.rglob("attack-*"))


def test_weights_that_are_none_are_refused(lt_bench: LtBench, tmp_path: Path) -> None:
    refused(lt_bench("attack", "absent.safetensors"), "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    refused(lt_bench("attack", "text.safetensors"), "not the weights of a run")


def test_several_views_of_an_image_are_not_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("ce", "protocol.augmentation={kind: resized-crop, size: 24, test_views: five-crop}")
    monkeypatch.setattr(evaluate, "read_weights", lambda path: SimpleNamespace(recipe=recipe))
    with pytest.raises(UserError, match=r"w: predicts by five views of an image, and an attack is on one"):
        attack_weights(Path("w"), QUICK, None, options(tmp_path))
