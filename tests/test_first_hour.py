"""A stranger's first hour on a terminal of 80 columns: each command is typed there, and what comes back is held."""

from __future__ import annotations

import os
import re
import signal
import sys
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pexpect
import pytest
from run_cases import STRANGER, only, record

ROOT = Path(__file__).parents[1]
WIDTH = 80
PATIENCE = 180
"""Seconds that a command may be silent, on a machine that has much else to do."""
SHORT = (*STRANGER, "--device", "cpu")
EPOCHS = 60
"""Of the run that is broken off: a tenth of a second each at first, so that Ctrl-C finds it at work."""
LONG = ("run", "digits-lt/ce", *SHORT, f"protocol.epochs={EPOCHS}", f"protocol.evaluate_every={EPOCHS}")


@dataclass(frozen=True)
class Said:
    """What a command brought on the screen, in the order of time, and how it ended."""

    code: int
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """Without colours; a line that is drawn again counts again."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\^C", "", self.text)
        return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]

    @cached_property
    def bars(self) -> list[str]:
        return [line for line in self.lines if "━" in line]

    @property
    def words(self) -> str:
        """In one line, however it was folded."""
        return " ".join(" ".join(self.lines).split())


def typed(*words: object, interrupt_at: str = "") -> Said:
    """Type a command, and Ctrl-C as soon as a pattern is on the screen."""
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    command, size = ["-m", "lt_bench", *map(str, words)], (24, WIDTH)
    # What a shell runs in the background ignores Ctrl-C, and so would what it starts.
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with pexpect.spawn(
        sys.executable,
        command,
        dimensions=size,
        env=environment,
        encoding="utf-8",
        timeout=PATIENCE,
        preexec_fn=listens,
    ) as child:
        before = ""
        if interrupt_at:
            child.expect(interrupt_at)
            before = child.before + child.after
            child.sendintr()
        child.expect(pexpect.EOF)
        child.wait()  # or to leave would end a process that is about to end itself
        said = Said(child.exitstatus, before + child.before)
    assert "Traceback" not in said.text
    assert all(len(bar) <= WIDTH for bar in said.bars)
    return said


@pytest.mark.usefixtures("working_folder")
def test_the_first_hour() -> None:
    the_demo()
    broken_off_and_taken_up_again()
    its_weights_evaluated()
    two_at_once()
    a_component_of_ones_own()


def the_demo() -> None:
    """With two of its six recipes, two seeds and two epochs."""
    makefile = (ROOT / "Makefile").read_text()
    (rule,), (names,) = (
        re.findall(r"^demo:.*\n((?:\t.+\n)+)", makefile, re.M),
        re.findall(r"^DEMO_RECIPES := (.+)", makefile, re.M),
    )
    (_, sweep, _, *options), build, show = (line.split() for line in rule.splitlines())
    two = [f"digits-lt/{name}" for name in names.split()[:2]]
    trained = typed(sweep, *two, *SHORT, *options, "--seeds", "0,1")
    assert trained.code == 0
    assert trained.lines[0].startswith("4 runs, 0 already done, 4 to train, ")
    results = [line for line in trained.lines if re.search(r": top-1 \d+\.\d\d %, demo/records/.*\.json$", line)]
    titles = [f"{name} digits-demo seed {seed}" for seed in (0, 1) for name in two]
    assert [line.split(":")[0] for line in results] == titles
    assert re.fullmatch(r"3 of 4, about .+, until .+", [line for line in trained.lines if "of 4" in line][-1])
    assert re.match(r"4 trained, 0 already done, 0 failed in .*; the tables: lt-bench leaderboard ", trained.lines[-1])
    told = typed(*build[1:])
    assert (told.code, Path("demo/leaderboard/README.md").is_file()) == (0, True)
    assert told.words.startswith("demo/leaderboard/README.md: the board, 4 files from the records in demo/records")
    the_tables(typed(*show[1:]))
    compared(typed("compare", *two, "--records", "demo/records"), *two)


def the_tables(shown: Said) -> None:
    assert shown.code == 0
    assert shown.lines[0].strip() == "digits-lt, factor 4: digits-demo (modified)"
    assert shown.lines[1].split() == ["Rank", "Method", "n", "Top-1", "↑"]
    assert len(re.findall(r"\b2 +\d+\.\d\d ± \d+\.\d\d", "\n".join(shown.lines))) == 2
    assert "Left out for a width of 80: Few ↑, " in shown.words
    assert max(map(len, shown.lines)) <= WIDTH


def compared(shown: Said, *methods: str) -> None:
    assert shown.code == 0
    assert re.match(r"digits-lt-if4-digits-demo-modified-\w+, seeds 0, 1$", shown.lines[0])
    assert re.search(r"top1 ↑ +\d+\.\d\d +\d+\.\d\d +[+-]\d+\.\d\d", "\n".join(shown.lines))
    assert all(name.partition("/")[2] + " (protocol" in shown.words for name in methods)


def broken_off_and_taken_up_again() -> None:
    """A run with its bar: Ctrl-C in the middle, then the same command."""
    cut = typed(*LONG, interrupt_at=rf"epoch ([2-9]|\d\d+)/{EPOCHS} .* left ")
    assert cut.code == 130
    assert cut.lines[-1] == "lt-bench: interrupted; the same command goes on from the last finished epoch"
    assert re.match(r"digits-lt/ce digits-demo seed 0: .*, \d+ threads?, \w+", cut.lines[0])
    assert [*cut.lines[1:-1]] == cut.bars
    assert not list(Path().rglob("results/**/seed*.json"))
    finished = len(only(Path("runs"), "log.jsonl").read_text().splitlines())
    only(Path("runs"), "checkpoint.pt")

    again = typed(*LONG)
    assert again.code == 0
    goes_on = re.fullmatch(
        rf"digits-lt/ce digits-demo seed 0: .*, goes on after epoch (\d+) of {EPOCHS}", again.lines[0]
    )
    assert goes_on
    assert finished <= int(goes_on[1]) <= finished + 1  # a checkpoint is written before the line of the log
    drawn = [int(number) for number in re.findall(rf"epoch (\d+)/{EPOCHS} ", "\n".join(again.bars))]
    assert int(goes_on[1]) < drawn[0] < drawn[-1] == EPOCHS
    assert any(re.search(r"\d images/s [\d.]+ s left loss \d", bar) for bar in again.bars)
    assert re.search(r"\d images/s [\d.]+ s loss \d\.\d{4} top-1 \d+\.\d\d %$", again.bars[-1].rstrip())
    assert re.fullmatch(
        r"digits-lt/ce digits-demo seed 0: top-1 \d+\.\d\d %, results/records/.*\.json", again.lines[-1]
    )
    assert record(Path("results")).timing.resumed == 1
    assert not list(Path("runs").rglob("checkpoint.pt"))


def its_weights_evaluated() -> None:
    told = typed("evaluate", only(Path("runs"), "weights.safetensors"), "--device", "cpu")
    assert told.code == 0
    assert re.match(r"digits-lt/ce seed 0: .*, \d+ threads?, \w+", told.lines[0])
    assert re.match(r"test images ━+ \d+ images/s [\d.]+ s +$", told.bars[-1])
    assert re.search(r"digits-lt/ce seed 0: 600 test images in [\d.]+ s, [\d,]+ images/s ", told.words)
    assert re.search(r"top1 ↑ +\d+\.\d\d", told.words)
    assert max(map(len, told.lines)) <= WIDTH


def two_at_once() -> None:
    """A table of what goes on, with a row for all."""
    # As many epochs as leave something of the estimate when both have begun.
    longer = (*SHORT, "protocol.epochs=20", "protocol.evaluate_every=20")
    swept = typed("sweep", "digits-lt/ce", "digits-lt/mixup", *longer, "--seeds", "0", "--jobs", "2")
    assert swept.code == 0
    assert swept.lines[0].startswith("2 runs, 0 already done, 2 to train, about ")
    for name in ("ce", "mixup"):
        rows = [bar for bar in swept.bars if bar.startswith(f"digits-lt/{name} digits-demo seed 0 ")]
        assert re.search(r"[━╸╺] (begins|\d+/20) ", rows[-1])
    whole = [bar for bar in swept.bars if bar.startswith("all runs ")]
    assert any(re.search(r"━ 0/2 +[\d.]+ s left", bar) for bar in whole)
    assert whole[-1].rstrip().endswith("━ 2/2")
    assert max(map(len, swept.bars)) == WIDTH
    assert not [line for line in swept.lines if "epoch" in line]
    assert len(re.findall(r"top-1 \d+\.\d\d %, results/records/", swept.words)) == 2
    assert re.match(r"2 trained, 0 already done, 0 failed in .* lt-bench leaderboard show$", swept.lines[-1])


def a_component_of_ones_own() -> None:
    """The command that `new` prints, as it is but for the time that it takes."""
    written = typed("new", "mix", "tail-mix")
    assert written.code == 0
    assert written.lines[:2] == ["tail_mix.py: the mix", "tail-mix.yaml: a recipe with it, for any setting"]
    program, *words = written.lines[2].split()
    assert (program, words) == ("lt-bench", ["run", "digits-lt/tail-mix", "--plugin", "tail_mix.py"])
    trained = typed(*words, *SHORT)
    assert trained.code == 0
    assert re.match(r"digits-lt/tail-mix digits-demo seed 0: top-1 \d+\.\d\d %, results/records/", trained.lines[-1])
