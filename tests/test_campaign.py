"""The campaign itself: what it draws can be drawn again, and its judges see a fault."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

CASES = range(20)


@pytest.fixture(autouse=True)
def campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "campaign")


def test_a_case_is_drawn_alike_whatever_ran_before(tmp_path: Path) -> None:
    import fuzzing
    from harness import Trial

    trial = Trial("recipes", 3, CASES, tmp_path, [])

    def drawn(case: int) -> tuple[list[str], list[bytes]]:
        arguments = fuzzing.draw(trial, case)
        return arguments, [path.read_bytes() for path in sorted(tmp_path.glob(f"case{case}.yaml"))]

    forwards = [drawn(case) for case in CASES]
    assert [drawn(case) for case in reversed(CASES)][::-1] == forwards
    assert len({str(case) for case in forwards}) > 15


@pytest.mark.parametrize(
    ("code", "out", "err"),
    [
        (None, "", ""),
        (-9, "", ""),
        (1, "", "Traceback (most recent call last):\nValueError: x"),
        (2, "", ""),
        (2, "", "Aborted!"),
        (2, "", "lt-bench: one\nlt-bench: two"),
        (2, "", f"lt-bench: {'x' * 1001}"),
        (2, "", "lt-bench: a\0b"),
        (0, "", "Traceback (most recent call last):\n"),
    ],
)
def test_what_no_command_may_do_is_a_fault(code: int | None, out: str, err: str) -> None:
    from processes import Done

    assert Done(code, out, err).fault


@pytest.mark.parametrize(("code", "err"), [(0, ""), (2, "lt-bench: no such file"), (1, "a log\nlt-bench: it failed")])
def test_what_a_command_may_do_is_none(code: int, err: str) -> None:
    from processes import Done

    assert not Done(code, "", err).fault


def test_damage_to_a_field_keeps_the_file_readable(tmp_path: Path) -> None:
    import damage

    path, whole = tmp_path / "x.json", {"a": [1, 2.5, {"b": "text"}], "c": None, "d": True}
    changed = []
    for seed in CASES:
        path.write_text(json.dumps(whole))
        damage.change_field(random.Random(seed), path)
        changed.append(json.loads(path.read_bytes()) != whole)
    assert sum(changed) > 15


def test_the_page_keeps_the_rows_of_parts_that_did_not_run(tmp_path: Path) -> None:
    from harness import Result, Verdict, into_page

    page = tmp_path / "page.md"
    page.write_text("above\n<!-- written by make campaign -->\n<!-- end -->\nbelow\n")
    into_page(page, [Result("kills", 0, [Verdict(0, "run")])], ["kills", "disk"], "today")
    into_page(page, [Result("disk", 0, [Verdict(0, "run", fault="hangs")])], ["kills", "disk"], "today")
    above, _, _, kills, disk, _, below = page.read_text().splitlines()[:1] + page.read_text().splitlines()[2:]
    assert (above, below) == ("above", "below")
    assert kills.startswith("| kills | 1 | 1 | 0 | 0 |")
    assert disk.startswith("| disk | 1 | 0 | 0 | 1 |")
