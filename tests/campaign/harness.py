"""What all parts of the campaign share: cases drawn from a seed, verdicts, and the table of results."""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END = "<!-- written by make campaign -->\n", "<!-- end -->\n"
SHOWN = 3
"""Faults of a kind that are shown one by one."""
LONGEST_LINE = 1000
"""Characters that a complaint may have, names of folders included."""


@dataclass(frozen=True)
class Verdict:
    """How one case ended. Without a fault it was either survived or, which is as good, refused in a line."""

    case: int
    title: str
    """What was tried, in a few words."""
    refused: bool = False
    fault: str = ""
    how: str = ""
    """What exactly was done, for whoever repeats it."""


@dataclass
class Result:
    """One row of the table."""

    part: str
    seed: int
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Figures that are more than a count."""
    seconds: float = 0.0

    @property
    def faults(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.fault]

    @property
    def row(self) -> dict[str, str]:
        refused = sum(verdict.refused and not verdict.fault for verdict in self.verdicts)
        return {
            "Part": self.part,
            "Tried": str(len(self.verdicts)),
            "Survived": str(len(self.verdicts) - refused - len(self.faults)),
            "Refused in a line": str(refused),
            "Faults": str(len(self.faults)),
            "Seed": str(self.seed),
            "Minutes": f"{self.seconds / 60:.1f}",
            "Notes": "; ".join(self.notes),
        }


@dataclass(frozen=True)
class Trial:
    """What a part gets: which cases, from which seed, and a folder of its own to work in."""

    part: str
    seed: int
    cases: range
    scratch: Path
    notes: list[str]
    """A part may say here what it measured, or what it had to leave out and why."""

    def rng(self, case: int) -> random.Random:
        """All that is random in a case, whatever ran before it."""
        return random.Random(f"{self.seed}/{self.part}/{case}")


Part = Callable[[Trial], Iterator[Verdict]]


def conduct(part: Part, trial: Trial) -> Result:
    """Run the cases of a part, showing the first faults of each kind at once."""
    result, start, shown = Result(trial.part, trial.seed, notes=trial.notes), time.monotonic(), Counter[str]()
    for verdict in part(trial):
        result.verdicts.append(verdict)
        shown[kind(verdict)] += bool(verdict.fault)
        if verdict.fault and shown[kind(verdict)] <= SHOWN:
            repeat = f"python tests/campaign {trial.part} --seed {trial.seed} --case {verdict.case}"
            print(f"FAULT {verdict.title}: {verdict.fault}\n      {verdict.how or 'again'}: {repeat}", flush=True)
        if len(result.verdicts) % 500 == 0:
            print(f"{trial.part}: {len(result.verdicts)} cases", file=sys.stderr, flush=True)
    result.seconds = time.monotonic() - start
    return result


def kind(verdict: Verdict) -> str:
    """The same for faults that differ only in numbers, names, or what stands in brackets."""
    return re.sub(r"'[^']*'|\S*/\S*|\d+| \(.*", "…", f"{verdict.title}: {verdict.fault}")[:200]


def kinds(result: Result) -> list[str]:
    counted = Counter(map(kind, result.faults))
    return [f"{count} x {text}" for text, count in counted.most_common()]


def table(rows: list[dict[str, str]]) -> list[str]:
    """Markdown lines."""
    titles = list(rows[0])
    lines = [titles, ["--:" if title not in ("Part", "Notes") else ":--" for title in titles]]
    return [f"| {' | '.join(cells)} |" for cells in [*lines, *(list(row.values()) for row in rows)]]


def into_page(page: Path, results: list[Result], order: list[str], run: str) -> None:
    """Replace the rows of these parts in the page's table; those of other parts stay as an earlier run wrote them."""
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    old, _, tail = rest.partition(END)
    new = {result.part: result.row | {"Run": run} for result in results}
    rows = {line.split("|")[1].strip(): line for line in old.splitlines()}
    rows |= {part: table([row])[2] for part, row in new.items()}
    lines = [*table(list(new.values()))[:2], *(rows[part] for part in order if part in rows)]
    page.write_text(f"{head}{BEGIN}" + "\n".join(lines) + f"\n{END}{tail}", encoding="utf-8")
