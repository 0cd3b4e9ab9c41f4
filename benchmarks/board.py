"""What the board costs to be made of many records, page and all: the committed ones again, under further seeds.

python benchmarks/board.py --records 10000
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

from lt_bench.data.cards import load_card
from lt_bench.identity import first_stage_sha256, run_identity, split_sha256
from lt_bench.leaderboard import Record, load_records
from lt_bench.leaderboard.board import PAGE, render
from lt_bench.leaderboard.record import record_folder, to_json
from lt_bench.leaderboard.schema import SCHEMA_VERSION
from lt_bench.leaderboard.seal import sealed

SHIPPED = Path(__file__).parents[1] / "leaderboard" / "v1" / "records"
SEEDS_APART = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), arguments.records)
        made = [timed(Path(folder)) for _ in range(arguments.times)]
    seconds, megabytes = [one[0] for one in made], made[0][1] / 1e6
    print(f"{arguments.records} records: {min(seconds):.2f} s of the processor, at most {max(seconds):.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux
    print(f"page {megabytes:.2f} MB; at most {peak:.0f} MB of memory, writing the records included")


def write(folder: Path, number: int) -> None:
    """So many records that can be believed, with their side files."""
    for record, side in islice(copies(), number):
        home = folder / record_folder(record)
        home.mkdir(parents=True, exist_ok=True)
        assert record.predictions is not None
        (home / record.predictions.file).write_bytes(side)
        (home / record.predictions.file).with_suffix(".json").write_text(sealed(to_json(record)))


def copies() -> Iterator[tuple[Record, bytes]]:
    shipped = load_records(SHIPPED)
    for round_ in count():
        for path, record in shipped:
            assert record.predictions is not None
            side = path.with_name(record.predictions.file).read_bytes()
            yield under_another_seed(record, record.seed + SEEDS_APART * round_, path.suffixes[0]), side


def under_another_seed(record: Record, seed: int, revision: str) -> Record:
    """What the run would be called with that seed."""
    data, card = record.dataset, load_card(record.dataset.name)
    facts = [data.index_sha256, data.content_sha256, None, None, data.test_sha256, card.version, card.mean, card.std]
    split = split_sha256([*facts, card.flip])
    identity = run_identity(record.recipe_sha256, split, seed)
    assert record.predictions is not None
    name = f"seed{seed}-{identity[:12]}{'' if revision == '.json' else revision}.npz"
    changed: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "sha256": None, "identity": identity, "seed": seed}
    changed["predictions"] = record.predictions.model_copy(update={"file": name})
    if record.first_stage is not None:
        first = run_identity(first_stage_sha256(record.recipe), split, seed)
        changed["first_stage"] = record.first_stage.model_copy(update={"identity": first})
    return record.model_copy(update=changed)


def timed(folder: Path) -> tuple[float, int]:
    """Seconds of the processor, and bytes of the page."""
    start = time.process_time()
    files = render(folder)
    return time.process_time() - start, len(files[PAGE])


if __name__ == "__main__":
    main()
